"""Samplers: pure functions of (denoiser, schedule, x, times), each one loop in the graph.

Arguments of every sampler:

    denoiser: (x_t, t) -> (x0, eps), see denoiser.py.
    schedule: t -> alpha_bar.
    x: (B, H, W, C) at times[0].
    times: (num_steps + 1,) decreasing times, see time_grids.py; a tensor, so that one traced graph
        works for any number of steps.
    num_frames: number of intermediate images to return; None: none.

They return x at times[-1], or with `num_frames` (x, frames), frames (num_frames + 1, B, H, W, C)
at evenly spaced steps, the first one at times[0].

In the equations a step goes from time t to time s < t; signal_t, noise_t are the rates at t.
"""

from keras import ops

from keras_diffusion.diffusion.process import mix
from keras_diffusion.diffusion.schedules import logsnr, rates


def _loop(step, x, times, memory=(), num_frames=None):
    """Returns x, or (x, frames), after `x, *memory = step(i, x, *memory)` for every step i."""
    num_steps = ops.shape(times)[0] - 1
    if num_frames is None:
        return ops.fori_loop(0, num_steps, lambda i, state: step(i, *state), (x, *memory))[0]

    def recorded(i, state):
        frames, *state = state
        state = step(i, *state)
        frame_of_step = ops.arange(num_frames + 1) * num_steps // num_frames
        is_now = ops.reshape(frame_of_step == i + 1, (-1, 1, 1, 1, 1))
        return ops.where(is_now, state[0], frames), *state

    frames = ops.repeat(x[None], num_frames + 1, axis=0)
    frames, x, *_ = ops.fori_loop(0, num_steps, recorded, (frames, x, *memory))
    return x, frames


def ddim(denoiser, schedule, x, times, *, eta=0.0, noise_fn=None, num_frames=None):
    """DDIM: mixes the predicted pair at the next level.

        x_s = signal_s x0 + sqrt(noise_s^2 - sigma^2) eps + sigma z
        sigma = eta noise_s / noise_t sqrt(1 - alpha_bar_t / alpha_bar_s)

    Args:
        eta: 0: deterministic; 1: ancestral sampling (DDPM).
        noise_fn: step index -> standard Gaussian z of the shape of `x`; required if eta > 0.

    Raises:
        ValueError: eta > 0 without noise_fn.

    Reference: Song et al. 2020, arXiv:2010.02502, equations 12 and 16.
    """
    if eta and noise_fn is None:
        raise ValueError("noise_fn: required for eta > 0.")

    def step(i, x):
        pair = denoiser(x, times[i])
        signal_t, noise_t = rates(schedule, times[i])
        signal_s, noise_s = rates(schedule, times[i + 1])
        if not eta:
            return (mix(pair, (signal_s, noise_s)),)
        ratio = ops.minimum(signal_t / signal_s, 1.0)
        sigma = eta * noise_s / ops.maximum(noise_t, 1e-6) * ops.sqrt(1 - ratio**2)
        kept = ops.sqrt(ops.maximum(noise_s**2 - sigma**2, 0.0))
        return (mix(pair, (signal_s, kept)) + sigma * noise_fn(i),)

    return _loop(step, x, times, num_frames=num_frames)


def ddpm(denoiser, schedule, x, times, *, noise_fn, num_frames=None):
    """DDPM: ancestral sampling from q(x_s | x_t, x0), which is DDIM with eta = 1.

    Args:
        noise_fn: step index -> standard Gaussian noise of the shape of `x`.

    Reference: Ho et al. 2020, arXiv:2006.11239, equations 6 and 7.
    """
    return ddim(denoiser, schedule, x, times, eta=1.0, noise_fn=noise_fn, num_frames=num_frames)


def heun(denoiser, schedule, x, times, *, num_frames=None):
    """Heun's method: DDIM with x0 averaged over both ends of the step; 2 calls per step.

        d(x / noise_rate) = x0 d(signal_rate / noise_rate)     by the trapezoid rule

    Karras et al. average eps in d(x / signal_rate) = eps d sigma instead. The order is the same,
    but sigma starts at some hundreds, and few long steps diverge: with 3 steps the standard
    deviation of the result is 8 times too large.

    Reference: Karras et al. 2022, arXiv:2206.00364, algorithm 1.
    """

    def step(i, x):
        x0, eps = denoiser(x, times[i])
        signal_t, noise_t = rates(schedule, times[i])
        level_s = rates(schedule, times[i + 1])
        x0_end, _ = denoiser(mix((x0, eps), level_s), times[i + 1])
        # First order on a step to or from t = 0, where x / noise_rate is unbounded.
        is_inside = ops.minimum(noise_t, level_s[1]) > 1e-3
        x0_mean = ops.where(is_inside, (x0 + x0_end) / 2, x0)
        eps_mean = eps + signal_t / ops.maximum(noise_t, 1e-3) * (x0 - x0_mean)
        return (mix((x0_mean, eps_mean), level_s),)

    return _loop(step, x, times, num_frames=num_frames)


def dpmpp_2m(denoiser, schedule, x, times, *, num_frames=None):
    """DPM-Solver++(2M): DDIM with x0 extrapolated from the previous step; 1 call per step.

        x_s = noise_s / noise_t x_t + (signal_s - noise_s / noise_t signal_t) D
        D = x0 + r / 2 (x0 - previous x0),  r = h / previous h,  h = half the step in logSNR

    Reference: Lu et al. 2022, arXiv:2211.01095, algorithm 2.
    """

    def step(i, x, previous_x0, previous_h):
        x0, _ = denoiser(x, times[i])
        signal_t, noise_t = rates(schedule, times[i])
        signal_s, noise_s = rates(schedule, times[i + 1])
        h = (logsnr(schedule, times[i + 1]) - logsnr(schedule, times[i])) / 2
        # First order on the first step, after a step of length 0, and on the step to t = 0, where
        # h is unbounded.
        second_order = ops.logical_and(previous_h > 1e-6, noise_s > 1e-3)
        r = ops.where(second_order, h / ops.maximum(previous_h, 1e-6), 0.0)
        extrapolated_x0 = x0 + r / 2 * (x0 - previous_x0)
        decay = noise_s / ops.maximum(noise_t, 1e-6)
        return decay * x + (signal_s - decay * signal_t) * extrapolated_x0, x0, h

    return _loop(step, x, times, (ops.zeros_like(x), ops.zeros(())), num_frames)


def cold(denoiser, schedule, x, times, *, endpoint=None, num_frames=None):
    """Cold Diffusion: replaces the degradation D at t by that at s.

        x_s = x_t - D(x0, t) + D(x0, s),  D(x0, t) = signal_t x0 + noise_t endpoint

    With the predicted eps as endpoint D(x0, t) = x_t, and this is DDIM. With a known endpoint the
    result is a mean of all predicted x0, weighted by the steps in signal_rate.

    Args:
        endpoint: known (B, H, W, C) at t = 1; None: the predicted eps.

    Reference: Bansal et al. 2022, arXiv:2208.09392, algorithm 2.
    """

    def step(i, x):
        x0, eps = denoiser(x, times[i])
        pair = x0, eps if endpoint is None else endpoint
        level_t, level_s = rates(schedule, times[i]), rates(schedule, times[i + 1])
        return (x - mix(pair, level_t) + mix(pair, level_s),)

    return _loop(step, x, times, num_frames=num_frames)


SAMPLERS = {"ddpm": ddpm, "ddim": ddim, "heun": heun, "dpmpp_2m": dpmpp_2m, "cold": cold}
STOCHASTIC = {"ddpm"}  # samplers with an argument noise_fn
WITH_ENDPOINT = {"cold"}  # samplers with an argument endpoint
