"""Study: Cold Diffusion by morphing.

    python -m studies.morphing                 # three trainings of 20 short epochs
    python -m studies.morphing --minutes 120   # the same, longer

A ConvNeXt U-Net learns to take mixtures of a digit and a garment apart, once with each of two
noise schedules, and once, for comparison, mixtures of a digit and Gaussian noise.

    pictures.py      digits and garments, as arrays and as batches
    pace.py          how long the trainings are
    training.py      a training in parts, scored on the way
    sampling.py      from any x to a picture: two updates, two grids
    restoration.py   mixtures taken apart again, from every t
    starts.py        garments with noise, averages of garments, garments that never were
    limits.py        how many different digits come out of them, and which
"""

import dataclasses

from studies import command

TITLE = "Cold Diffusion by morphing: garments become digits"
QUESTION = (
    "Diffusion without noise: the forward process mixes a digit of MNIST with a random garment of "
    "Fashion-MNIST, x_t = signal_rate digit + noise_rate garment; a network learns to tell the "
    "digit from the mixture; sampling begins with a garment that holds no digit at all. Do digits "
    "come out? With which schedule, in which steps, and by which of the two updates of Cold "
    "Diffusion ([Bansal et al. 2022](https://arxiv.org/abs/2208.09392), algorithm 2): does it keep "
    "subtracting the garment it knows (held), or what the network takes for the garment "
    "(re-estimated, which is DDIM)? A study that drew better digits in this way than with a "
    "smaller network and noise had changed both: was it the morphing, or the U-Net? "
    "And how many different digits can come out of a set of garments?"
)
SCHEDULES = ("linear", "cosine")


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides the results.

    Attributes:
        epochs: of each of the three trainings; an epoch is `epoch_steps` batches here, a tenth
            of MNIST, drawn from all of it. None: given in minutes.
        minutes: for the whole study, about; a pace is measured.
        part: epochs between two scores.
        seed: of weights, order of the images, and starting points.
        dataset: "mnist", or "digits" for a toy run.
        widths: channels of each level of the U-Net.
        expansion: see `convnext_unet`; 2 sees half as many images in the same time.
        batch_size, learning_rate: of AdamW; the learning rate is warmed up and falls to nothing.
        pictures: in what is scored.
        curve_steps: of sampling on the way.
        num_steps: of sampling afterwards.
        few_steps: of sampling, to be compared with that.
        restored: digits that are restored from every t, in `restore_steps`.
        noisy: starting points with noise at each strength, of a tenth as many garments.
        fitted: garments that the mixture of Gaussians is fitted to.
        components, dimensions: of the mixture.
    """

    epochs: int | None = 20
    minutes: float | None = None
    part: int = 5
    seed: int = 0
    dataset: str = "mnist"
    widths: tuple = (32, 64, 128)
    expansion: int = 1
    epoch_steps: int = 48
    batch_size: int = 128
    learning_rate: float = 2e-3
    pictures: int = 1000
    curve_steps: int = 10
    num_steps: int = 20
    few_steps: int = 5
    restored: int = 200
    restore_steps: int = 10
    noisy: int = 500
    fitted: int = 20_000
    components: int = 20
    dimensions: int = 100


TINY = {
    "epochs": 2,
    "part": 1,
    "dataset": "digits",
    "widths": (8,),
    "epoch_steps": 2,
    "batch_size": 16,
    "pictures": 40,
    "curve_steps": 2,
    "num_steps": 3,
    "few_steps": 2,
    "restored": 12,
    "restore_steps": 2,
    "noisy": 20,
    "fitted": 100,
    "components": 2,
    "dimensions": 4,
}


def add_flags(flags):
    """This study takes what all studies take."""


def settings(given):
    """Returns the `Settings` that the command line asks for."""
    return Settings(**command.options(given, TINY))
