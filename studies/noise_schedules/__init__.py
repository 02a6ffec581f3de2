"""Study: noise schedules.

    python -m studies.noise_schedules                    # 40 epochs of each schedule, for hours
    python -m studies.noise_schedules --minutes 90       # the same in proportion

The small CNN of a published study on MNIST, trained once with each schedule from the same first
weights, on the same images, with Adam 2e-4, eps-prediction and no averaging of weights.
"""

import dataclasses

from keras_diffusion.cli.parsing import within
from studies import command

TITLE = "Noise schedules on MNIST"
QUESTION = (
    "Does it matter how noise is added? A published study trained a small CNN on MNIST with four "
    "noise schedules and found the cosine schedule best, and that constant and inverse linear "
    "betas leave noisy backgrounds although their loss is lower. Here the same network is "
    "trained with those four and a sigmoid, and every claim is held against what was measured."
)
PUBLISHED = ("cosine", "linear", "constant", "inverse_linear")  # what its claims are about
SCHEDULES = (*PUBLISHED, "sigmoid")
NUM_TIMESTEPS = 1000
PUBLISHED_STEP = 906  # from which its x_t passes for noise, with the cosine schedule


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides the results.

    A training is cut into `parts`, after each of which pictures are drawn and scored, and a
    part into `rounds`, after each of which the loss is noted. In 40 epochs a round is an epoch.

    Attributes:
        schedules: in the order of the tables.
        epochs: of each training; None: given in minutes.
        minutes: for the whole study, about; a pace is measured, and all schedules get the same
            number of steps.
        seed: of weights, order of the images, noise and pictures.
        dataset: "mnist", or "digits" for a toy run.
        widths: channels of the CNN.
        batch_size, learning_rate: of Adam.
        parts, rounds: see above.
        shown: the parts whose pictures the grids show.
        curve_pictures: scored after each part, drawn in `curve_steps` of dpmpp_2m.
        final_pictures: the same, after the last.
        chain_pictures: drawn as the study drew, in a chain of `chain_steps`.
        validation: images after each round; the last value is over ten times as many.
        tests: Kolmogorov-Smirnov tests of each step that is tested.
        test_every: steps from one to the next of them.
        sizes: numbers of pixels in a test.
    """

    schedules: tuple = SCHEDULES
    epochs: int | None = 40
    minutes: float | None = None
    seed: int = 0
    dataset: str = "mnist"
    widths: tuple = (16, 32, 32, 16)
    batch_size: int = 128
    learning_rate: float = 2e-4
    parts: int = 8
    rounds: int = 5
    shown: tuple = (1, 2, 4, 6, 8)
    curve_pictures: int = 256
    curve_steps: int = 20
    final_pictures: int = 1000
    chain_pictures: int = 128  # twice the features of the classifier: fewer decide nothing
    chain_steps: int = NUM_TIMESTEPS
    validation: int = 256
    tests: int = 5
    test_every: int = 1
    sizes: tuple = (100, 1000, 10_000, 100_000)


TINY = {
    "schedules": ("cosine", "constant"),
    "epochs": 2,
    "dataset": "digits",
    "widths": (4, 4),
    "parts": 2,
    "rounds": 1,
    "shown": (1, 2),
    "curve_pictures": 16,
    "curve_steps": 2,
    "final_pictures": 32,
    "chain_pictures": 4,
    "chain_steps": 10,
    "validation": 16,
    "tests": 1,
    "test_every": 50,
    "sizes": (100,),
}


def add_flags(flags):
    """Adds the flags of this study."""
    flags.add_argument("--schedules", nargs="+", choices=SCHEDULES, help="default: all of them")
    flags.add_argument(
        "--pictures", type=within(4, 10_000), metavar="N",
        help="how many are drawn as the study drew, in 1000 steps (128)",
    )  # fmt: skip


def settings(given):
    """Returns the `Settings` that the command line asks for."""
    options = command.options(given, TINY)
    if given.schedules:
        options["schedules"] = tuple(dict.fromkeys(given.schedules))
    if given.pictures:
        options["chain_pictures"] = given.pictures
    return Settings(**options)
