"""Tests of images themselves: PSNR and SSIM, and whether x_t is Gaussian noise."""

import numpy as np
import pytest

from keras_diffusion.diffusion.schedules import SCHEDULES, rates
from keras_diffusion.evaluation.normality import first_gaussian, p_values
from keras_diffusion.evaluation.restoration import compare

rng = np.random.default_rng(0)
IMAGES = rng.integers(60, 200, (3, 16, 20, 3), np.uint8)


def test_psnr_and_ssim():
    worse = IMAGES.astype(int) + rng.integers(-20, 21, IMAGES.shape)
    scores = compare(worse.astype("uint8"), IMAGES)
    error = np.square(worse - IMAGES.astype(float)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(scores["psnr"], 10 * np.log10(255**2 / error), rtol=1e-4)
    equal = compare(IMAGES[:1], IMAGES[0])  # one reference for all
    assert np.isinf(equal["psnr"]).all() and (scores["ssim"] < equal["ssim"] + 1e-5).all()
    assert equal["ssim"] == pytest.approx(1, abs=1e-5)
    for images, references in ((IMAGES / 255, IMAGES), (IMAGES, IMAGES[:2]), (IMAGES[0],) * 2):
        with pytest.raises(ValueError, match="images: "):
            compare(images, references)


def test_p_values_of_pure_noise_are_uniform():
    values = p_values(np.ones(200), (np.zeros(200), np.ones(200)), repeats=2)
    assert values.shape == (2, 200)
    for low in (0.0, 0.25, 0.5, 0.75):
        assert 0.15 < ((values > low) & (values < low + 0.25)).mean() < 0.35


@pytest.mark.parametrize("level", [(0.5, 0.866), (0.0, 0.9)], ids=["remainder", "narrow"])
def test_what_is_not_noise_is_detected_with_enough_pixels(level):
    pixels = np.full((100, 100), -1.0)
    few, many = (
        np.median(p_values(pixels, ([level[0]], [level[1]]), size=size, repeats=9))
        for size in (10, 10_000)
    )
    assert many < 1e-6 < few


def test_more_pixels_detect_a_smaller_remainder():
    digit = np.where(np.arange(784) % 8 == 0, 1.0, -1.0)
    steps = np.arange(1, 26)
    level = [np.array(rate) for rate in rates(SCHEDULES["cosine"], steps / 25)]
    firsts = [
        first_gaussian(np.median(p_values(digit, level, size=size, repeats=3), axis=0), steps)
        for size in (100, 10_000)
    ]
    assert firsts[0] < firsts[1]
    assert first_gaussian([0, 0.05, 0.2, 0.01, 0.6], [10, 20, 30, 40, 50]) == 30
    assert first_gaussian([0.0, 0.01], [1, 2]) is None
