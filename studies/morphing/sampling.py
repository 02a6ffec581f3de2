"""From any x to a picture: the updates of Cold Diffusion along the grids of the package."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_diffusion.diffusion import process, schedules, time_grids
from keras_diffusion.diffusion.denoiser import make_denoiser
from keras_diffusion.diffusion.samplers import cold

GRIDS = ("uniform_t", "uniform_logsnr")
UPDATES = ("re-estimated", "held")
BATCH = 250  # pictures at once


@dataclasses.dataclass(frozen=True)
class Way:
    """How to sample.

    Attributes:
        num_steps: 1 is a single prediction.
        grid: "uniform_t" or "uniform_logsnr", what steps are equal in.
        update: whose endpoint it is that is mixed again: "re-estimated", that of each
            prediction, which is DDIM, or "held", the known one.
    """

    num_steps: int
    grid: str = "uniform_t"
    update: str = "re-estimated"


class Morpher:
    """A trained model as a function of what sits at any time.

    Args:
        model: an unlabelled `DiffusionModel`.
    """

    def __init__(self, model):
        self.schedule, self.codec, self._model = model.noise_schedule, model.codec, model
        self._graphs = {}  # by update, each traced once

    def encode(self, images):
        """uint8 pictures -> x, float32 in [-1, 1]."""
        return self.codec.encode(tf.constant(images)).numpy()

    def decode(self, x):
        """x -> uint8 pictures."""
        return self.codec.decode(tf.constant(x)).numpy()

    def mixed(self, x0, endpoint, t):
        """Returns x_t, the forward process from x0 to its endpoint."""
        level = [np.float32(rate) for rate in schedules.rates(self.schedule, t)]
        return process.mix((x0, endpoint), level)

    def pictures(self, x, way, start=1.0, endpoint=None):
        """Returns what x leads to, uint8 (N, H, W, C).

        Args:
            x: float32 (N, H, W, C), what sits at time `start`.
            way: `Way`.
            start: in (0, 1].
            endpoint: what sits at t = 1, for the update that holds it; None: x itself.
        """
        times = time_grids.GRIDS[way.grid](self.schedule, way.num_steps, start)
        known = [x if endpoint is None else endpoint] if way.update == "held" else []
        if way.update not in self._graphs:
            self._graphs[way.update] = self._graph(held=bool(known))
        parts = []
        for first in range(0, len(x), BATCH):
            part, *held = (tf.constant(each[first : first + BATCH]) for each in (x, *known))
            parts.append(self._graphs[way.update](part, times, *held).numpy())
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
