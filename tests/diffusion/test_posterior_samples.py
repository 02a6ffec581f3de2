"""Restoration of Gaussian images, whose posterior is known."""

import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion.diffusion import operators, restoration
from keras_diffusion.diffusion.process import mix
from keras_diffusion.diffusion.schedules import cosine, rates

SIDE = 4
rng = np.random.default_rng(0)
ROOT = rng.normal(size=(16, 16)) / 8
COVARIANCE = ROOT @ ROOT.T + 0.02 * np.eye(16)
KNOWN = rng.integers(0, 2, (SIDE, SIDE))
X_T = rng.normal(size=(3, SIDE, SIDE, 1)).astype("float32")
OPERATORS = {
    "mask": operators.mask(KNOWN),
    "downscale": operators.downscale(2),
}


def gaussian(t):
    """The matrix M of E[x0 | x_t] = M x_t at a time."""
    signal, noise = (float(rate) for rate in rates(cosine, t))
    return signal * COVARIANCE @ np.linalg.inv(signal**2 * COVARIANCE + noise**2 * np.eye(16))


def with_pullback(x_t, t):
    matrix = gaussian(t).astype("float32")  # symmetric
    return times(matrix, x_t), lambda u: times(matrix, u)


def times(matrix, x):
    return tf.reshape(tf.reshape(x, (-1, 16)) @ matrix, (-1, SIDE, SIDE, 1))


def rows_of(operator):
    """The rows of A that are not 0."""
    images = np.eye(16, dtype="float32").reshape(16, SIDE, SIDE, 1)
    matrix = np.asarray(operator.apply(images)).reshape(16, -1).T
    return matrix[np.abs(matrix).sum(1) > 0]


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("noise_std", [0.0, 0.3])
@pytest.mark.parametrize("t", [0.2, 0.9])
def test_mmps_is_the_posterior_mean(name, noise_std, t):
    operator, truth = OPERATORS[name], rng.normal(size=(3, SIDE, SIDE, 1)).astype("float32")
    measurement = operator.apply(truth)
    denoiser = restoration.mmps(
        with_pullback, cosine, operator, measurement, noise_std=noise_std, cg_steps=16, ridge=0.0
    )
    x0, eps = (np.asarray(part) for part in denoiser(X_T, t))
    signal, noise = (float(rate) for rate in rates(cosine, t))
    np.testing.assert_allclose(mix((x0, eps), (signal, noise)), X_T, atol=1e-4)
    # x_t is one more measurement of x0: the exact mean of x0 given both.
    rows = rows_of(operator)
    known = (truth.reshape(3, 16) @ rows.T).T
    both = np.concatenate([signal * np.eye(16), rows])
    noises = np.concatenate([np.full(16, noise**2), np.full(len(rows), noise_std**2 + 1e-8)])
    values = np.concatenate([X_T.reshape(3, 16).T, known])
    gain = COVARIANCE @ both.T @ np.linalg.inv(both @ COVARIANCE @ both.T + np.diag(noises))
    np.testing.assert_allclose(x0.reshape(3, 16), (gain @ values).T, atol=5e-3)


def test_the_ridge_holds_errors_of_the_derivative_back():
    operator = OPERATORS["mask"]
    measurement = operator.apply(rng.normal(size=(3, SIDE, SIDE, 1)).astype("float32"))
    error = 0.1 * np.random.default_rng(1).normal(size=(16, 16)).astype("float32")

    def denoiser(x_t, t):  # not the derivative of any posterior mean
        matrix = gaussian(t).astype("float32")
        return times(matrix, x_t), lambda u: times(matrix + error, u)

    def largest(ridge):
        restored = restoration.mmps(
            denoiser, cosine, operator, measurement, cg_steps=16, ridge=ridge
        )
        return np.abs(np.asarray(restored(X_T, 0.9)[0])).max()

    assert largest(restoration.RIDGE) < largest(0.0) / 2


def test_projections():
    operator = OPERATORS["downscale"]
    small = rng.uniform(-1, 1, (3, 2, 2, 1)).astype("float32")
    nearest = np.asarray(restoration.project(X_T, operator, small))
    np.testing.assert_allclose(operator.apply(nearest), small, atol=1e-5)
    change = (nearest - X_T).reshape(3, 2, 2, 2, 2)  # the same in each block of 2x2
    np.testing.assert_allclose(
        change, np.broadcast_to(change[:, :, :1, :, :1], change.shape), atol=1e-5
    )
    bounded = np.asarray(restoration.project_clipped(X_T, operator, small, 1.0))
    assert np.abs(nearest).max() > 1 >= np.abs(bounded).max()
    np.testing.assert_allclose(operator.apply(bounded), small, atol=2e-2)


def test_replacement_keeps_what_is_known_and_the_rest_of_x0():
    operator = OPERATORS["mask"]
    known, missing = KNOWN[..., None], 1 - KNOWN[..., None]
    x0, _ = restoration.replacement(
        lambda x_t, t: (0.3 * x_t, None), cosine, operator, operator.apply(0 * X_T + 0.7)
    )(X_T, 0.5)
    np.testing.assert_allclose(x0 * known, 0.7 * known + 0 * X_T, atol=1e-6)
    np.testing.assert_allclose(x0 * missing, 0.3 * X_T * missing, atol=1e-6)
