"""Settings of the quality sections."""

import dataclasses
from pathlib import Path

from benchmarks import runs

FEW, MANY = "dpmpp_2m", "ddim"  # the sampler of few steps is compared with that of many
TASKS = {  # the attributes of a `Plan`
    "mnist": {
        "training": ("--dataset", "mnist"),
        "minutes": 20,
        "seeds": 3,
        "curve_num": 1000,
        "peer": "ddp",
        "variants": ("float32",),  # as its users run it
        "peer_steps": 250,
        "last_num": 500,  # 1000 take most of an hour
    },
    "flowers": {
        "training": ("--dataset", "oxford_flowers102"),
        "minutes": 60,
        "seeds": 1,  # 250 steps take long
        "curve_num": 500,
        "peer": "keras_ddim",
        "variants": ("float32", "float32, our optimizer"),
        "peer_steps": 20,
        "last_num": 1000,
    },
}
COMMON = {"num": 1000, "steps": {FEW: (3, 4, 5, 6, 8, 10, 15, 20, 30), MANY: (50, 250)}}
TINY = {
    "training": (
        "--dataset", "digits", "--limit", "64", "--batch-size", "32", "--set", "widths=(8,)",
        "--set", "attention=(False,)", "--set", "embedding_width=16", "--set", "num_steps=2",
    ),
    "minutes": 0.01, "seeds": 2, "num": 64, "curve_num": 64, "peer_steps": 2,
    "steps": {FEW: (1, 2), MANY: (3,)},
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings of one section.

    Attributes:
        task: "mnist" or "flowers".
        options: `runs.Options`.
        training: arguments of `train.py` besides the minutes; the preset decides everything else.
        minutes: of each training.
        seeds: int, repetitions of the curve over steps.
        num, curve_num, last_num: images in each set, in each set of the curve, and at most in that
            of the peer's last weights.
        peer: the subject that ours is compared with.
        variants: of the peer; the goal is about the first one.
        peer_steps: int, with which its users sample.
        steps: {sampler: numbers of steps} of the curve.
    """

    task: str
    options: runs.Options
    training: tuple
    minutes: float
    seeds: int
    num: int
    curve_num: int
    last_num: int
    peer: str
    variants: tuple
    peer_steps: int
    steps: dict

    @property
    def folder(self):
        """Path, of the finished stages of the task."""
        return Path(self.options.cache) / f"quality-{self.task}"


def make(task, options):
    """Returns the `Plan` of a task."""
    settings = {**COMMON, **TASKS[task], **(TINY if options.tiny else {})}
    if options.minutes and not options.tiny:
        settings["minutes"] = options.minutes
    return Plan(task=task, options=options, **settings)
