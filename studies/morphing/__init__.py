"""Study: Cold Diffusion by morphing.

    python -m studies.morphing                 # three trainings of 20 short epochs
    python -m studies.morphing --minutes 120   # the same, longer

A ConvNeXt U-Net learns to separate mixtures of a digit and a garment, once with each of two noise
schedules, and once, for comparison, mixtures of a digit and Gaussian noise.

    data.py          digits and garments, as arrays and in batches
    training.py      a training in parts, with scores, and its length
    sampling.py      from any x_t to an image: two updates, two grids
    restoration.py   restoration of mixtures from every t
    starts.py        garments with noise, averages of garments, generated garments
    limits.py        how many different digits they give, and which
"""

import dataclasses

SCHEDULES = ("linear", "cosine")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that decides the results.

    An epoch is `epoch_steps` batches here, a tenth of MNIST, sampled from all of it.
    """

    epochs: int | None = 20  # of each of the three trainings; None: given in minutes
    minutes: float | None = None  # for the whole study, approximately; the pace is measured
    part: int = 5  # epochs between two scores
    seed: int = 0  # of weights, order of the images, and starting points
    dataset: str = "mnist"  # or "digits" for a toy run
    widths: tuple = (32, 64, 128)  # channels of each level of the U-Net
    expansion: int = 1  # of `convnext_unet`; 2 processes half as many images in the same time
    epoch_steps: int = 48
    batch_size: int = 128
    learning_rate: float = 2e-3  # of AdamW, with warm-up and cosine decay
    pictures: int = 1000  # images in a scored set
    curve_steps: int = 10  # of sampling during the training
    num_steps: int = 20  # of sampling afterwards
    few_steps: int = 5  # of sampling, for comparison with that
    restored: int = 200  # digits that are restored from every t
    restore_steps: int = 10  # of their restoration
    noisy: int = 500  # starting points with noise at each strength, from a tenth as many garments
    fitted: int = 20_000  # garments that the mixture of Gaussians is fitted to
    components: int = 20  # Gaussians of the mixture
    dimensions: int = 100  # principal components for the mixture


TINY = {
    "epochs": 2, "part": 1, "dataset": "digits", "widths": (8,), "epoch_steps": 2,
    "batch_size": 16, "pictures": 40, "curve_steps": 2, "num_steps": 3, "few_steps": 2,
    "restored": 12, "restore_steps": 2, "noisy": 20, "fitted": 100, "components": 2,
    "dimensions": 4,
}  # fmt: skip
