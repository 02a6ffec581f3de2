"""Grids: the decreasing times that a sampler visits, num_steps + 1 of them, the last one 0."""

from keras import ops

from keras_diffusion.diffusion.schedules import logsnr, time_of_logsnr

# Outside of these log signal-to-noise ratios nothing visible is decided: below there is only
# the mean image, above an error of about one grey level in 255.
LOWEST, HIGHEST = -7.0, 9.0


def _fractions(num_steps):
    """(num_steps + 1,) from 0 to 1; `num_steps` may be a tensor."""
    return ops.arange(num_steps + 1, dtype="float32") / ops.cast(num_steps, "float32")


def _pinned(times, start):
    """The same grid, beginning at exactly `start`, ending at exactly 0 and never rising."""
    start = ops.reshape(ops.cast(start, "float32"), (1,))
    return ops.concatenate([start, ops.minimum(times[1:-1], start), ops.zeros((1,))])


def uniform_t(schedule, num_steps, start=1.0):
    """Equal steps in t."""
    return _pinned(start * (1 - _fractions(num_steps)), start)


def uniform_logsnr(schedule, num_steps, start=1.0):
    """Equal steps in the log signal-to-noise ratio; the grid that suits every schedule.

    Args:
        schedule: t -> alpha_bar.
        num_steps: int or scalar tensor, at least 1.
        start: the first time, in (0, 1].

    Returns:
        (num_steps + 1,) times, decreasing from `start` to 0.
    """
    low = ops.clip(logsnr(schedule, start), LOWEST, HIGHEST)
    ratios = low + (HIGHEST - low) * _fractions(num_steps)
    return _pinned(time_of_logsnr(schedule, ratios), start)


def karras(schedule, num_steps, start=1.0, rho=7.0):
    """Equal steps in sigma ** (1 / rho), sigma = noise_rate / signal_rate.

    Reference: Karras et al. 2022, arXiv:2206.00364, equation 5.
    """
    low = ops.clip(logsnr(schedule, start), LOWEST, HIGHEST)
    first, last = ops.exp(-low / (2 * rho)), ops.exp(-HIGHEST / (2 * rho))
    root = first + (last - first) * _fractions(num_steps)
    return _pinned(time_of_logsnr(schedule, -2 * rho * ops.log(root)), start)


GRIDS = {"uniform_t": uniform_t, "uniform_logsnr": uniform_logsnr, "karras": karras}
