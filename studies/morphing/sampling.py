"""From any x_t to an image: the updates of Cold Diffusion along the time grids of the package."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_diffusion.diffusion import process, schedules, time_grids
from keras_diffusion.diffusion.denoiser import make_denoiser
from keras_diffusion.diffusion.samplers import cold

GRIDS = {"uniform_t": "t", "uniform_logsnr": "logSNR"}
UPDATES = ("re-estimated", "held")
BATCH = 250  # images at once


@dataclasses.dataclass(frozen=True)
class Method:
    """A method of sampling.

    Attributes:
        num_steps: 1 is a single prediction.
        grid: "uniform_t" or "uniform_logsnr", in which the steps are equal.
        update: the endpoint in each step: "re-estimated", that of the prediction, which is DDIM,
            or "held", the known one.
    """

    num_steps: int
    grid: str = "uniform_t"
    update: str = "re-estimated"

    def __str__(self):
        if self.num_steps == 1:
            return "1 step"
        return f"{self.num_steps} steps in {GRIDS[self.grid]}, {self.update}"

    @classmethod
    def of(cls, row):
        """Returns the method of a row of results."""
        return cls(row["num_steps"], row["grid"], row["update"])


class Morpher:
    """Sampling with a trained model.

    Args:
        model: `DiffusionModel` without labels.
    """

    def __init__(self, model):
        self.schedule, self.codec, self._model = model.noise_schedule, model.codec, model
        self._graphs = {}  # by update, each traced once

    def encode(self, images):
        """uint8 images -> x, float32 in [-1, 1]."""
        return self.codec.encode(tf.constant(images)).numpy()

    def decode(self, x):
        """x -> uint8 images."""
        return self.codec.decode(tf.constant(x)).numpy()

    def mix(self, x0, endpoint, t):
        """Returns x_t of the forward process from x0 to its endpoint."""
        level = [np.float32(rate) for rate in schedules.rates(self.schedule, t)]
        return process.mix((x0, endpoint), level)

    def generate(self, x, method, start=1.0, endpoint=None):
        """Samples from x_t, and returns uint8 images (N, H, W, C).

        Args:
            x: float32 (N, H, W, C), x_t at time `start`.
            method: `Method`.
            start: in (0, 1].
            endpoint: x at t = 1, for the update that holds it; None: x itself.
        """
        times = time_grids.GRIDS[method.grid](self.schedule, method.num_steps, start)
        held = [x if endpoint is None else endpoint] if method.update == "held" else []
        if method.update not in self._graphs:
            self._graphs[method.update] = self._graph(held=bool(held))
        parts = []
        for first in range(0, len(x), BATCH):
            x_t, *known = (tf.constant(each[first : first + BATCH]) for each in (x, *held))
            parts.append(self._graphs[method.update](x_t, times, *known).numpy())
        return np.concatenate(parts)

    def _graph(self, held):
        model = self._model
        denoiser = make_denoiser(
            model.graphs.network, self.schedule, model.prediction_type, clip=self.codec.clip
        )
        x = tf.TensorSpec((None, *model.image_shape), tf.float32)
        times = tf.TensorSpec((None,), tf.float32)

        @tf.function
        def run(x, times, endpoint=None):
            return self.codec.decode(cold(denoiser, self.schedule, x, times, endpoint=endpoint))

        return run.get_concrete_function(x, times, *([x] if held else []))
