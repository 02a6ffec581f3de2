"""Time grids: functions that return the num_steps + 1 decreasing times of a sampler.

Arguments of every grid:

    schedule: t -> alpha_bar.
    num_steps: int or scalar int tensor, at least 1.
    start: first time, in (0, 1].

They return float32 (num_steps + 1,), from `start` to 0.
"""

from keras import ops

from keras_diffusion.diffusion.schedules import logsnr, time_of_logsnr

# Range of logSNR in which x0 changes visibly: below it x0 is the mean image, above it the remaining
# noise is about one grey level of 255.
LOWEST, HIGHEST = -7.0, 9.0


def _fractions(num_steps):
    """Returns (num_steps + 1,) equally spaced numbers from 0 to 1."""
    return ops.arange(num_steps + 1, dtype="float32") / ops.cast(num_steps, "float32")


def _pinned(times, start):
    """Returns the grid with exact ends `start` and 0, and no time above `start`."""
    start = ops.reshape(ops.cast(start, "float32"), (1,))
    return ops.concatenate([start, ops.minimum(times[1:-1], start), ops.zeros((1,))])


def uniform_t(schedule, num_steps, start=1.0):
    """Equal steps in t, t_i = start (1 - i / N)."""
    return _pinned(start * (1 - _fractions(num_steps)), start)


def uniform_logsnr(schedule, num_steps, start=1.0):
    """Equal steps in logSNR, from logSNR(start) to HIGHEST; the default for every schedule."""
    low = ops.clip(logsnr(schedule, start), LOWEST, HIGHEST)
    ratios = low + (HIGHEST - low) * _fractions(num_steps)
    return _pinned(time_of_logsnr(schedule, ratios), start)


def upward(schedule, num_steps, end=1.0):
    """The times of `uniform_logsnr` in increasing order but for 0, to invert a sampler.

    An image is taken as x at the first of them, where with many steps its noise cannot be seen: at
    t = 0 there is none, and a network that predicts x0 says nothing about it. So `num_steps` is one
    more than the steps of the inversion, and 1 returns the image.
    """
    return uniform_logsnr(schedule, num_steps, end)[:-1][::-1]


def karras(schedule, num_steps, start=1.0, rho=7.0):
    """Equal steps in sigma^(1 / rho), sigma = noise_rate / signal_rate.

    Reference: Karras et al. 2022, arXiv:2206.00364, equation 5.
    """
    low = ops.clip(logsnr(schedule, start), LOWEST, HIGHEST)
    first, last = ops.exp(-low / (2 * rho)), ops.exp(-HIGHEST / (2 * rho))
    root = first + (last - first) * _fractions(num_steps)
    return _pinned(time_of_logsnr(schedule, -2 * rho * ops.log(root)), start)


GRIDS = {"uniform_t": uniform_t, "uniform_logsnr": uniform_logsnr, "karras": karras}
