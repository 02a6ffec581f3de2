"""Restoration: denoisers that agree with a measurement y = A x0 + noise_std n.

Each is a denoiser made from a denoiser, so that every sampler restores. A is an `Operator`, see
operators.py; x0 and y have the range of x.
"""

from keras import ops

from keras_diffusion.diffusion.process import mix, pair_from_x0
from keras_diffusion.diffusion.samplers import ddpm
from keras_diffusion.diffusion.schedules import image_rates, rates

RIDGE = 0.01  # of `mmps`, see `_solve`
PROJECTION_STEPS = 8  # of conjugate gradients; one is exact for the operators of operators.py
CLIPPED_STEPS = 20  # of projection and clipping in turn, at the end


def mmps(
    denoiser,
    schedule,
    operator,
    measurement,
    *,
    noise_std=0.0,
    cg_steps=1,
    ridge=RIDGE,
    clip=None,
):
    """Moment-matching posterior sampling: the mean of x0 given x_t and the measurement.

        x0 = m + V A^T z,  (A V A^T + noise_std^2) z = y - A m
        m = E[x0 | x_t],  V = Cov[x0 | x_t] = noise_rate^2 / signal_rate J^T,  J = dm / dx_t

    z comes from `cg_steps` of conjugate gradients with one product J^T u each. J of a network is
    not exactly a covariance: without the ridge, errors of its small eigenvalues are amplified, the
    more the more steps are taken (tests/diffusion/test_posterior_samples.py).

    Args:
        denoiser: (x_t, t) -> (x0, pullback), pullback: u -> J^T u; x0 is not clipped.
        schedule: t -> alpha_bar.
        operator: `Operator`.
        measurement: y.
        noise_std: scalar, standard deviation of the noise in y.
        cg_steps: int.
        ridge: see `_solve`.
        clip: bound of |x0|, 1 for pixels; None: no bound.

    Returns:
        denoiser: (x_t, t) -> (x0, eps).

    Reference: Rozet et al. 2024, arXiv:2405.13712, section 4.2.
    """

    def restored(x_t, t):
        mean, pullback = denoiser(x_t, t)
        level = image_rates(schedule, t, x_t)
        scale = level[1] ** 2 / level[0]

        def product(z):
            update = scale * pullback(operator.adjoint(z))
            return update, operator.apply(update) + noise_std**2 * z

        x0 = mean + _solve(product, measurement - operator.apply(mean), mean, cg_steps, ridge)
        return pair_from_x0(_clipped(x0, clip), x_t, level)

    return restored


def replacement(denoiser, schedule, operator, measurement, *, clip=None):
    """Replaces what is known of x0 by the measurement, and leaves the rest as it is.

    Reference: Song et al. 2021, arXiv:2011.13456, appendix I.2; Wang et al. 2023,
        arXiv:2212.00490 (any linear operator).
    """

    def restored(x_t, t):
        x0, _ = denoiser(x_t, t)
        x0 = project(x0, operator, measurement)
        return pair_from_x0(_clipped(x0, clip), x_t, image_rates(schedule, t, x_t))

    return restored


def repaint(denoiser, schedule, x, times, *, noise_fn, resamplings=5):
    """A sampler that takes each step of `ddpm` several times, with noise added in between.

    With the denoiser of `replacement` it is RePaint: the noise gives the unknown part of the image
    time to fit the known part.

    Args:
        denoiser, schedule, x, times: see samplers.py.
        noise_fn: index -> standard Gaussian noise of the shape of `x`.
        resamplings: int, number of times that each step is taken.

    Reference: Lugmayr et al. 2022, arXiv:2201.09865, algorithm 1 (with jumps of one step).
    """
    num_steps = (ops.shape(times)[0] - 1) * resamplings

    def step(i, x):
        ends = times[i // resamplings : i // resamplings + 2]
        x = ddpm(denoiser, schedule, x, ends, noise_fn=lambda _: noise_fn(2 * i))
        (signal_t, _), (signal_s, _) = rates(schedule, ends[0]), rates(schedule, ends[1])
        ratio = ops.minimum(signal_t / signal_s, 1.0)
        again = mix((x, noise_fn(2 * i + 1)), (ratio, ops.sqrt(1 - ratio**2)))
        return ops.where(i % resamplings == resamplings - 1, x, again)

    return ops.fori_loop(0, num_steps, step, x)


def project(x, operator, measurement):
    """Returns the point nearest to x with A x = y: x + A^T (A A^T)^-1 (y - A x)."""

    def product(z):
        update = operator.adjoint(z)
        return update, operator.apply(update)

    return x + _solve(product, measurement - operator.apply(x), x, PROJECTION_STEPS)


def project_clipped(x, operator, measurement, clip):
    """Returns a point near x with A x = y and |x| <= clip, by projections on both in turn."""

    def step(_, x):
        return _clipped(project(x, operator, measurement), clip)

    return ops.fori_loop(0, CLIPPED_STEPS, step, x)


def _solve(product, residual, x, num_steps, ridge=0.0):
    """Returns B z after `num_steps` of conjugate gradients for C z = residual, starting at 0.

    Args:
        product: z -> (B z, C z); C = A B, positive definite.
        residual: (N, ...); each row is a problem of its own.
        x: a tensor of the shape of B z.
        num_steps: int or scalar int tensor.
        ridge: this times r C r / r r is added to the diagonal of C; r is the first residual.
    """

    def step(i, state):
        total, residual, direction, squared, added = state
        update, image = product(direction)
        curvature = _dot(direction, image)
        added = ops.where(i == 0, ridge * curvature / ops.maximum(squared, 1e-20), added)
        image = image + _rows(added, image) * direction
        curvature = _dot(direction, image)
        # A derivative of a network is not exactly a covariance: no step where it is not positive.
        length = ops.where(curvature > 1e-20, squared / ops.maximum(curvature, 1e-20), 0.0)
        total = total + _rows(length, x) * update
        residual = residual - _rows(length, residual) * image
        previous, squared = squared, _dot(residual, residual)
        ratio = squared / ops.maximum(previous, 1e-20)
        return total, residual, residual + _rows(ratio, residual) * direction, squared, added

    squared = _dot(residual, residual)
    state = ops.zeros_like(x), residual, residual, squared, ops.zeros_like(squared)
    return ops.fori_loop(0, num_steps, step, state)[0]


def _dot(a, b):
    """Returns the inner product of each row, (N,)."""
    return ops.sum(a * b, axis=tuple(range(1, len(a.shape))))


def _rows(values, like):
    """Returns values (N,) as (N, 1, ...), to broadcast to `like`."""
    return ops.reshape(values, (-1,) + (1,) * (len(like.shape) - 1))


def _clipped(x, clip):
    return x if clip is None else ops.clip(x, -clip, clip)
