"""Study: the applications of a trained model.

    python -m studies.applications                        # all of them, with the shipped models
    python -m studies.applications --only closed_form inpainting
    python -m studies.applications --xrays FOLDER         # where the chest X-rays are

A module for each application measures it, decides its claims and writes its part of the page;
`context.py` has the models and the data, `fills.py` masks and fills without a model, `examples.py`
tables of images. Applications that are not in `--only` are shown as far as they were measured
before with the same settings.
"""

import dataclasses

from keras_diffusion.cli.parsing import one_of, within
from keras_diffusion.config.fields import LARGEST_INT

APPLICATIONS = ("closed_form", "inpainting", "enlarging", "inversion", "translation", "frames",
                "medical", "texture", "speed")  # fmt: skip
MINUTES_HELP = "of each of the three trainings: clips, normal X-rays, X-rays of both classes"
XRAYS = "../shared/chest_xray"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that decides the results.

    The lengths of the trainings are `frames_minutes` and `xray_minutes`, unless `epochs` or
    `minutes` is given.
    """

    digits: str = "mnist"  # models, as `kd.load` takes them
    flowers: str = "oxford_flowers102"
    stand_ins: dict = dataclasses.field(default_factory=dict)  # {"digits" or "flowers": options of
    # `Config`}: models that are trained here instead, for a toy run
    epochs: int | None = None
    minutes: float | None = None
    seed: int = 0
    num_steps: int = 20  # of sampling, where nothing else is said
    cg_steps: int = 3  # of conjugate gradients, likewise
    truths: int = 32  # images of a prior in closed form that are restored
    samples: int = 128  # restorations of each
    images: int = 200  # held-out images that are filled, enlarged or translated
    cg_images: int = 100  # digits for the comparison of numbers of CG steps
    inverted: int = 64  # images that are inverted
    inversion_steps: tuple = (10, 25, 50, 100)
    translation_steps: int = 25  # of heun, up, and again down
    strengths: tuple = (0.3, 0.5, 0.7, 0.8, 0.9)  # of img2img
    guidance: tuple = (1.0, 2.0)  # scales, of translations
    pair: tuple = ("rose", "sunflower")  # classes of flowers, from and to
    clips: int = 64  # held-out clips
    frames_minutes: float = 10.0
    frames_options: dict = dataclasses.field(default_factory=dict)  # of `Config`
    toy_clips: bool = False  # of scikit-learn's digits instead of MNIST
    xray_minutes: float = 4.0  # of each of two trainings
    xray_options: dict = dataclasses.field(default_factory=dict)  # of `Config`
    xray_samples: int = 2000  # synthetic X-rays
    methods: tuple = ("gaussian", "coarse", "simplex", "inversion")  # of `anomaly_map`
    scores: tuple = ("mean",)  # of `anomaly_map`
    draws: int = 4  # of the noise of an anomaly map
    strokes: int = 100  # digits with a pasted stroke
    speed_steps: tuple = (10, 20, 50)
    speed_batch: int = 16


TOY = {"image_size": (16, 16), "widths": (8, 16), "embedding_width": 16, "limit": 256,
       "num_steps": 2, "batch_size": 64}  # fmt: skip
TINY = {
    "stand_ins": {"digits": {**TOY, "epochs": 1},
                  "flowers": {**TOY, "epochs": 1, "channels": 3, "text": True}},
    "epochs": 1, "num_steps": 2, "cg_steps": 1, "truths": 4, "samples": 32, "images": 24,
    "cg_images": 12, "inverted": 4, "inversion_steps": (2, 3), "translation_steps": 2,
    "strengths": (0.5, 0.9), "guidance": (1.0,), "pair": ("3", "8"), "clips": 6,
    "toy_clips": True, "frames_options": {**TOY, "frames": 4, "channels": 1},
    "xray_options": {**TOY, "channels": 1}, "xray_samples": 24,
    "methods": ("gaussian", "inversion"), "scores": ("mean", "mahalanobis"), "draws": 1,
    "strokes": 8, "speed_steps": (1, 2), "speed_batch": 2,
}  # fmt: skip


def add_flags(flags):
    """Adds the flags of this study."""
    add = flags.add_argument
    add("--only", nargs="+", type=one_of(APPLICATIONS), metavar="NAME",
        help=f"measure only these of {', '.join(APPLICATIONS)}")  # fmt: skip
    add("--digits", metavar="MODEL", help="another model of MNIST than the shipped one")
    add("--flowers", metavar="MODEL", help="another model of Oxford Flowers than the shipped one")
    add("--images", type=within(20, LARGEST_INT), metavar="N", help="held-out images (200)")
    add("--scores", nargs="+", type=one_of(("mean", "mahalanobis")), metavar="NAME",
        help="scores of the X-rays that are compared: mean, mahalanobis (mean)")  # fmt: skip
    add("--xrays", metavar="DIR", default=XRAYS,
        help=f"PneumoniaMNIST as folders train, val and test ({XRAYS})")  # fmt: skip


def measure_options(args):
    """Returns the arguments of `measure` that are not settings."""
    return {"only": args.only, "xrays": args.xrays}
