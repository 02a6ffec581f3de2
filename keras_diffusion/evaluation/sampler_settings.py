"""Samplers with their numbers of steps: what they cost, and generating images with them."""

import dataclasses
import time

import numpy as np
from keras import ops

from keras_diffusion.config.guidance import Guidance
from keras_diffusion.diffusion.samplers import SAMPLERS, STOCHASTIC
from keras_diffusion.diffusion.schedules import SCHEDULES
from keras_diffusion.diffusion.time_grids import uniform_logsnr
from keras_diffusion.runtime.registry import lookup


@dataclasses.dataclass(frozen=True)
class SamplerSetting:
    """A sampler and its number of steps, one row of the table of scores.

    Attributes:
        sampler: str.
        num_steps: int.
        network_calls: int, for each image; see `network_calls`.
    """

    sampler: str
    num_steps: int
    network_calls: int

    def __str__(self):
        return f"{self.num_steps} steps of {self.sampler}"


def network_calls(sampler, schedule, num_steps, guidance=None):
    """Returns how often a sampler calls the network for each image; twice in a guided step."""
    guidance = guidance or Guidance()
    times = np.array(visited_times(sampler, schedule, num_steps))
    if guidance.scale == 1:
        return len(times)
    low, high = guidance.interval
    return len(times) + int(((low <= times) & (times <= high)).sum())


def visited_times(sampler, schedule, num_steps):
    """Returns the times at which a sampler calls its denoiser, a list of floats."""
    alpha_bar = lookup(SCHEDULES, schedule, "schedule")
    times = []

    def denoiser(x, t):
        times.append(float(t))
        return x, x

    noise = {"noise_fn": lambda i: 0.0} if sampler in STOCHASTIC else {}
    run = lookup(SAMPLERS, sampler, "sampler")
    run(denoiser, alpha_bar, ops.zeros((1, 1, 1, 1)), uniform_logsnr(alpha_bar, num_steps), **noise)
    return times


class TimedGenerator:
    """Generates images with several settings, from the same noise and labels, and times it.

    Args:
        model: `LoadedModel`.
        labels: int (N,), or None for a model without labels.
        num: N.
        guidance: `Guidance`.
        seed: int.
        batch_size: images generated at once.
    """

    def __init__(self, model, labels, *, num, guidance, seed, batch_size):
        self.model = model
        self.labels = labels
        self.num = num
        self.batch_size = min(batch_size, num)
        self._options = {**guidance.options(), "seed": seed, "batch_size": self.batch_size}
        self._seconds_per_call = None  # of the network, for one image
        self._traced = set()

    def seconds_for(self, setting):
        """Returns how long a setting will take, as the setting before or a first batch did."""
        if self._seconds_per_call is None:
            self._time(setting, self.batch_size)
        return self._seconds_per_call * setting.network_calls * self.num

    def generate(self, setting, progress=None):
        """Returns (uint8 (N, H, W, C), seconds); tracing the graph is not counted."""
        return self._time(setting, self.num, progress)

    def _time(self, setting, num, progress=None):
        if setting.sampler not in self._traced:
            self._generate(self.batch_size, sampler=setting.sampler, num_steps=1)
            self._traced.add(setting.sampler)
        began = time.monotonic()
        images = self._generate(
            num, sampler=setting.sampler, num_steps=setting.num_steps, progress=progress
        )
        seconds = time.monotonic() - began
        self._seconds_per_call = seconds / (setting.network_calls * num)
        return images, seconds

    def _generate(self, num, **options):
        labels = None if self.labels is None else self.labels[:num]
        return self.model.generate(num, labels=labels, **options, **self._options)
