"""The forward process alone: alpha_bar and beta, when x_t passes for noise, pictures of it."""

import numpy as np

from keras_diffusion.diffusion.process import mix
from keras_diffusion.diffusion.schedules import SCHEDULES, rates
from keras_diffusion.evaluation.normality import first_gaussian, p_values
from studies.noise_schedules import NUM_TIMESTEPS

STAGES = 5  # of the pictures: every 200 of 1000 steps
COARSE = 10  # times as far apart are the steps that other numbers of pixels are tested at
POOLED = 1000  # images whose pixels are drawn from


def curves(names):
    """Returns {schedule: {"alpha_bar", "beta"}}, lists over the steps 1 .. 1000."""
    times = np.arange(NUM_TIMESTEPS + 1) / NUM_TIMESTEPS
    found = {}
    for name in names:
        alpha_bar = np.array(SCHEDULES[name](times.astype("float32")), "float64")
        beta = 1 - alpha_bar[1:] / alpha_bar[:-1]
        found[name] = {"alpha_bar": _short(alpha_bar[1:]), "beta": _short(beta)}
    return found


def normality(images, settings):
    """Tests x_t against Gaussian noise at every step.

    Twice: as the forward process is defined, with 1000 pixels of many digits in [-1, 1]; and as
    the public code of the study does, with all pixels of one digit in [-0.5, 0.5] and a noise
    rate of 1 - signal_rate instead of its complement in squares.

    Args:
        images: uint8 (N, H, W, C), real ones.
        settings: `Settings`.

    Returns:
        {schedule: dict of `p` (medians of the tests of each step), `first` (of those medians
        above 0.05), `by_size` ({pixels: first}), `study_p` (of one test), `study_firsts` (of each
        test: the first p above 0.05, which the study quotes)}; steps from 1, or None.
    """
    pooled = images[:POOLED].astype("float64") / 127.5 - 1
    digit = images[0].astype("float64") / 255 - 0.5
    steps = tested(settings.test_every)
    coarse = tested(COARSE * settings.test_every)
    options = {"repeats": settings.tests, "seed": settings.seed}
    found = {}
    for name in settings.schedules:
        signal, noise = _level(name, steps)
        p = np.median(p_values(pooled, (signal, noise), size=1000, **options), axis=0)
        study = p_values(digit, (signal, 1 - signal), **options)
        found[name] = {
            "p": _short(p),
            "first": first_gaussian(p, steps),
            "by_size": {
                size: _first(pooled, name, coarse, size=size, **options) for size in settings.sizes
            },
            "study_p": _short(study[0]),
            "study_firsts": [first_gaussian(each, steps) for each in study],
        }
    return found


def tested(every):
    """Returns the steps that are tested, up to 1000."""
    return np.arange(every, NUM_TIMESTEPS + 1, every)


def _first(pixels, name, steps, **options):
    p = np.median(p_values(pixels, _level(name, steps), **options), axis=0)
    return first_gaussian(p, steps)


def _level(name, steps):
    times = (steps / NUM_TIMESTEPS).astype("float32")
    return [np.array(rate, "float64") for rate in rates(SCHEDULES[name], times)]


def pictures(image, names, seed):
    """Returns a picture on its way to noise, uint8 (schedules, STAGES + 1, H, W, C)."""
    x0 = image.astype("float32") / 127.5 - 1
    eps = np.random.default_rng(seed).standard_normal(image.shape)
    times = np.arange(STAGES + 1, dtype="float32") / STAGES
    rows = []
    for name in names:
        levels = zip(*(np.array(rate) for rate in rates(SCHEDULES[name], times)), strict=True)
        rows.append([mix((x0, eps), level) for level in levels])
    return np.clip(np.rint(np.array(rows) * 127.5 + 127.5), 0, 255).astype("uint8")


def _short(values):
    """A list of floats of 5 digits that count."""
    return [float(f"{value:.5g}") for value in values]
