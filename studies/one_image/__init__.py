"""Study: one picture.

    python -m studies.one_image                      # trainings of 3 and of 10 minutes
    python -m studies.one_image --epochs 300         # one training of 300 epochs instead
    python -m studies.one_image --image photo.jpg

The trainings are those of `python train.py --image`, with its preset.
"""

import dataclasses
import hashlib

TITLE = "One picture"
QUESTION = (
    "Can a diffusion model learn a single photograph on a CPU, while one waits? Published "
    "experience with random crops and a network of convolutions alone: 300 epochs in under an "
    "hour and 1000 in two, and a picture that can be identified but is not clear. Here one picture "
    "is learned in minutes. It is noised to several levels and reconstructed from there, and new "
    "pictures are drawn, of its own size and of another."
)
MINUTES = (3.0, 10.0)  # of the two trainings
IDENTIFIABLE = 24.0  # dB, PSNR of the reconstruction from t = 0.5
CLEAR = 0.8  # SSIM of the same


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides the results.

    Attributes:
        image: a file, or "flower" or "china".
        minutes: of the trainings, short ones first.
        epochs: None, or the length of one training instead.
        seed: of weights, crops and noise.
        options: of `keras_diffusion.config.options.Config`, beside its preset.
    """

    image: str = "flower"
    minutes: tuple = MINUTES
    epochs: int | None = None
    seed: int = 0
    options: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class FileSettings(Settings):
    """The same for a picture of the user's: its name may come to stand for another picture.

    Attributes:
        sha256: of the pixels.
    """

    sha256: str = ""


TINY = {
    "image_size": (32, 48),
    "crop_size": (16, 16),
    "limit": 16,
    "widths": (8, 16),
    "attention": (False, False),
    "embedding_width": 16,
    "batch_size": 8,
    "num_steps": 2,
}


def add_flags(flags):
    """Adds the flags of this study."""
    flags.add_argument("--image", metavar="FILE", help="another picture than the flower")


def settings(given):
    """Returns the `Settings` that the command line asks for."""
    from keras_diffusion.data import single_image

    options = {"image": given.image or "flower", "seed": given.seed}
    if given.tiny:
        options.update(options=TINY, minutes=(), epochs=2)
    if given.epochs:
        options.update(minutes=(), epochs=given.epochs)
    if given.minutes:
        shares = [minutes / sum(MINUTES) for minutes in MINUTES]
        options.update(minutes=tuple(given.minutes * share for share in shares), epochs=None)
    if options["image"] in single_image.BUNDLED:
        return Settings(**options)
    pixels = single_image.read(options["image"])
    return FileSettings(**options, sha256=hashlib.sha256(pixels.tobytes()).hexdigest())
