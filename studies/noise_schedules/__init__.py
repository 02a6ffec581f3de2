"""Study: noise schedules.

    python -m studies.noise_schedules                    # 40 epochs of each schedule: hours
    python -m studies.noise_schedules --minutes 90       # the same in proportion

The small CNN of a published study on MNIST, trained once with each schedule from the same initial
weights, on the same images, with Adam 2e-4, eps-prediction and no EMA.
"""

import dataclasses

from keras_diffusion.cli.parsing import within

PUBLISHED = ("cosine", "linear", "constant", "inverse_linear")  # schedules of the claims
SCHEDULES = (*PUBLISHED, "sigmoid")
NUM_TIMESTEPS = 1000
PUBLISHED_STEP = 906  # from which its x_t passes as noise, with the cosine schedule


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that decides the results.

    A training has `parts`, after each of which images are generated and scored, and a part has
    `rounds`, after each of which the loss is recorded. With 40 epochs a round is an epoch.
    """

    schedules: tuple = SCHEDULES  # in the order of the tables
    epochs: int | None = 40  # of each training; None: given in minutes
    minutes: float | None = None  # for the whole study, approximately; equal steps for all
    seed: int = 0  # of weights, order of the images, noise and samples
    dataset: str = "mnist"  # or "digits" for a toy run
    widths: tuple = (16, 32, 32, 16)  # channels of the CNN
    batch_size: int = 128
    learning_rate: float = 2e-4  # of Adam
    parts: int = 8
    rounds: int = 5
    shown: tuple = (1, 2, 4, 6, 8)  # parts whose images are shown
    curve_pictures: int = 256  # images scored after each part
    curve_steps: int = 20  # of dpmpp_2m, for these images
    final_pictures: int = 1000  # images scored after the last part
    chain_pictures: int = 128  # twice the classifier's features, the minimum for a distance
    chain_steps: int = NUM_TIMESTEPS  # of the published study's sampling, for these images
    validation: int = 256  # images after each round; the final value uses ten times as many
    tests: int = 5  # Kolmogorov-Smirnov tests of each step that is tested
    test_every: int = 1  # distance of the steps that are tested
    sizes: tuple = (100, 1000, 10_000, 100_000)  # numbers of pixels in a test


TINY = {
    "schedules": ("cosine", "constant"), "epochs": 2, "dataset": "digits", "widths": (4, 4),
    "parts": 2, "rounds": 1, "shown": (1, 2), "curve_pictures": 16, "curve_steps": 2,
    "final_pictures": 32, "chain_pictures": 4, "chain_steps": 10, "validation": 16, "tests": 1,
    "test_every": 50, "sizes": (100,),
}  # fmt: skip


def add_flags(flags):
    """Adds the flags of this study."""
    flags.add_argument("--schedules", nargs="+", choices=SCHEDULES, help="default: all of them")
    flags.add_argument(
        "--chain-pictures", "--pictures", type=within(4, 10_000), metavar="N",
        help="images sampled as in the published study, in 1000 steps (128)",
    )  # fmt: skip
