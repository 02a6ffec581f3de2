"""Noise schedules: functions of time t in [0, 1] that return alpha_bar = signal_rate^2.

t = 0 is a clean image (alpha_bar = 1), t = 1 is noise. Schedules published as T = 1000 discrete
betas are written as their limit of small steps, alpha_bar(t) = exp(-integral of beta), for any
number of sampling steps.

alpha_bar is at least `FLOOR`, as x0 from eps is divided by its square root.
"""

import math

from keras import ops

NUM_TIMESTEPS = 1000  # T of the discrete betas
FLOOR = 1e-5  # minimum of alpha_bar; signal_rate is at least 0.003, below one grey level
BETA_FIRST = NUM_TIMESTEPS * 1e-4  # linear betas times T at t = 0
BETA_LAST = NUM_TIMESTEPS * 0.02  # and at t = 1


def _floored(alpha_bar):
    return ops.clip(alpha_bar, FLOOR, 1.0)


def linear(t):
    """beta rises linearly from 1e-4 to 0.02: exp(-(b0 t + (b1 - b0) t^2 / 2)), b = T beta.

    Reference: Ho et al. 2020, arXiv:2006.11239, section 4.
    """
    return _floored(ops.exp(-(BETA_FIRST * t + (BETA_LAST - BETA_FIRST) * t**2 / 2)))


def inverse_linear(t):
    """The linear betas in reverse order: exp(-(b1 t - (b1 - b0) t^2 / 2))."""
    return _floored(ops.exp(-(BETA_LAST * t - (BETA_LAST - BETA_FIRST) * t**2 / 2)))


def constant(t, beta=0.01):
    """Constant beta: (1 - beta)^(T t)."""
    return _floored(ops.exp(NUM_TIMESTEPS * math.log(1 - beta) * t))


def cosine(t, s=0.008):
    """f(t) / f(0), f(t) = cos^2((t + s) / (1 + s) pi / 2).

    Reference: Nichol & Dhariwal 2021, arXiv:2102.09672, equation 17.
    """

    def angle(t):
        return (t + s) / (1 + s) * (math.pi / 2)

    return _floored((ops.cos(angle(t)) / math.cos(angle(0.0))) ** 2)


def sigmoid(t, start=-3.0, end=3.0, temperature=1.0):
    """(f(1) - f(t)) / (f(1) - f(0)), f(t) = sigmoid((start + t (end - start)) / temperature).

    Reference: Jabri et al. 2022, arXiv:2212.11972; Chen 2023, arXiv:2301.10972, algorithm 1.
    """

    def squash(z):
        return 1 / (1 + math.exp(-z / temperature))

    squashed = ops.sigmoid((t * (end - start) + start) / temperature)
    return _floored((squash(end) - squashed) / (squash(end) - squash(start)))


SCHEDULES = {
    "linear": linear,
    "cosine": cosine,
    "constant": constant,
    "inverse_linear": inverse_linear,
    "sigmoid": sigmoid,
}


def rates(schedule, t):
    """Returns the level (signal_rate, noise_rate) at times `t`, each of the shape of `t`.

    signal_rate = sqrt(alpha_bar), noise_rate = sqrt(1 - alpha_bar).
    """
    alpha_bar = schedule(ops.convert_to_tensor(t, "float32"))
    return ops.sqrt(alpha_bar), ops.sqrt(1 - alpha_bar)


def image_rates(schedule, t, images):
    """Returns `rates` as (B, 1, 1, 1), to broadcast to images (B, H, W, C); t a scalar or (B,)."""
    times = ops.broadcast_to(t, (ops.shape(images)[0],))
    return [rate[:, None, None, None] for rate in rates(schedule, times)]


def logsnr(schedule, t):
    """Returns the log signal-to-noise ratio log(alpha_bar / (1 - alpha_bar)), shape of `t`.

    It is in [-11.6, 16.1], the resolution of alpha_bar near 1 in float32.
    """
    alpha_bar = schedule(ops.convert_to_tensor(t, "float32"))
    return ops.log(alpha_bar) - ops.log(ops.maximum(1 - alpha_bar, 1e-7))


def time_of_logsnr(schedule, value):
    """Returns the times t with logsnr(schedule, t) = value, by bisection.

    Args:
        schedule: decreasing function t -> alpha_bar.
        value: tensor of log signal-to-noise ratios. Outside of the schedule's range the nearest
            end of [0, 1] is returned.
    """
    value = ops.convert_to_tensor(value, "float32")

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        too_clean = logsnr(schedule, middle) > value
        return ops.where(too_clean, middle, low), ops.where(too_clean, high, middle)

    bounds = ops.zeros_like(value), ops.ones_like(value)
    low, high = ops.fori_loop(0, 30, halve, bounds)  # 2**-30 is below the resolution of float32
    return (low + high) / 2
