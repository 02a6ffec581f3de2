"""The models and the data that the applications share; loaded when they are needed."""

import dataclasses

import numpy as np

from keras_diffusion.config.resolve import resolve
from keras_diffusion.evaluation import real_images
from keras_diffusion.saving import loading
from studies import runs, scoring
from studies.stages import Stages

KINDS = ("digits", "flowers")


class NotMeasured(Exception):
    """An application that was left out; the message says why."""


@dataclasses.dataclass(frozen=True)
class CachedStages:
    """The stages that were computed before, and no others.

    Args:
        stages: `Stages`.
    """

    stages: Stages

    def run(self, name, compute):
        """Returns the result of a stage.

        Raises:
            NotMeasured: it was not computed before.
        """
        if not self.stages.has(name):
            raise NotMeasured("left out by `--only`")
        return self.stages.run(name, compute)


class Context:
    """What the applications measure with.

    Args:
        settings: `Settings`.
        stages: `Stages` or `CachedStages`.
        data_dir: folder of tfds, or None.
        xrays: folder of X-rays.
    """

    def __init__(self, settings, stages, data_dir, xrays):
        self.settings, self.stages = settings, stages
        self.data_dir, self.xrays = data_dir, xrays
        self._kept = {}

    def model(self, kind):
        """Returns the `LoadedModel` of "digits" or "flowers"."""
        return self._once(("model", kind), lambda: self._load(kind))

    def real(self, kind):
        """Returns the `RealImages` that a model was trained on."""
        options = {"data_dir": self.data_dir}
        load = real_images.load
        return self._once(("real", kind), lambda: load(self.model(kind), options))

    def held_out(self, kind, num):
        """Returns (uint8 (N, H, W, C), labels (N,)): random held-out images, at most `num`."""
        arrays = self.real(kind).arrays
        rows = np.random.default_rng(self.settings.seed).permutation(len(arrays["test_labels"]))
        return arrays["test_images"][rows[:num]], arrays["test_labels"][rows[:num]]

    def scorer(self, kind):
        """Returns the `Scorer` with the classifier that evaluate.py trains for the same data."""
        real = self.real(kind)
        return self._once(
            ("scorer", kind),
            lambda: scoring.Scorer(
                real.arrays,
                real_images.CACHE,
                tiny=kind in self.settings.stand_ins,
                name=real.source.name,
                flip=real.flip,
            ),
        )

    def facts(self, kind):
        """Returns {"name", "shape", "guidance_scale", "training"}: what belongs beside results."""
        return self.stages.run(f"model-{kind}", lambda folder: self._facts(kind))

    def _facts(self, kind):
        model = self.model(kind)
        names = ("dataset", "epochs", "minutes", "optimizer")
        return {
            "name": model.name,
            "shape": model.image_shape,
            "guidance_scale": model.guidance.scale,
            "training": {name: model.options.get(name) for name in names},
        }

    def _load(self, kind):
        options = self.settings.stand_ins.get(kind)
        if options is None:
            return loading.load(getattr(self.settings, kind))
        config = resolve("digits", {**options, "seed": self.settings.seed})
        name = f"stand-in-{kind}"
        run_dir = runs.folder(name, self.stages)
        self.stages.run(name, lambda folder: {"batches": runs.train(config, run_dir)})
        return loading.load(run_dir)

    def _once(self, key, make):
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


def length(settings, minutes):
    """Returns the option of `Config` for the length of a training: its own, or the given one."""
    if settings.epochs:
        return {"epochs": settings.epochs}
    return {"minutes": settings.minutes or minutes}


def training_facts(config, batches):
    """Returns {"trained": images or clips seen, "minutes", "epochs"} of a training."""
    names = ("minutes", "epochs")
    return {
        "trained": batches * config.batch_size,
        **{name: getattr(config, name) for name in names},
    }


def training_in_words(result, what):
    """Returns the length of such a training in words."""
    minutes, epochs = result["minutes"], result["epochs"]
    lasted = f"{minutes:g} minutes" if minutes else f"{epochs} epochs"
    return f"for {lasted} ({result['trained']:,} {what} seen)"
