"""What the section makes: the settings of both tasks, and a plan of one of them."""

import dataclasses
from pathlib import Path

from benchmarks import runs

FEW, MANY = "dpmpp_2m", "ddim"  # the sampler of few steps is held against that of many
STEPS = {FEW: (3, 4, 5, 6, 8, 10, 15, 20, 30), MANY: (50, 250)}
TINY_STEPS = {FEW: (1, 2), MANY: (3,)}
MINUTES = {"mnist": 20, "flowers": 60}
# How often each number of steps is drawn, and how many pictures each time: 250 steps of flowers
# take long.
SEEDS = {"mnist": 3, "flowers": 1}
CURVE = {"mnist": 1000, "flowers": 500}
# What `train.py` is given besides the minutes: the presets decide everything else.
TRAINING = {
    "mnist": ("--dataset", "mnist"),
    "flowers": ("--dataset", "oxford_flowers102"),
}
TINY_SETTINGS = (
    "--limit", "64", "--batch-size", "32", "--set", "widths=(8,)", "--set", "attention=(False,)",
    "--set", "embedding_width=16", "--set", "num_steps=2",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Peer:
    """Whom ours is held against.

    Attributes:
        subject: its name in `subjects/`.
        files: of that folder, whose code decides what it learns.
        variant: as its users run it.
        autocast: its bfloat16 variant, trained too if that is asked for.
        num_steps: that its users draw with.
        last_num: how many pictures are drawn with the weights without their average, at most.
    """

    subject: str
    files: tuple
    variant: str
    autocast: str
    num_steps: int
    last_num: int


DDP, KERAS_DDIM = ("ddp.py", "torch_parts.py"), ("keras_ddim.py",)
PEERS = {
    # 1000 pictures take it most of an hour.
    "mnist": Peer("ddp", DDP, "float32", "bfloat16 autocast", 250, last_num=500),
    "flowers": Peer("keras_ddim", KERAS_DDIM, "float32", "mixed_bfloat16", 20, last_num=1000),
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be made.

    Attributes:
        task: "mnist" or "flowers".
        minutes: of training, for each.
        seeds: int, how often the curve over steps is drawn.
        cache: folder that the stages keep their results in.
        images: folder for the picture.
        num: int, pictures in each set.
        curve_num: int, pictures in each set of the curve over steps.
        peer_images: None, or how many images end the peer's training, instead of the minutes.
        autocast: also train the peer in bfloat16.
        fresh: make everything anew but the classifier.
        tiny: toy networks on toy pictures; the figures mean nothing.
        data_dir: of tfds.
    """

    task: str
    minutes: float
    seeds: int
    cache: Path
    images: Path
    num: int = 1000
    curve_num: int = 1000
    peer_images: int | None = None
    autocast: bool = False
    fresh: bool = False
    tiny: bool = False
    data_dir: str | None = None

    @property
    def folder(self):
        """Path: of what is kept of a task."""
        return Path(self.cache) / f"{'tiny-' if self.tiny else ''}quality-{self.task}"

    @property
    def peer(self):
        """`Peer`: of the task."""
        return PEERS[self.task]

    @property
    def steps(self):
        """{sampler: numbers of steps} of the curve."""
        return TINY_STEPS if self.tiny else STEPS


ASKED = ("minutes", "seeds", "num", "peer_images", "autocast", "fresh")


@dataclasses.dataclass(frozen=True)
class Options(runs.Options):
    """`runs.Options`, and what may be asked of a `Plan`; None is its default."""

    minutes: float | None = None
    seeds: int | None = None
    num: int | None = None
    peer_images: int | None = None
    autocast: bool | None = None
    fresh: bool | None = None


def make(task, options):
    """Returns the `Plan` of a task for `runs.Options`, or for those above."""
    values = {"minutes": MINUTES[task], "seeds": SEEDS[task], "curve_num": CURVE[task]}
    if options.tiny:
        values = {"minutes": 0.01, "seeds": 2, "num": 64, "curve_num": 64}
    for name in ASKED:
        if (asked := getattr(options, name, None)) is not None:
            values[name] = asked
    values["curve_num"] = min(values["curve_num"], values.get("num", Plan.num))
    values["minutes"] = float(values["minutes"])  # a part of the names in the cache
    for name in ("tiny", "data_dir"):
        values[name] = getattr(options, name)
    return Plan(task, **values, cache=Path(options.cache), images=Path(options.images))
