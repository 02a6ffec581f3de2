"""Study: the MNIST benchmark.

    python -m studies.mnist_benchmark                 # ten minutes of training for each
    python -m studies.mnist_benchmark --minutes 60
    python -m studies.mnist_benchmark --epochs 100    # as published; our default as many minutes

A published configuration, built from the parts of this package, and our preset for MNIST, after
equal minutes of training on the same machine; and the cost of a sampling step.
"""

import dataclasses

MINUTES_HELP = "of training, for each configuration (10)"
NAMES = ("published", "default")
# U-Net dim 32, multipliers 1-2-5, two blocks a level: 3.39 M parameters, the original has 3.43 M.
# AdamW without decay and with beta_2 = 0.99 is its Adam; gradients are clipped to norm 1.
PUBLISHED = {
    "dataset": "mnist", "unconditional": True, "widths": (32, 64, 160), "block_depth": 2,
    "schedule": "linear", "prediction_type": "eps", "ema_decay": 0.995, "batch_size": 128,
    "optimizer": "adamw", "learning_rate": 4e-4, "weight_decay": 0.0, "sampler": "ddim",
    "num_steps": 250,
}  # fmt: skip
PUBLISHED_SECONDS = {"epoch": 450.0, "sample": 0.5}  # as quoted, on an unnamed machine
TOY = {"dataset": "digits", "widths": (8,), "block_depth": 1, "embedding_width": 16, "num_steps": 2}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that decides the results."""

    minutes: float | None = 10.0  # of training, for each; None: given by `epochs`
    epochs: int | None = None  # of the published configuration; our preset gets as many minutes
    seed: int = 0  # of weights, order of the images, noise and samples
    parts: int = 8  # of a training; images are generated and scored after each
    rounds_per_epoch: int = 10  # how often the loss is recorded
    validation: int = 512  # images after each round
    pictures: int = 250  # images in each set that is scored
    curve_steps: int = 20  # of dpmpp_2m, for the images after each part, of both
    loop_steps: tuple = (1, 5, 20, 50, 250, 1000)  # numbers of steps that are timed
    loop_pictures: int = 16  # images generated at once for that
    toy: bool = False  # tiny networks on 8x8 digits


TINY = {
    "minutes": 0.02, "parts": 2, "rounds_per_epoch": 1, "validation": 16, "pictures": 100,
    "curve_steps": 2, "loop_steps": (1, 3), "loop_pictures": 2, "toy": True,
}  # fmt: skip
