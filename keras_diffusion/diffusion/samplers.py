"""Samplers: pure functions of (denoiser, schedule, x, times), each one compiled loop.

Every sampler takes

    denoiser: (x_t, t) -> (x0, eps), see denoiser.py.
    schedule: t -> alpha_bar.
    x: (B, H, W, C), what sits at times[0].
    times: (num_steps + 1,) decreasing times, see grids.py; a tensor of any length, so one
        traced graph serves every number of steps.
    num_frames: None, or how many pictures of the way to return as well.

and returns the x that sits at times[-1], or with `num_frames` the pair (x, frames), frames
(num_frames + 1, B, H, W, C) evenly spread over the steps, the first one the start.
"""

from keras import ops

from keras_diffusion.diffusion.process import mix
from keras_diffusion.diffusion.schedules import logsnr, rates


def _loop(step, x, times, memory=(), num_frames=None):
    """Runs `x, *memory = step(i, x, *memory)` over all steps as one graph."""
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
    """DDIM: mix the predicted pair again at the next level (Song et al. 2020, equation 12).

        x_s = signal_s x0 + sqrt(noise_s^2 - sigma^2) eps + sigma z
        sigma = eta noise_s / noise_t sqrt(1 - alpha_bar_t / alpha_bar_s)     (equation 16)

    Args:
        eta: 0 is deterministic, 1 is ancestral sampling (DDPM).
        noise_fn: step index -> standard Gaussian z of the shape of `x`; needed if eta > 0.

    Reference: arXiv:2010.02502.
    """
    if eta and noise_fn is None:
        raise ValueError("eta > 0 adds fresh noise: give a noise_fn.")

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
    """Ancestral sampling from q(x_s | x_t, x0) (Ho et al. 2020, equations 6 and 7).

    That posterior is DDIM's step at eta = 1, for steps of any size.
    """
    return ddim(denoiser, schedule, x, times, eta=1.0, noise_fn=noise_fn, num_frames=num_frames)


def heun(denoiser, schedule, x, times, *, num_frames=None):
    """Second order: DDIM with x0 averaged over both ends of the step, 2 calls per step.

        d(x / noise_rate) = x0 d(signal_rate / noise_rate),  by the trapezoid rule

    Karras et al. (2022, arXiv:2206.00364, algorithm 1) average eps in d(x / signal_rate) =
    eps d sigma instead. The order is the same, but sigma is some hundreds at the start, and
    a few long steps blow up: at 3 steps to a standard deviation 8 times too large.
    """

    def step(i, x):
        x0, eps = denoiser(x, times[i])
        signal_t, noise_t = rates(schedule, times[i])
        level_s = rates(schedule, times[i + 1])
        x0_end, _ = denoiser(mix((x0, eps), level_s), times[i + 1])
        # x / noise_rate has no bound at t = 0: the last step stays first order.
        x0_mean = ops.where(level_s[1] > 1e-3, (x0 + x0_end) / 2, x0)
        eps_mean = eps + signal_t / ops.maximum(noise_t, 1e-3) * (x0 - x0_mean)
        return (mix((x0_mean, eps_mean), level_s),)

    return _loop(step, x, times, num_frames=num_frames)


def dpmpp_2m(denoiser, schedule, x, times, *, num_frames=None):
    """DPM-Solver++(2M): DDIM with x0 extrapolated from the step before, 1 call per step.

        D = (1 + r / 2) x0_i - (r / 2) x0_{i-1},  r = h_i / h_{i-1},  h = half the logSNR step

    Reference: Lu et al. 2022, arXiv:2211.01095, algorithm 2.
    """

    def step(i, x, x0_before, h_before):
        x0, _ = denoiser(x, times[i])
        (signal_t, noise_t), (signal_s, noise_s) = (
            rates(schedule, times[i]),
            rates(schedule, times[i + 1]),
        )
        h = (logsnr(schedule, times[i + 1]) - logsnr(schedule, times[i])) / 2
        # First order on the first step, on the step to t = 0, where h has no bound, and
        # after a step of no length.
        second_order = ops.logical_and(h_before > 1e-6, noise_s > 1e-3)
        r = ops.where(second_order, h / ops.maximum(h_before, 1e-6), 0.0)
        x0_ahead = x0 + r / 2 * (x0 - x0_before)
        decay = noise_s / ops.maximum(noise_t, 1e-6)
        return decay * x + (signal_s - decay * signal_t) * x0_ahead, x0, h

    return _loop(step, x, times, (ops.zeros_like(x), ops.zeros(())), num_frames)


def cold(denoiser, schedule, x, times, *, endpoint=None, num_frames=None):
    """Cold Diffusion's improved update: take off the degradation at t, put on that at s.

        x_s = x_t - D(x0, t) + D(x0, s),  D(x0, t) = signal_t x0 + noise_t endpoint

    With the predicted eps as endpoint D(x0, t) is x_t itself, and this is DDIM. If a known endpoint
    is held, what began as the endpoint ends as a mean of all predictions of x0, each weighted by
    its step in signal_rate: early predictions stay in it. DDIM ends with the last one.

    Args:
        endpoint: (B, H, W, C), what sits at t = 1, if it is known and to be held; None: the
            eps of each predicted pair.

    Reference: Bansal et al. 2022, arXiv:2208.09392, algorithm 2.
    """

    def step(i, x):
        x0, eps = denoiser(x, times[i])
        pair = x0, eps if endpoint is None else endpoint
        level_t, level_s = rates(schedule, times[i]), rates(schedule, times[i + 1])
        return (x - mix(pair, level_t) + mix(pair, level_s),)

    return _loop(step, x, times, num_frames=num_frames)


SAMPLERS = {"ddpm": ddpm, "ddim": ddim, "heun": heun, "dpmpp_2m": dpmpp_2m, "cold": cold}
STOCHASTIC = {"ddpm"}  # the samplers that need a noise_fn
HOLDING = {"cold"}  # the samplers that hold a known endpoint
