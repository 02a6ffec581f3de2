"""Study: the MNIST benchmark.

    python -m studies.mnist_benchmark                 # ten minutes of training for each
    python -m studies.mnist_benchmark --minutes 60
    python -m studies.mnist_benchmark --epochs 100    # as published; our default as many minutes

A published configuration, built of our parts, and our preset for MNIST, after equal minutes of
training on the same machine; and what a step of sampling costs.
"""

import dataclasses

from studies import command

TITLE = "The MNIST benchmark"
QUESTION = (
    "How good are digits after some minutes of training? A published configuration (U-Net of "
    "dim 32 and multipliers 1-2-5, eps-prediction, linear betas, learning rate 4e-4, 250 steps) "
    "beside our preset, trained for equal minutes through `model.fit`; and what each step of "
    "sampling costs, in one compiled loop and one call at a time."
)
MINUTES_HELP = "of training, for each configuration (10)"
NAMES = ("published", "default")
# U-Net dim 32, multipliers 1-2-5, two blocks a level: 3.39 M parameters, the original has 3.43 M.
# AdamW without decay and with beta_2 = 0.99 is its Adam; gradients are clipped to norm 1.
PUBLISHED = {
    "dataset": "mnist",
    "unconditional": True,
    "widths": (32, 64, 160),
    "block_depth": 2,
    "schedule": "linear",
    "prediction_type": "eps",
    "ema_decay": 0.995,
    "batch_size": 128,
    "learning_rate": 4e-4,
    "weight_decay": 0.0,
    "sampler": "ddim",
    "num_steps": 250,
}
PUBLISHED_SECONDS = {"epoch": 450.0, "sample": 0.5}  # as quoted, on a machine that is not named
TOY = {"dataset": "digits", "widths": (8,), "block_depth": 1, "embedding_width": 16, "num_steps": 2}


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides the results.

    Attributes:
        minutes: of training, for each; None: of `epochs`.
        epochs: of the published configuration; ours gets the minutes that they took.
        seed: of weights, order of the images, noise and pictures.
        parts: of a training; after each, pictures are drawn and scored.
        rounds_per_epoch: notes of the loss.
        validation: images after each round.
        pictures: in each set that is scored.
        curve_steps: of dpmpp_2m, for the pictures on the way, of both.
        loop_steps: numbers of steps that are timed.
        loop_pictures: drawn at once for that.
        toy: tiny networks on 8x8 digits.
    """

    minutes: float | None = 10.0
    epochs: int | None = None
    seed: int = 0
    parts: int = 8
    rounds_per_epoch: int = 10
    validation: int = 512
    pictures: int = 250
    curve_steps: int = 20
    loop_steps: tuple = (1, 5, 20, 50, 250, 1000)
    loop_pictures: int = 16
    toy: bool = False


TINY = {
    "minutes": 0.02,
    "parts": 2,
    "rounds_per_epoch": 1,
    "validation": 16,
    "pictures": 100,
    "curve_steps": 2,
    "loop_steps": (1, 3),
    "loop_pictures": 2,
    "toy": True,
}


def add_flags(flags):
    """This study has no flags of its own."""


def settings(given):
    """Returns the `Settings` that the command line asks for."""
    return Settings(**command.options(given, TINY))
