"""The forward process: alpha_bar and beta, when x_t passes as noise, and images of it."""

import numpy as np

from keras_diffusion.diffusion.process import mix
from keras_diffusion.diffusion.schedules import SCHEDULES, rates
from keras_diffusion.evaluation.normality import first_gaussian, p_values
from studies.noise_schedules import NUM_TIMESTEPS

STAGES = 5  # of the images: every 200 of 1000 steps
COARSE = 10  # times the distance of the steps, for other numbers of pixels
POOLED = 1000  # images whose pixels are tested


def curves(names):
    """Returns {schedule: {"alpha_bar", "beta"}}, arrays over the steps 1 .. 1000."""
    times = np.arange(NUM_TIMESTEPS + 1) / NUM_TIMESTEPS
    result = {}
    for name in names:
        alpha_bar = np.array(SCHEDULES[name](times.astype("float32")), "float64")
        result[name] = {"alpha_bar": alpha_bar[1:], "beta": 1 - alpha_bar[1:] / alpha_bar[:-1]}
    return result


def normality(images, settings):
    """Tests x_t against Gaussian noise at every step.

    Twice: for the forward process as defined, with 1000 pixels of many digits in [-1, 1]; and as
    in the public code of the study, with all pixels of one digit in [-0.5, 0.5] and a noise rate
    of 1 - signal_rate.

    Args:
        images: uint8 (N, H, W, C), real ones.
        settings: `Settings`.

    Returns:
        {schedule: dict of `p` (medians of the tests of each step), `first` (step of the first
        median above 0.05), `by_size` ({pixels: first}), `study_p` (of one test), `study_firsts`
        (of each test: the first p above 0.05)}; steps from 1, or None if there is none.
    """
    pooled = images[:POOLED].astype("float64") / 127.5 - 1
    digit = images[0].astype("float64") / 255 - 0.5
    steps = tested_steps(settings.test_every)
    coarse = tested_steps(COARSE * settings.test_every)
    options = {"repeats": settings.tests, "seed": settings.seed}
    result = {}
    for name in settings.schedules:
        signal, noise = _rates(name, steps)
        p = np.median(p_values(pooled, (signal, noise), size=1000, **options), axis=0)
        study = p_values(digit, (signal, 1 - signal), **options)
        result[name] = {
            "p": _rounded(p),
            "first": first_gaussian(p, steps),
            "by_size": {
                size: _first(pooled, name, coarse, size=size, **options) for size in settings.sizes
            },
            "study_p": _rounded(study[0]),
            "study_firsts": [first_gaussian(each, steps) for each in study],
        }
    return result


def tested_steps(every):
    """Returns the steps that are tested, up to 1000."""
    return np.arange(every, NUM_TIMESTEPS + 1, every)


def _first(pixels, name, steps, **options):
    p = np.median(p_values(pixels, _rates(name, steps), **options), axis=0)
    return first_gaussian(p, steps)


def _rates(name, steps):
    times = (steps / NUM_TIMESTEPS).astype("float32")
    return [np.array(rate, "float64") for rate in rates(SCHEDULES[name], times)]


def frames(image, names, seed):
    """Returns an image as it becomes noise, uint8 (schedules, STAGES + 1, H, W, C)."""
    x0 = image.astype("float32") / 127.5 - 1
    eps = np.random.default_rng(seed).standard_normal(image.shape)
    times = np.arange(STAGES + 1, dtype="float32") / STAGES
    rows = []
    for name in names:
        levels = zip(*(np.array(rate) for rate in rates(SCHEDULES[name], times)), strict=True)
        rows.append([mix((x0, eps), level) for level in levels])
    return np.clip(np.rint(np.array(rows) * 127.5 + 127.5), 0, 255).astype("uint8")


def _rounded(values):
    """A list of floats with 5 significant digits."""
    return [float(f"{value:.5g}") for value in values]
