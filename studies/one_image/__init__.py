"""Study: a single image.

    python -m studies.one_image                      # trainings of 3 and of 10 minutes
    python -m studies.one_image --epochs 300         # one training of 300 epochs instead
    python -m studies.one_image --image photo.jpg

The trainings are those of `python train.py --image`, with its preset.
"""

import dataclasses

MINUTES = (3.0, 10.0)  # of the two trainings
IDENTIFIABLE = 24.0  # dB, PSNR of the reconstruction from t = 0.5
CLEAR = 0.8  # SSIM of the same


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that decides the results."""

    image: str = "flower"  # a file, or "flower" or "china"
    minutes: tuple = MINUTES  # of the trainings, the shortest first
    epochs: int | None = None  # of a single training instead
    seed: int = 0  # of weights, crops and noise
    options: dict = dataclasses.field(default_factory=dict)  # of `Config`, besides its preset


@dataclasses.dataclass(frozen=True)
class FileSettings(Settings):
    """The same for an image file, whose content may change."""

    sha256: str = ""  # first digits, of the pixels


TINY = {
    "minutes": (), "epochs": 2,
    "options": {"image_size": (32, 48), "crop_size": (16, 16), "limit": 16, "widths": (8, 16),
                "attention": (False, False), "embedding_width": 16, "batch_size": 8,
                "num_steps": 2},
}  # fmt: skip


def add_flags(flags):
    """Adds the flags of this study."""
    flags.add_argument("--image", metavar="FILE", help="another image than the flower")


def settings(args):
    """Returns the `Settings` for parsed arguments; --minutes are shared by the trainings."""
    from keras_diffusion.data import single_image
    from keras_diffusion.runtime.files import content_hash

    options = {**(TINY if args.tiny else {}), "image": args.image or "flower", "seed": args.seed}
    if args.epochs:
        options.update(minutes=(), epochs=args.epochs)
    if args.minutes:
        minutes = tuple(args.minutes * each / sum(MINUTES) for each in MINUTES)
        options.update(minutes=minutes, epochs=None)
    if options["image"] in single_image.BUNDLED:
        return Settings(**options)
    pixels = single_image.read(options["image"])
    return FileSettings(**options, sha256=content_hash(str(pixels.shape), pixels))
