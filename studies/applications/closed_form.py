"""Restoration of images from priors whose posterior is known: is it the posterior?"""

import numpy as np
import tensorflow as tf
from keras import ops

from keras_diffusion.diffusion import operators, restoration, samplers, schedules, time_grids
from keras_diffusion.diffusion.process import pair_from_x0
from keras_diffusion.runtime.randomness import image_noise
from keras_diffusion.sampling.edit_functions import with_pullback
from studies.applications import examples
from studies.applications.priors import SIDE, STD, priors
from studies.report import Claim, number, table

TITLE = "In closed form, `restore` samples from the posterior"
CG_STEPS = (1, 3, 5, 8, 16)
DEFAULT = 3  # of `restore`
STEPS, DPS_STEPS = 20, 50
BIAS, VARIANCE, SHARE = 0.05, 0.4, 0.05  # largest errors, relative but for the share
OTHERS = ("replacement", "RePaint", "DPS")


def methods():
    """Returns {name: function (denoiser, operator, y, x, noise_fn) -> x}."""
    schedule = schedules.cosine
    times = time_grids.uniform_logsnr(schedule, STEPS)

    def mmps(cg_steps):
        def run(denoiser, operator, y, x, noise_fn):
            pulled = with_pullback(denoiser)
            restored = restoration.mmps(pulled, schedule, operator, y, cg_steps=cg_steps)
            return samplers.ddpm(restored, schedule, x, times, noise_fn=noise_fn)

        return run

    def replaced(denoiser, operator, y, x, noise_fn):
        return samplers.dpmpp_2m(
            restoration.replacement(denoiser, schedule, operator, y), schedule, x, times
        )

    def repainted(denoiser, operator, y, x, noise_fn):
        replacing = restoration.replacement(denoiser, schedule, operator, y)
        return restoration.repaint(replacing, schedule, x, times, noise_fn=noise_fn)

    def guided(denoiser, operator, y, x, noise_fn):
        grid = time_grids.uniform_logsnr(schedule, DPS_STEPS)
        return dps(with_pullback(denoiser), schedule, operator, y, x, grid, noise_fn)

    return {
        **{mmps_name(cg_steps): mmps(cg_steps) for cg_steps in CG_STEPS},
        **dict(zip(OTHERS, (replaced, repainted, guided), strict=True)),
    }


def mmps_name(cg_steps):
    """Returns the name of MMPS with a number of CG steps."""
    return f"MMPS, {cg_steps} CG step{'' if cg_steps == 1 else 's'}"


def dps(denoiser, schedule, operator, y, x, times, noise_fn):
    """Samples with `ddpm`, and moves x by the gradient of |y - A x0| after each step.

    Args:
        denoiser: (x_t, t) -> (x0, pullback), see `restoration.mmps`.
        schedule, x, times, noise_fn: see samplers.py.

    Reference: Chung et al. 2023, arXiv:2209.14687, algorithm 1 with a step of 1.
    """

    def step(i, x):
        x0, pullback = denoiser(x, times[i])
        residual = y - operator.apply(x0)
        size = ops.sqrt(ops.sum(residual**2, axis=(1, 2, 3), keepdims=True))
        change = pullback(operator.adjoint(residual)) / ops.maximum(size, 1e-6)
        pair = pair_from_x0(x0, x, schedules.rates(schedule, times[i]))
        ends = times[i : i + 2]
        return change + samplers.ddpm(
            lambda *_: pair, schedule, x, ends, noise_fn=lambda _: noise_fn(i)
        )

    return ops.fori_loop(0, ops.shape(times)[0] - 1, step, x)


def measure(context):
    """Returns {"priors": {prior: {"exact", "rows"}}, "examples": ...}, see `_compare`."""
    return context.stages.run("closed_form", lambda folder: _measure(context.settings, folder))


def _measure(settings, folder):
    rng = np.random.default_rng(settings.seed)
    known = rng.permutation(SIDE**2) < SIDE**2 // 2
    results, shown = {}, []
    for name, prior in priors(known).items():
        truth, kinds = prior.sample(settings.truths, rng)
        results[name], images = _compare(prior, truth, kinds, known, settings)
        shown.append((name, images))
    columns = ["truth", "given", "mean", *(mmps_name(n) for n in (1, DEFAULT)), *OTHERS]
    columns = [title.replace(", ", "\n") for title in columns]
    return {"priors": results, "examples": examples.keep(folder, "closed_form", shown, columns)}


def _compare(prior, truth, kinds, known, settings):
    """Restores each truth several times by each method.

    Returns:
        (results, images): results has `rows`, for each method a dict of `bias` (RMS difference of
        the means from the posterior means, relative to the RMS of these), `variance` (relative to
        that of the posterior) and `right` (share of the truth's component), and `exact`, the
        share `right` of samples of the posterior. Images are those of `columns` for the first
        truth.
    """
    num = settings.samples
    weights, means, covariance = prior.posterior(truth[:, known], known)
    mean = (weights[..., None] * means).sum(1)
    spread = (weights[..., None] * (means - mean[:, None]) ** 2).sum(1) + np.diag(covariance)
    rng = np.random.default_rng(settings.seed)
    exact = np.repeat(truth[:, None], num, axis=1)
    picked = [rng.choice(len(each), num, p=each) for each in weights]
    exact[..., ~known] = np.take_along_axis(means, np.array(picked)[..., None], 1)
    exact[..., ~known] += rng.multivariate_normal(0 * mean[0], covariance, exact.shape[:2])

    def right(x):
        return float(np.mean(prior.component(x.reshape(-1, SIDE**2)) == np.repeat(kinds, num)))

    operator = operators.mask(known.reshape(SIDE, SIDE))
    shape = (SIDE, SIDE, 1)
    pixels = np.repeat(truth.reshape(-1, *shape), num, axis=0).astype("float32")
    indices = tf.range(len(pixels))

    def noise_fn(i):
        return image_noise(tf.constant(settings.seed), indices, shape, i)

    rows, complete = {}, truth[0].copy()
    complete[~known] = mean[0]
    given = np.where(known, truth[0], 0)
    shown = [truth[0], given, complete]
    for name, run in methods().items():

        def restore(y, run=run):
            denoiser = prior.denoiser(schedules.cosine)
            x = run(denoiser, operator, y, noise_fn(0), lambda i: noise_fn(i + 1))
            return restoration.project(x, operator, y)

        y = operator.apply(tf.constant(pixels))
        x = tf.function(restore).get_concrete_function(y)(y).numpy()
        x = x.reshape(len(truth), num, -1)
        missing = x[..., ~known].astype("float64")
        own = missing.var(1, ddof=1)
        off = np.square(missing.mean(1) - mean).mean() - own.mean() / num  # the latter by chance
        rows[name] = {
            "bias": float(np.sqrt(max(off, 0) / np.square(mean).mean())),
            "variance": float(own.mean() / spread.mean()),
            "right": right(x),
        }
        if name in (mmps_name(1), mmps_name(DEFAULT), *OTHERS):
            shown.append(x[0, 0])
    images = [_image(each) for each in shown]
    return {"exact": right(exact), "rows": rows}, images


def _image(x):
    """Returns uint8 (SIDE, SIDE, 1) of x, three standard deviations up and down."""
    return np.clip(127.5 * (1 + x.reshape(SIDE, SIDE, 1) / 3 / STD), 0, 255).astype("uint8")


# The page -------------------------------------------------------------------------------------


def claims(result):
    """Returns the claims, decided."""
    return [_accurate(name, each) for name, each in result["priors"].items()]


def is_accurate(row, exact, modes):
    """Returns whether bias, variance and, of several modes, the share of the right one fit."""
    fits = row["bias"] <= BIAS and abs(row["variance"] - 1) <= VARIANCE
    return fits and (not modes or abs(row["right"] - exact) <= SHARE)


def _accurate(name, result):
    modes, rows, exact = name == "two modes", result["rows"], result["exact"]
    fitting = [n for n in CG_STEPS if is_accurate(rows[mmps_name(n)], exact, modes)]
    default = rows[mmps_name(DEFAULT)]
    measured = f"{DEFAULT} CG steps: bias {default['bias']:.1%}, variance {default['variance']:.2f}"
    text = f"{name}: 20 steps of MMPS with {DEFAULT} CG steps are within {BIAS:.0%} of the "
    text += f"posterior mean and {VARIANCE:.0%} of its variance"
    if modes:
        text += f", and within {SHARE:g} of its share of the right mode"
        measured += f", right mode {default['right']:.3f} (exact {exact:.3f})"
    steps = ", ".join(map(str, fitting)) or "none"
    best = min(rows[other]["bias"] for other in OTHERS)
    measured += f"; CG steps that reach it: {steps}; least bias of the other methods {best:.1%}"
    return Claim(text, measured, DEFAULT in fitting)


def section(result):
    """Returns the part of the page."""
    names = list(result["priors"])
    rows = []
    for method in methods():
        cells = []
        for name in names:
            row = result["priors"][name]["rows"][method]
            cells += [f"{row['bias']:.1%}", number(row["variance"])]
        rows.append(
            [method, *cells, f"{result['priors']['two modes']['rows'][method]['right']:.3f}"]
        )
    rows.append(["posterior", *["0%", "1"] * len(names),
                 f"{result['priors']['two modes']['exact']:.3f}"])  # fmt: skip
    header = [f"{name}: {what}" for name in names for what in ("bias", "variance")]
    figure = "![One image of each prior: half of its pixels given, the posterior mean, and one "
    figure += "restoration by each method](closed_form.png)"
    return f"{table(['method', *header, 'right mode'], rows)}\n\n{figure}"


def figures(result, stages):
    """Returns {name: function that returns a figure}."""
    return examples.figure(result["examples"], "closed_form", stages)
