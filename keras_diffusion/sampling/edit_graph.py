"""Runs functions of a denoiser on batches of images, each as one compiled graph."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_diffusion.config.guidance import Guidance
from keras_diffusion.diffusion import process, schedules
from keras_diffusion.diffusion.denoiser import guided_denoiser
from keras_diffusion.sampling.graphs import CONDITIONING, graph
from keras_diffusion.sampling.request import Request


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a function of an `EditGraph` computes with, inside of the graph.

    Attributes:
        make_denoiser: function (clip=None, with_gradient=False) -> the denoiser (x_t, t) -> (x0,
            eps) of the request's labels or prompts and guidance, see `guided_denoiser`.
        schedule: t -> alpha_bar.
        codec: encodes images to x, and decodes x to images; `codec.clip` is the bound of |x0|.
        shape: (h, w, c) of x.
    """

    make_denoiser: Callable
    schedule: Callable
    codec: Any
    shape: tuple


class EditGraph:
    """The compiled edits of one model.

    A function is traced once for each kind of arguments; another batch, seed, number of steps,
    label or guidance traces nothing.

    Args:
        model: `DiffusionModel` or `LoadedModel`; its `denoise`, `schedule`, `prediction_type`,
            `num_classes`, `codec` and `x_shape` are read.
    """

    def __init__(self, model):
        self._model = model
        self._graph = graph(self._call)

    def run(
        self,
        function,
        request,
        *,
        per_image=None,
        shared=None,
        batch_size=64,
        progress=None,
        **options,
    ):
        """Returns the results of all images of a request, as numpy.

        Args:
            function: (parts, *, seed, indices, num_steps, **per_image, **shared, **options) ->
                tensor (N, ...); defined in a module, as each function object is a graph.
            request: `Request`; its images, endpoints and strength are arguments, too.
            per_image: {name: array (N, ...)}, further arguments that are cut into batches.
            shared: {name: array}, further arguments.
            batch_size: images at once.
            progress: None, or a function that is called after each batch with the number of
                results so far. What it raises ends the call.
            **options: hashable values; each combination is a graph.

        Raises:
            ValueError: batch_size below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size: {batch_size} is not 1 or more.")
        per_image = {**request.per_image, **(per_image or {})}
        shared = {**request.shared, **(shared or {})}
        if request.guidance.scale == 1:  # no conditional in the graph
            shared = {name: value for name, value in shared.items() if name not in Guidance.NAMES}
        shapes = {name: np.shape(value) for name, value in shared.items()}
        shapes.update({name: (None, *array.shape[1:]) for name, array in per_image.items()})
        specs = {
            name: tf.TensorSpec(shape, {**per_image, **shared}[name].dtype, name)
            for name, shape in shapes.items()
        }
        run = self._graph.get_concrete_function(function, options, self._model.schedule, **specs)
        constants = {name: tf.constant(value) for name, value in shared.items()}
        results = []
        for first in range(0, request.num_images, batch_size):
            rows = slice(first, first + batch_size)
            tensors = {name: tf.constant(array[rows]) for name, array in per_image.items()}
            results.append(run(**tensors, **constants).numpy())
            if progress:
                progress(min(first + batch_size, request.num_images))
        return np.concatenate(results)

    def _call(self, function, options, schedule, **arguments):
        model = self._model
        conditioning = {n: arguments.pop(n) for n in CONDITIONING if n in arguments}
        parts = Parts(
            make_denoiser=functools.partial(self._make_denoiser, conditioning),
            schedule=schedules.SCHEDULES[schedule],
            codec=model.codec,
            shape=tuple(model.x_shape),
        )
        return function(parts, **options, **arguments)

    def _make_denoiser(self, conditioning, clip=None, with_gradient=False):
        model, guidance = self._model, dict(conditioning)
        schedule, condition = schedules.SCHEDULES[model.schedule], {}
        null = {"tokens": guidance.pop("negative_tokens", None)}
        for name in ("labels", "tokens"):
            if name in guidance:
                condition[name] = guidance.pop(name)
        if "labels" in condition:
            null = {"labels": tf.fill(tf.shape(condition["labels"]), model.num_classes)}

        def predict(x_t, times, condition):
            pair = model.denoise(x_t, times, **condition)
            level = schedules.image_rates(schedule, times, x_t)
            return process.target(pair, level, model.prediction_type)

        return guided_denoiser(
            predict,
            schedule,
            model.prediction_type,
            condition=condition,
            null=null,
            clip=clip,
            with_gradient=with_gradient,
            **guidance,
        )


def make_request(model, num_images, *, labels, prompts, guidance=None, **options):
    """Returns a `Request`; without labels and prompts the images are of no class."""
    guidance = guidance or Guidance()
    if labels is None and prompts is None:
        if guidance.scale != 1:
            raise ValueError("guidance_scale: no effect without labels or prompts.")
        if model.num_classes:
            labels = np.full(num_images, model.num_classes)
    return Request(
        model=model,
        num_images=num_images,
        labels=labels,
        prompts=prompts,
        guidance=guidance,
        **options,
    )
