"""The test double: the closed-form best denoiser for data x0 ~ N(0, std^2).

x_t = a x0 + n eps is Gaussian with variance a^2 std^2 + n^2, so E[x0 | x_t] is linear in
x_t, and so is the exact solution of the ODE that DDIM, Heun and 2M discretise.
"""

from keras_diffusion.diffusion.schedules import rates

STD = 0.5


def gaussian_denoiser(schedule, std=STD):
    """Returns denoiser(x_t, t) -> (E[x0 | x_t], eps); `t` a scalar."""

    def denoiser(x_t, t):
        signal, noise = rates(schedule, t)
        variance = signal**2 * std**2 + noise**2
        return signal * std**2 / variance * x_t, noise / variance * x_t

    return denoiser


def marginal_std(schedule, t, std=STD):
    """Standard deviation of x_t. The exact ODE keeps x_t / marginal_std(t) constant."""
    signal, noise = rates(schedule, t)
    return (signal**2 * std**2 + noise**2) ** 0.5
