"""Loading a trained model, however it was saved: export, run directory or .keras file."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_diffusion.conditioning.prompts import Prompts
from keras_diffusion.config.guidance import Guidance
from keras_diffusion.config.resolve import locate_paths
from keras_diffusion.diffusion.samplers import SAMPLERS
from keras_diffusion.models.codecs import PixelCodec
from keras_diffusion.models.diffusion_model import DiffusionModel
from keras_diffusion.runtime.console import one_line
from keras_diffusion.sampling.edit_graph import EditGraph
from keras_diffusion.sampling.request import Request
from keras_diffusion.saving import checkpoints, export_folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model to sample from.

    Attributes:
        name: str.
        image_shape: (H, W, C), of clips (H, W, frames * C).
        frames: int, of each clip; 1: images.
        num_classes: int; 0: without labels.
        class_names: tuple of names, maybe empty.
        prompts: None, or the `Prompts` of a model with prompts; its labels are their classes.
        schedule: name in `SCHEDULES`.
        samplers: tuple of the names in `SAMPLERS` that it can sample with.
        sampler, num_steps, guidance: its defaults.
        options: dict of the options it was trained with; empty if they are unknown.
        graph: function (sampler, {argument: tensor}) -> uint8 (N, H, W, C).
        trajectory: likewise, -> uint8 (F, N, H, W, C), from noise to the images; None if the model
            does not come from an export.
        prediction_type: "v", "eps" or "x0".
        codec: maps images to x and back.
        x_shape: (H, W, C) of x.
        denoise: function (x_t, t, **conditioning) -> (x0, eps), see `DiffusionModel.denoise`.
        edit_graph: `EditGraph`, for `kd.editing`.
    """

    name: str
    image_shape: tuple
    frames: int
    num_classes: int
    class_names: tuple
    prompts: Prompts | None
    schedule: str
    samplers: tuple
    sampler: str
    num_steps: int
    guidance: Guidance
    options: dict
    graph: Callable
    prediction_type: str
    codec: Any
    x_shape: tuple
    denoise: Callable
    trajectory: Callable | None = None

    @functools.cached_property
    def edit_graph(self):
        return EditGraph(self)

    def generate(
        self,
        num_images,
        *,
        sampler=None,
        num_steps=None,
        labels=None,
        prompts=None,
        negative_prompts=None,
        guidance_scale=None,
        guidance_interval=None,
        guidance_rescale=None,
        seed=0,
        batch_size=64,
        progress=None,
    ):
        """Generates images; image i depends only on (seed, i).

        Args:
            num_images: N.
            sampler, num_steps, guidance_scale, guidance_interval, guidance_rescale: None for the
                model's defaults.
            labels, prompts, negative_prompts, seed, batch_size: see `DiffusionModel.generate`.
            progress: None, or a function that is called with the number of images so far.

        Returns:
            uint8 (N, H, W, C).

        Raises:
            ValueError: as `Request`; a sampler that the model does not have.
        """
        sampler = sampler or self.sampler
        if sampler not in self.samplers:
            choices = ", ".join(self.samplers)
            raise ValueError(f"sampler: unknown {sampler!r}. Choose from: {choices}.")
        guidance = self.guidance.options()
        given = (guidance_scale, guidance_interval, guidance_rescale)
        for name, value in zip(guidance, given, strict=True):
            guidance[name] = guidance[name] if value is None else value
        request = Request(
            model=self,
            num_images=num_images,
            num_steps=self.num_steps if num_steps is None else num_steps,
            seed=seed,
            labels=labels,
            prompts=prompts,
            negative_prompts=negative_prompts,
            guidance=Guidance.from_options(guidance),
        )
        parts, done = [], 0
        for rows in request.batches(batch_size):
            tensors = {n: tf.constant(v) for n, v in {**rows, **request.shared}.items()}
            parts.append(self.graph(sampler, tensors).numpy())
            done += len(parts[-1])
            if progress:
                progress(done)
        return np.concatenate(parts)


def load(path):
    """Returns the `LoadedModel` of an export, a run directory or a .keras file.

    Args:
        path: name of an export in saved_models/, or of a model that comes with keras_diffusion,
            such as "oxford_flowers102"; folder of an export; folder of a run, whose newest
            checkpoint is used; or a .keras file of a `DiffusionModel`.

    Raises:
        ValueError: there is none, or it cannot be read; one line.
    """
    path, _ = export_folder.locate(path)
    if (path / "saved_model.pb").exists():
        return _load_export(path)
    return _from_keras(*load_diffusion_model(path))


def load_diffusion_model(path):
    """Returns (`DiffusionModel`, its file, folder of the run) of a run directory or .keras file.

    Raises:
        ValueError: there is none, or it cannot be read; one line.
    """
    path = Path(path)
    if path.is_dir():
        if not checkpoints.list_checkpoints(path / "checkpoints"):
            raise ValueError(f"{path} is neither an export nor a run with a checkpoint.")
        try:
            file, model, _ = checkpoints.load(path / "checkpoints", kind=keras.Model)
        except checkpoints.LaterVersion:
            raise
        except ValueError as error:
            raise ValueError(f"{path}: none of its checkpoints can be read.") from error
        run_dir = path
    else:
        try:
            model = keras.models.load_model(path)
        except Exception as error:  # a damaged file raises anything
            raise ValueError(f"{path} cannot be loaded ({one_line(error, 160)}).") from error
        file, run_dir = path, path.absolute().parents[1]
    if not isinstance(model, DiffusionModel):
        raise ValueError(f"{file} is of type {type(model).__name__}, not DiffusionModel.")
    return model, file, run_dir


def _load_export(path):
    config = export_folder.read(path)
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # TensorFlow raises several kinds
        raise ValueError(f"{path} cannot be loaded ({one_line(error, 160)}).") from error
    same = (
        "image_shape",
        "frames",
        "num_classes",
        "class_names",
        "prompts",
        "schedule",
        "samplers",
        "prediction_type",
    )
    if config.codec["kind"] == "pixels":
        codec, x_shape = PixelCodec(), config.image_shape
    else:
        codec = _ExportedCodec(loaded, config.codec["clip"])
        x_shape = tuple(config.codec["x_shape"])
    return LoadedModel(
        name=path.resolve().name,
        sampler=config.sampler,
        num_steps=config.num_steps,
        guidance=config.guidance,
        options=locate_paths(config.training.get("config", {}), path),
        graph=lambda sampler, tensors: getattr(loaded, f"generate_{sampler}")(**tensors),
        trajectory=lambda sampler, tensors: getattr(loaded, f"trajectory_{sampler}")(**tensors),
        codec=codec,
        x_shape=x_shape,
        denoise=functools.partial(_denoise_exported, loaded),
        **{name: getattr(config, name) for name in same},
    )


class _ExportedCodec:
    """The `LatentCodec` of an export."""

    def __init__(self, loaded, clip):
        self._loaded = loaded
        self.clip = clip

    def encode(self, images):
        if images.dtype == tf.uint8:
            images = tf.cast(images, tf.float32) / 255
        return self._loaded.encode(images=images)

    def decode(self, x):
        return self._loaded.decode(x=x)


def _denoise_exported(loaded, x_t, t, **conditioning):
    pair = loaded.denoise(x_t=x_t, t=tf.broadcast_to(t, tf.shape(x_t)[:1]), **conditioning)
    return pair["x0"], pair["eps"]


def _from_keras(model, path, run_dir):
    """Returns the model of a .keras file; the run's config.json tells how it was trained."""
    record = {}
    if (run_dir / "config.json").exists():
        record = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))
    options = locate_paths(record.get("config", {}), run_dir)
    return LoadedModel(
        name=run_dir.name if options else path.stem,
        image_shape=model.image_shape,
        frames=options.get("frames", 1),
        num_classes=model.num_classes,
        class_names=tuple(record.get("data", {}).get("classes", ())),
        prompts=model.prompts,
        schedule=model.schedule,
        samplers=tuple(sorted(SAMPLERS)),
        sampler=options.get("sampler", "dpmpp_2m"),
        num_steps=options.get("num_steps", 20),
        guidance=Guidance.from_options(options) if model.num_classes else Guidance(),
        options=options,
        graph=lambda sampler, tensors: model.graphs.sampler(sampler)(**tensors),
        prediction_type=model.prediction_type,
        codec=model.codec,
        x_shape=model.x_shape,
        denoise=model.denoise,
    )
