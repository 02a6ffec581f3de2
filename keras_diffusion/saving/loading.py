"""A trained model, however it was saved: what it can draw, and what it was trained on."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_diffusion.conditioning.prompts import Prompts
from keras_diffusion.diffusion.samplers import SAMPLERS, STOCHASTIC
from keras_diffusion.diffusion.schedules import SCHEDULES
from keras_diffusion.diffusion.time_grids import uniform_logsnr
from keras_diffusion.models.diffusion_model import DiffusionModel
from keras_diffusion.runtime.registry import lookup
from keras_diffusion.sampling.request import GUIDANCE, signature
from keras_diffusion.saving import checkpoints, saved_model


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model to draw from.

    Attributes:
        name: str.
        image_shape: (H, W, C).
        num_classes: int; 0: without labels.
        class_names: tuple of names, maybe empty.
        schedule: name in `SCHEDULES`.
        samplers: tuple of the names in `SAMPLERS` that it can draw with.
        defaults: dict of sampler, num_steps and, for labelled models, of `guidance`.
        config: dict of the options it was trained with; empty where they are not known.
        guidance: tuple of the arguments in `GUIDANCE` that it takes; older exports lack some.
        graph: function (sampler, {argument: tensor}) -> uint8 (N, H, W, C).
        prompts: None, or the `Prompts` of a model that takes them; its labels are their classes.
    """

    name: str
    image_shape: tuple
    num_classes: int
    class_names: tuple
    schedule: str
    samplers: tuple
    defaults: dict
    config: dict
    guidance: tuple
    graph: Callable
    prompts: Prompts | None = None

    def draw(self, sampler, indices, *, seed, num_steps, labels=None, guidance=()):
        """Draws pictures, as one batch; picture i depends on (seed, indices[i]) alone.

        Args:
            sampler: one of its samplers.
            indices: int (N,).
            seed, num_steps: ints.
            labels: int (N,); for labelled models only. They stand for the plain prompts, where
                the model has prompts.
            guidance: dict of what is in `self.guidance`, where it is not the default.

        Returns:
            uint8 (N, H, W, C).
        """
        values = {"seed": seed, "indices": indices, "num_steps": num_steps}
        if self.prompts:
            none = np.full_like(labels, self.num_classes)
            values["tokens"] = self.prompts.table[labels, 0]
            values["negative_tokens"] = self.prompts.table[none, 0]
        usual = {name: self.defaults[name] for name in self.guidance}
        values.update(labels=labels, **{**usual, **dict(guidance)})
        missing = set(GUIDANCE) - set(self.guidance)
        specs = {n: spec for n, spec in signature(self).items() if n not in missing}
        tensors = {name: tf.constant(values[name], spec.dtype) for name, spec in specs.items()}
        return self.graph(sampler, tensors).numpy()

    def network_calls(self, sampler, num_steps, guidance=()):
        """Returns how often the network works on each picture; twice in a guided step."""
        times = np.array(visited_times(sampler, self.schedule, num_steps))
        guidance = dict(guidance)
        if guidance.get("guidance_scale", 1.0) == 1.0:
            return len(times)
        low, high = (0.0, 1.0)
        if "guidance_interval" in self.guidance:
            low, high = guidance["guidance_interval"]
        return len(times) + int(((low <= times) & (times <= high)).sum())


def visited_times(sampler, schedule, num_steps):
    """Returns the times at which a sampler calls its denoiser, a list of floats."""
    alpha_bar = lookup(SCHEDULES, schedule, "schedule")
    found = []

    def denoiser(x, t):
        found.append(float(t))
        return x, x

    noise = {"noise_fn": lambda i: 0.0} if sampler in STOCHASTIC else {}
    run = lookup(SAMPLERS, sampler, "sampler")
    run(denoiser, alpha_bar, ops.zeros((1, 1, 1, 1)), uniform_logsnr(alpha_bar, num_steps), **noise)
    return found


def load(path):
    """Returns the `Trained` model in an export, a run directory or a .keras file.

    Args:
        path: folder of an export, as under saved_models/; folder of a run, whose newest
            checkpoint is taken; or a .keras file of a `DiffusionModel`.

    Raises:
        ValueError: there is none, or it cannot be read; one line.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path} does not exist; give an export, as under saved_models/.")
    if (path / "saved_model.pb").exists():
        return _exported(path)
    return _saved(*saved(path))


def saved(path):
    """Returns what a run directory or a .keras file holds: (`DiffusionModel`, file, run's folder).

    Raises:
        ValueError: there is none, or it cannot be read; one line.
    """
    if path.is_dir():
        found = checkpoints.listed(path / "checkpoints")
        if not found:
            raise ValueError(f"{path} is neither an export nor a run with a checkpoint.")
        try:
            newest_whole, model, _ = checkpoints.load(path / "checkpoints", kind=keras.Model)
        except checkpoints.LaterVersion:
            raise
        except ValueError as error:
            raise ValueError(f"{path}: none of its checkpoints can be read.") from error
        file, run_dir = newest_whole, path
    else:
        try:
            model = keras.models.load_model(path)
        except Exception as error:  # a damaged file raises anything
            what = " ".join(str(error).split())[:160]
            raise ValueError(f"{path} cannot be loaded ({what}).") from error
        file, run_dir = path, path.absolute().parents[1]
    if not isinstance(model, DiffusionModel):
        raise ValueError(f"{file} is of type {type(model).__name__}, not DiffusionModel.")
    return model, file, run_dir


def newest(root="saved_models"):
    """Returns the folder of the export that was written last.

    Raises:
        ValueError: there is none.
    """
    found = [path for path in Path(root).glob("*/saved_model.pb") if path.parent.name[0] != "."]
    if not found:
        raise ValueError(f"there is no model in {root}/; train.py writes them, or name a folder.")
    return max(found, key=lambda path: path.stat().st_mtime).parent


def _exported(path):
    try:
        config = json.loads((path / saved_model.CONFIG_FILE).read_text(encoding="utf-8"))
        number = config.get("format", 1)
        guidance = GUIDANCE[:number] if config["num_classes"] else ()
        known = {
            "image_shape": tuple(config["image_shape"]),
            "num_classes": config["num_classes"],
            "class_names": tuple(config["class_names"]),
            "schedule": config["schedule"],
            "samplers": tuple(config["samplers"]),
            "defaults": _defaults(config, guidance),
            "config": config["training"].get("config", {}),
            "guidance": guidance,
            "prompts": _prompts(config.get("prompts")),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise ValueError(f"{path} is not an export of keras_diffusion ({what}).") from error
    if number > saved_model.FORMAT:
        raise ValueError(f"{path} was written by a later version of keras_diffusion.")
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # TensorFlow raises several kinds
        what = " ".join(str(error).split())[:160]
        raise ValueError(f"{path} cannot be loaded ({what}).") from error

    def graph(sampler, tensors):
        return getattr(loaded, f"generate_{sampler}")(*tensors.values())

    return Trained(name=path.resolve().name, graph=graph, **known)


def _prompts(described):
    """The `Prompts` in the config.json of an export, or None."""
    names = ("class_names", "templates")
    return Prompts(**{name: described[name] for name in names}) if described else None


def _saved(model, path, run_dir):
    """The model of a .keras file; what it was trained on is in the run's config.json."""
    record = {}
    if (run_dir / "config.json").exists():
        record = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))
    config = record.get("config", {})
    guidance = GUIDANCE if model.num_classes else ()
    return Trained(
        name=run_dir.name if config else path.stem,
        image_shape=model.image_shape,
        num_classes=model.num_classes,
        class_names=tuple(record.get("data", {}).get("classes", ())),
        schedule=model.schedule,
        samplers=tuple(sorted(SAMPLERS)),
        defaults=_defaults(config, guidance),
        config=config,
        guidance=guidance,
        graph=lambda sampler, tensors: model.graphs.sampling(sampler)(**tensors),
        prompts=model.prompts,
    )


def _defaults(config, guidance):
    usual = {"sampler": "dpmpp_2m", "num_steps": 20}
    usual.update(zip(GUIDANCE, (1.0, (0.0, 1.0), 0.0), strict=True))
    names = ("sampler", "num_steps", *guidance)
    found = {name: config.get(name, usual[name]) for name in names}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
