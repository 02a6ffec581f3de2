"""Study: diffusion in latents compared with diffusion in pixels.

    python -m studies.latents                # two trainings of 60 minutes on CIFAR-10
    python -m studies.latents --minutes 10   # shorter ones
    python -m studies.latents --dataset oxford_flowers102

The trainings are those of `python train.py --dataset cifar10` with and without `--latent`, with
their presets; the scores are those of `evaluate.py`.
"""

import dataclasses

from keras_diffusion.cli.parsing import within

KINDS = ("pixels", "latents")
MIN_PSNR = 24.0  # dB, of the reconstruction of held-out images
FIRST_EPOCHS = 5  # of the published training
MINUTES_HELP = "of each of the two trainings, instead of epochs (60)"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that decides the results."""

    dataset: str = "cifar10"  # a data set of `train.py` with classes
    minutes: float | None = 60.0  # of each training, including the autoencoder and the encoding
    epochs: int | None = None  # of each training instead, without the autoencoder
    guidance: tuple = (1.0, 2.0, 3.0, 4.0, 5.0)  # scales
    pictures: int = 1000  # images that are scored at each scale
    seed: int = 0  # of weights, order of the images, noise and labels
    options: dict = dataclasses.field(default_factory=dict)  # of `Config`, besides the presets
    latent_options: dict = dataclasses.field(default_factory=dict)  # for latents alone


TINY = {
    "dataset": "digits", "minutes": None, "epochs": 2, "guidance": (1.0, 3.0), "pictures": 40,
    "options": {"limit": 64, "widths": (8,), "attention": (False,), "embedding_width": 16,
                "batch_size": 32, "num_steps": 2},
    "latent_options": {"codec_widths": (8,), "latent_channels": 2, "codec_epochs": 1},
}  # fmt: skip


def add_flags(flags):
    """Adds the flags of this study."""
    flags.add_argument("--dataset", help="another data set of train.py, with classes")
    flags.add_argument(
        "--pictures", type=within(20, 50_000), metavar="N",
        help="images that are scored at each guidance scale (1000)",
    )  # fmt: skip
