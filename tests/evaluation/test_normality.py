import numpy as np
import pytest

from keras_diffusion.diffusion.schedules import SCHEDULES, rates
from keras_diffusion.evaluation.normality import first_gaussian, p_values


def level_of(schedule, times):
    return [np.array(rate) for rate in rates(SCHEDULES[schedule], times)]


def test_p_values_of_pure_noise_are_uniform():
    found = p_values(np.ones(200), (np.zeros(200), np.ones(200)), repeats=2)
    assert found.shape == (2, 200)
    for low in (0.0, 0.25, 0.5, 0.75):
        assert 0.15 < ((found > low) & (found < low + 0.25)).mean() < 0.35


@pytest.mark.parametrize("level", [(0.5, 0.866), (0.0, 0.9)], ids=["a rest", "too narrow"])
def test_what_is_not_noise_is_found_with_enough_pixels(level):
    pixels = np.full((100, 100), -1.0)
    few, many = (
        np.median(p_values(pixels, ([level[0]], [level[1]]), size=size, repeats=9))
        for size in (10, 10_000)
    )
    assert many < 1e-6 < few


def test_more_pixels_find_less_of_a_rest():
    digit = np.where(np.arange(784) % 8 == 0, 1.0, -1.0)
    times = np.linspace(0.01, 1, 100)
    steps = np.arange(1, 101)
    level = level_of("cosine", times)
    firsts = [
        first_gaussian(np.median(p_values(digit, level, size=size, repeats=5), axis=0), steps)
        for size in (100, 1000, 10_000)
    ]
    assert firsts == sorted(firsts) and firsts[0] < firsts[-1]
    assert np.array_equal(p_values(digit, level), p_values(digit, level))


def test_the_first_step_above_the_level():
    assert first_gaussian([0, 0.05, 0.2, 0.01, 0.6], [10, 20, 30, 40, 50]) == 30
    assert first_gaussian([0.0, 0.01], [1, 2]) is None
