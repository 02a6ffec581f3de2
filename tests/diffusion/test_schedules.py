import math

import numpy as np
import pytest

from keras_diffusion.diffusion import schedules
from keras_diffusion.diffusion.schedules import FLOOR, SCHEDULES

every_schedule = pytest.mark.parametrize("name", sorted(SCHEDULES))
TIMES = np.linspace(0, 1, 1001, dtype="float32")
BETAS = {  # beta(t), t in [0, 1], of a discrete chain of T = 1000 steps
    "linear": lambda t: 1e-4 + (0.02 - 1e-4) * t,
    "inverse_linear": lambda t: 0.02 - (0.02 - 1e-4) * t,
    "constant": lambda t: np.full_like(t, 0.01),
}


def cumulative_product(betas):
    return np.maximum(np.concatenate([[1.0], np.cumprod(1 - betas)]), FLOOR)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    # The limit of small steps differs from 1000 steps at second order in beta.
    [("linear", 3e-3), ("inverse_linear", 6e-3), ("constant", 1e-5)],
)
def test_alpha_bar_is_the_product_of_one_minus_beta(name, tolerance):
    expected = cumulative_product(BETAS[name](np.linspace(0, 1, 1000)))
    np.testing.assert_allclose(SCHEDULES[name](TIMES), expected, atol=tolerance, rtol=0)
    if name != "constant":
        middles = (np.arange(200_000) + 0.5) / 200_000
        expected = cumulative_product(BETAS[name](middles) / 200)[::200]
        np.testing.assert_allclose(SCHEDULES[name](TIMES), expected, atol=3e-5, rtol=1e-3)


def test_cosine_and_sigmoid_formulas():
    t = TIMES.astype("float64")
    f = np.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    np.testing.assert_allclose(SCHEDULES["cosine"](TIMES), np.maximum(f / f[0], FLOOR), atol=2e-6)
    f = 1 / (1 + np.exp(3 - 6 * t))
    expected = np.maximum((f[-1] - f) / (f[-1] - f[0]), FLOOR)
    np.testing.assert_allclose(SCHEDULES["sigmoid"](TIMES), expected, atol=2e-6)


@every_schedule
def test_alpha_bar_decreases_from_one_to_the_floor(name):
    alpha_bar = np.array(SCHEDULES[name](TIMES))
    assert alpha_bar[0] == 1.0
    assert np.float32(FLOOR) <= alpha_bar.min() < 1e-4
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
    assert (np.diff(logsnr) < 1e-5).all()  # constant at the floor, up to rounding
    inner = slice(10, 900)
    expected = 2 * np.log(signal[inner] / noise[inner])
    np.testing.assert_allclose(logsnr[inner], expected, rtol=1e-3, atol=1e-3)


@every_schedule
def test_time_of_logsnr_inverts_logsnr(name):
    schedule = SCHEDULES[name]
    values = np.linspace(-7, 9, 33, dtype="float32")
    times = schedules.time_of_logsnr(schedule, values)
    np.testing.assert_allclose(schedules.logsnr(schedule, times), values, atol=2e-3)
    back = schedules.time_of_logsnr(schedule, schedules.logsnr(schedule, TIMES[20:900]))
    np.testing.assert_allclose(back, TIMES[20:900], atol=1e-4)
    ends = schedules.time_of_logsnr(schedule, [-100.0, 100.0])
    np.testing.assert_allclose(ends, [1, 0], atol=1e-6)
