"""Study: latents beside pixels.

    python -m studies.latents                # two trainings of 60 minutes on CIFAR-10
    python -m studies.latents --minutes 10   # shorter ones
    python -m studies.latents --dataset oxford_flowers102

The trainings are those of `python train.py --dataset cifar10` with and without `--latent`, with
their presets; the scores are those of `evaluate.py`.
"""

import dataclasses

from keras_diffusion.cli.parsing import within
from studies import command

TITLE = "Latents beside pixels"
QUESTION = (
    "Diffusion on latents: an autoencoder makes images small first, and diffusion happens there "
    "([Rombach et al. 2022](https://arxiv.org/abs/2112.10752)). That saves work in each step and "
    "costs a training of its own, and details. Do latents pay on a CPU, for pictures as small as "
    "those of CIFAR-10? Both models get the same minutes, and the autoencoder is trained within "
    "those of the latents. Published work on CIFAR-10 stopped after five epochs, with losses that "
    "still fell; here it goes on, and the pictures are scored at every guidance scale."
)
KINDS = ("pixels", "latents")
LEAST_PSNR = 24.0  # dB, of held-out images that come back from their latents
FIRST_EPOCHS = 5  # of the published training
MINUTES_HELP = "of each of the two trainings instead (60)"


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides the results.

    Attributes:
        dataset: a name that `train.py` takes, of data with classes.
        minutes: of each training; for latents with the autoencoder's, and with the encoding.
        epochs: None, or the length of each training instead; the autoencoder's comes on top.
        guidance: scales to draw at.
        pictures: scored at each of them.
        seed: of weights, order of the images, noise and labels.
        options: of `keras_diffusion.config.options.Config`, beside the presets.
        latent_options: the same, for the training on latents alone.
    """

    dataset: str = "cifar10"
    minutes: float | None = 60.0
    epochs: int | None = None
    guidance: tuple = (1.0, 2.0, 3.0, 4.0, 5.0)
    pictures: int = 1000
    seed: int = 0
    options: dict = dataclasses.field(default_factory=dict)
    latent_options: dict = dataclasses.field(default_factory=dict)


TINY = {
    "dataset": "digits",
    "minutes": None,
    "epochs": 2,
    "guidance": (1.0, 3.0),
    "pictures": 40,
    "options": {
        "limit": 64,
        "widths": (8,),
        "attention": (False,),
        "embedding_width": 16,
        "batch_size": 32,
        "num_steps": 2,
    },
    "latent_options": {"codec_widths": (8,), "latent_channels": 2, "codec_epochs": 1},
}


def add_flags(flags):
    """Adds the flags of this study."""
    flags.add_argument("--dataset", help="another one that train.py takes, with classes")
    flags.add_argument(
        "--pictures", type=within(20, 50_000), metavar="N",
        help="how many are scored at each guidance scale (1000)",
    )  # fmt: skip


def settings(given):
    """Returns the `Settings` that the command line asks for."""
    options = command.options(given, TINY)
    for name in ("dataset", "pictures"):
        if getattr(given, name):
            options[name] = getattr(given, name)
    return Settings(**options)
