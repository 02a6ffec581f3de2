"""Kolmogorov-Smirnov test of whether x_t is Gaussian noise."""

import numpy as np
from scipy import stats

from keras_diffusion.diffusion.process import mix

LEVEL = 0.05  # of significance


def p_values(pixels, level, *, size=None, repeats=1, seed=0):
    """Returns p-values of x_t against a standard Gaussian, at several steps.

    They depend on `size`: with more values, a smaller remainder of the images is detected.

    Args:
        pixels: values of x0, an array of any shape.
        level: (signal_rates, noise_rates), each (S,), of the steps.
        size: how many random pixels are used in each test; None: all.
        repeats: tests of each step, with other noise and other pixels.
        seed: int.

    Returns:
        float64 (repeats, S).

    Reference: Massey 1951, doi:10.1080/01621459.1951.10500769; `scipy.stats.kstest`.
    """
    rng = np.random.default_rng(seed)
    pixels = np.ravel(pixels)
    values = np.empty((repeats, len(level[0])))
    for step, rates in enumerate(zip(*map(np.asarray, level), strict=True)):
        for repeat in range(repeats):
            x0 = pixels if size is None else rng.choice(pixels, size)
            x_t = mix((x0, rng.standard_normal(x0.size)), rates)
            values[repeat, step] = stats.kstest(x_t, "norm").pvalue
    return values


def first_gaussian(values, steps, level=LEVEL):
    """Returns the first of `steps` whose p-value is above `level`, or None."""
    above = np.flatnonzero(np.asarray(values) > level)
    return int(np.asarray(steps)[above[0]]) if above.size else None
