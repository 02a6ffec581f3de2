import math

import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion.diffusion import schedules
from keras_diffusion.diffusion.schedules import FLOOR, SCHEDULES

every_schedule = pytest.mark.parametrize("name", sorted(SCHEDULES))
TIMES = np.linspace(0, 1, 1001, dtype="float32")

BETAS = {  # beta at time t of a chain of T = 1000
    "linear": lambda t: 1e-4 + (0.02 - 1e-4) * t,
    "inverse_linear": lambda t: 0.02 - (0.02 - 1e-4) * t,
    "constant": lambda t: np.full_like(t, 0.01),
}


def product(betas):
    return np.maximum(np.concatenate([[1.0], np.cumprod(1 - betas)]), FLOOR)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    # The limit of many steps against 1000 steps: the betas differ at second order.
    [("linear", 3e-3), ("inverse_linear", 6e-3), ("constant", 1e-5)],
)
def test_alpha_bar_is_the_product_of_one_minus_beta(name, tolerance):
    expected = product(BETAS[name](np.linspace(0, 1, 1000)))
    np.testing.assert_allclose(SCHEDULES[name](TIMES), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", ["linear", "inverse_linear"])
def test_alpha_bar_is_the_limit_of_many_small_steps(name):
    substeps = 200
    middles = (np.arange(1000 * substeps) + 0.5) / (1000 * substeps)
    expected = product(BETAS[name](middles) / substeps)[::substeps]
    np.testing.assert_allclose(SCHEDULES[name](TIMES), expected, atol=3e-5, rtol=1e-3)


def test_inverse_linear_is_linear_with_its_betas_reversed():
    whole = SCHEDULES["linear"](1.0)
    product = SCHEDULES["linear"](TIMES) * SCHEDULES["inverse_linear"](1 - TIMES)
    np.testing.assert_allclose(product, np.full(1001, whole), rtol=1e-4)


def test_cosine_formula():
    f = np.cos((TIMES.astype("float64") + 0.008) / 1.008 * math.pi / 2) ** 2
    np.testing.assert_allclose(SCHEDULES["cosine"](TIMES), np.maximum(f / f[0], FLOOR), atol=2e-6)


def test_sigmoid_formula():
    f = 1 / (1 + np.exp(3 - 6 * TIMES.astype("float64")))
    expected = np.maximum((f[-1] - f) / (f[-1] - f[0]), FLOOR)
    np.testing.assert_allclose(SCHEDULES["sigmoid"](TIMES), expected, atol=2e-6)


@every_schedule
def test_alpha_bar_falls_from_one_to_no_less_than_the_floor(name):
    alpha_bar = np.array(SCHEDULES[name](TIMES))
    assert alpha_bar[0] == 1.0
    assert alpha_bar[-1] < 1e-4
    assert alpha_bar.min() >= np.float32(FLOOR)
    steps = np.diff(alpha_bar)
    assert (steps <= 0).all()
    assert (steps[TIMES[1:] < 0.9] < 0).all()


@every_schedule
def test_rates_and_logsnr(name):
    schedule = SCHEDULES[name]
    signal, noise = (np.array(rate) for rate in schedules.rates(schedule, TIMES))
    np.testing.assert_allclose(signal**2, schedule(TIMES), rtol=1e-5)
    np.testing.assert_allclose(signal**2 + noise**2, 1, atol=1e-6)
    assert (signal[0], noise[0]) == (1.0, 0.0)
    logsnr = np.array(schedules.logsnr(schedule, TIMES))
    assert np.isfinite(logsnr).all() and logsnr.min() > -11.6 and logsnr.max() < 16.2
    assert (np.diff(logsnr) < 1e-5).all()  # flat where floored, up to rounding
    inner = slice(10, 900)
    np.testing.assert_allclose(
        logsnr[inner], 2 * np.log(signal[inner] / noise[inner]), rtol=1e-3, atol=1e-3
    )


@every_schedule
def test_time_of_logsnr_inverts_logsnr(name):
    schedule = SCHEDULES[name]
    values = np.linspace(-7, 9, 33, dtype="float32")
    times = schedules.time_of_logsnr(schedule, values)
    np.testing.assert_allclose(schedules.logsnr(schedule, times), values, atol=2e-3)
    inner = TIMES[20:900]
    back = schedules.time_of_logsnr(schedule, schedules.logsnr(schedule, inner))
    np.testing.assert_allclose(back, inner, atol=1e-4)
    ends = schedules.time_of_logsnr(schedule, [-100.0, 100.0])
    np.testing.assert_allclose(ends, [1, 0], atol=1e-6)


@every_schedule
def test_scalar_vector_and_graph_agree(name):
    schedule = SCHEDULES[name]
    vector = np.array(schedule(TIMES[::100]))
    assert vector.shape == (11,)
    np.testing.assert_allclose([schedule(t) for t in TIMES[::100].tolist()], vector, atol=1e-6)
    traced = tf.function(lambda t: (schedule(t), *schedules.rates(schedule, t)))
    np.testing.assert_allclose(traced(tf.constant(TIMES[::100]))[0], vector, atol=1e-6)
    assert all(part.shape == () for part in traced(tf.constant(0.3)))
