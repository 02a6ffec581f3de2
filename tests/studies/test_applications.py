"""The study of applications: what it computes without a model, and its verdicts."""

import argparse
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion.diffusion import schedules
from keras_diffusion.sampling.edit_functions import with_pullback
from studies import applications, command
from studies.applications import (
    closed_form,
    enlarging,
    fills,
    frames,
    inpainting,
    inversion,
    measure,
    medical,
    priors,
    report,
    speed,
    texture,
    translation,
)
from studies.stages import Stages, key

rng = np.random.default_rng(0)
RAMP = np.add.outer(4 * np.arange(24), 3 * np.arange(20))[None, ..., None].astype("uint8")
DIGIT = np.zeros((1, 28, 28, 1), "uint8")
DIGIT[:, 6:22, 12:16] = 255


# Fills, and scores of missing pixels ----------------------------------------------------------


def test_masks_hide_what_their_names_say():
    masks = fills.masks((20, 16, 3), 50, seed=1)
    assert all(mask.shape == (50, 20, 16) for mask in masks.values())
    assert masks["lower half"][:, :10].all() and not masks["lower half"][:, 10:].any()
    assert masks["centre box"].mean() == 0.75 and not masks["centre box"][:, 10, 8].any()
    assert masks["random 50%"].mean() == pytest.approx(0.5, abs=0.02)
    assert (masks["random 50%"][0] != masks["random 50%"][1]).any()


def test_a_harmonic_fill_continues_a_ramp_and_keeps_known_pixels():
    images = np.concatenate([RAMP, RAMP[:, ::-1]]).repeat(3, axis=-1)
    for known in fills.masks(images.shape[1:], 2, seed=0).values():
        filled = fills.harmonic(images, known)
        np.testing.assert_array_equal(filled[known], images[known])
        assert filled.dtype == np.uint8 and filled[~known].std() > 0
    box = fills.masks(images.shape[1:], 2, seed=0)["centre box"]
    np.testing.assert_allclose(fills.harmonic(images, box), images, atol=1)  # a plane is harmonic


def test_the_nearest_known_pixel_is_copied():
    known = np.ones((1, 24, 20), bool)
    known[:, 12:] = False
    filled = fills.nearest(RAMP, known)
    assert (filled[:, 12:] == RAMP[:, 11:12]).all() and (filled[:, :12] == RAMP[:, :12]).all()


def test_scores_are_of_missing_pixels_alone():
    known = fills.masks(RAMP.shape[1:], 1, seed=0)["lower half"]
    other = RAMP.copy()
    other[known] ^= 255
    assert fills.psnr(other, RAMP, known) == fills.MOST_PSNR
    assert fills.psnr(other, RAMP) < 20
    other = RAMP.copy()
    other[~known] += 10
    assert fills.psnr(other, RAMP, known) == pytest.approx(20 * np.log10(25.5))
    assert fills.ssim(RAMP, RAMP, known) == pytest.approx(1)
    noisy = np.where(known[..., None], RAMP, rng.integers(0, 256, RAMP.shape)).astype("uint8")
    assert fills.ssim(noisy, RAMP, known) < 0.5 < fills.ssim(noisy, RAMP, ~known)


# Priors in closed form ------------------------------------------------------------------------

KNOWN = rng.permutation(64) < 32


def log_density(prior, x, signal, noise):
    """log p(x_t) up to a constant, by the covariance of x_t."""
    inverse = np.linalg.inv(signal**2 * prior.covariance + noise**2 * np.eye(64))
    gaps = x - signal * prior.means
    return np.logaddexp.reduce(-0.5 * np.einsum("ki,ij,kj->k", gaps, inverse, gaps))


@pytest.mark.parametrize("name", ["exponential kernel", "very smooth", "two modes"])
def test_denoisers_are_exact(name):
    """By Tweedie's formula: x0 = (x_t + noise^2 d log p / d x_t) / signal; so is their gradient."""
    prior, t = priors.priors(KNOWN)[name], 0.6
    x = rng.normal(size=64)
    signal, noise = (float(rate) for rate in schedules.rates(schedules.cosine, t))
    denoiser = with_pullback(prior.denoiser(schedules.cosine))
    image = tf.constant(x.reshape(1, 8, 8, 1), tf.float32)
    x0, pullback = denoiser(image, tf.constant(t))
    steps = 1e-4 * np.eye(64)[:5]
    slope = [
        (log_density(prior, x + d, signal, noise) - log_density(prior, x - d, signal, noise)) / 2e-4
        for d in steps
    ]
    expected = (x[:5] + noise**2 * np.array(slope)) / signal
    np.testing.assert_allclose(np.ravel(x0)[:5], expected, atol=2e-3)
    u = rng.normal(size=64).astype("float32")
    step = tf.reshape(tf.constant(1e-2 * u), image.shape)
    change = np.ravel(denoiser(image + step, t)[0] - denoiser(image - step, t)[0]) / 2e-2
    symmetric = np.ravel(pullback(tf.reshape(u, image.shape)))  # J^T = J, a covariance
    np.testing.assert_allclose(symmetric, change, atol=2e-2)


def test_posteriors_agree_with_weighted_samples():
    prior = priors.priors(KNOWN)["two modes"]
    x, kinds = prior.sample(40, rng)
    assert np.mean(prior.component(x) == kinds) > 0.9
    weights, means, covariance = prior.posterior(x[:, KNOWN], KNOWN)
    right = weights[np.arange(40), kinds]
    assert 0.7 < right.mean() < 0.99 and np.allclose(weights.sum(1), 1)
    gaps = (x[:, ~KNOWN] - means[np.arange(40), kinds]) / np.sqrt(np.diag(covariance))
    assert gaps.std() == pytest.approx(1, abs=0.1) and abs(gaps.mean()) < 0.1


# Measures of the other applications -----------------------------------------------------------


def test_layouts_are_compared_in_grey_without_brightness_and_texture():
    colours = RAMP.repeat(3, axis=-1)
    assert translation.layout(colours // 2 + 20, colours) == pytest.approx(1, abs=1e-3)
    assert translation.layout(255 - colours, colours) == pytest.approx(-1)
    noisy = colours + rng.integers(0, 80, colours.shape)
    assert translation.layout(noisy, colours) > 0.95
    assert translation.layout(colours[:, ::-1], colours) < 0.5


def test_strokes_are_marked_where_they_are_visible():
    images = np.repeat(DIGIT, 40, axis=0)
    marked, truth = texture.with_strokes(images, seed=1)
    assert marked.dtype == np.uint8 and truth.shape == (40, 28, 28)
    assert (marked[~truth] == images[~truth]).all()
    assert (marked[truth].astype(int) - images[truth] > texture.VISIBLE).all()
    assert np.mean(truth.sum((1, 2)) > 5) > 0.9 and truth.sum((1, 2)).max() < 60
    assert (texture.with_strokes(images, seed=1)[0] == marked).all()


def test_baselines_of_missing_frames():
    clips = np.zeros((2, 4, 4, 8), "uint8") + 30 * np.arange(8, dtype="uint8")
    known = [0, 7]
    np.testing.assert_array_equal(frames.blended(clips, known), clips)
    assert frames.repeated(clips, known)[0, 0, 0].tolist() == [0, 0, 0, 0, 210, 210, 210, 210]
    several = [0, 1, 2, 3, 5, 6, 7]
    np.testing.assert_array_equal(frames.blended(clips, several), clips)
    assert frames.repeated(clips, several)[0, 0, 0, 4] in (90, 150)


def test_images_are_reduced_by_the_mean_of_blocks():
    images = rng.integers(0, 256, (2, 16, 16, 3)).astype("uint8")
    small = enlarging.reduced(images, 4)
    assert small.shape == (2, 4, 4, 3)
    assert small[1, 0, 0].tolist() == np.rint(images[1, :4, :4].mean((0, 1))).tolist()
    assert enlarging.bicubic(small, 4).shape == images.shape


# Only some of them ----------------------------------------------------------------------------


class Double:
    """An application whose result is its settings' seed."""

    TITLE = "a double"

    def __init__(self, name, measured):
        self.name, self.measured = name, measured

    def measure(self, context):
        def compute(folder):
            self.measured.append(self.name)
            return {"seed": context.settings.seed}

        return context.stages.run(self.name, compute)


def test_applications_that_are_left_out_come_from_the_cache(tmp_path, monkeypatch):
    measured, settings = [], applications.Settings(seed=7)
    monkeypatch.setattr(measure, "module", lambda name: Double(name, measured))
    stages = Stages(tmp_path / "study" / key(settings), log=lambda line: None)

    def run(only):
        return measure.measure(settings, stages, None, only=only)

    first = run(["speed"])
    assert list(first["measured"]) == ["speed"] and len(first["left_out"]) == 8
    second = run(["frames"])
    assert second["measured"] == {"frames": {"seed": 7}, "speed": {"seed": 7}}
    assert set(second["left_out"].values()) == {"left out by `--only`"}
    assert run(None)["left_out"] == {}
    assert measured[:2] == ["speed", "frames"] and sorted(measured) == sorted(
        applications.APPLICATIONS
    )


def test_a_page_of_nothing_says_so():
    results = {"measured": {}, "left_out": dict.fromkeys(applications.APPLICATIONS, "no time")}
    assert all(claim.holds is None for claim in report.claims(results))
    assert set(report.values(results).values()) == {"Not measured: no time."}


def test_xrays_that_are_not_there_are_left_out(tmp_path):
    context = SimpleNamespace(xrays=tmp_path, stages=Stages(tmp_path / "study" / "key"))
    with pytest.raises(measure.NotMeasured, match="--xrays"):
        medical.measure(context)


def test_flags():
    _, flags = command.parsers("applications", applications)
    args = flags.parse_args(["--only", "speed", "frames", "--minutes", "2", "--digits", "x"])
    assert applications.measure_options(args) == {
        "only": ["speed", "frames"], "xrays": applications.XRAYS,
    }  # fmt: skip
    settings = command.settings_of(applications, args)
    assert settings.digits == "x" and settings.minutes == 2 and settings.flowers.startswith("ox")
    with pytest.raises(SystemExit):
        flags.parse_args(["--only", "sleeping"])
    assert isinstance(flags, argparse.ArgumentParser)


# Verdicts -------------------------------------------------------------------------------------


def prior_result(bias, variance, right=0.92, others=0.5):
    row = {"bias": bias, "variance": variance, "right": right}
    rows = {closed_form.mmps_name(n): row for n in closed_form.CG_STEPS}
    rows |= {name: {**row, "bias": others} for name in closed_form.OTHERS}
    return {"exact": 0.93, "rows": rows}


def fill_rows(ssim):
    return [
        {"mask": mask, "method": method, "ssim": value, "psnr": 20.0}
        for mask in ("a", "b")
        for method, value in {"harmonic": 0.5, "MMPS": ssim[mask]}.items()
    ]


def recognised(share):
    return {
        "digits": {"changed": 0, "rows": fill_rows({"a": 0.6, "b": 0.6})},
        "flowers": {"changed": 0, "rows": fill_rows({"a": 0.6, "b": 0.4})},
        "recognised": {"right": {"MMPS": share, "harmonic": 0.7}, "ideal": 0.9, "images": 200},
    }


def enlarged(distance, changed=1):
    base = {"size": "16 to 64", "error": 0.1, "psnr": 20.0, "ssim": 0.5}
    return {
        "rows": [{**base, "method": "bicubic", "distance": 10.0, "changed": 9},
                 {**base, "method": "nearest pixel", "distance": 5.0, "changed": 0},
                 {**base, "method": "MMPS", "distance": distance, "changed": changed}],
        "baseline": {"mean": 1.0},
    }  # fmt: skip


def round_trip(psnr, steps=50):
    row = {"condition": "no label", "sampler": "heun", "steps": steps, "psnr": psnr}
    worse = {**row, "sampler": "ddim", "psnr": 20.0}
    return {"digits": {"rows": [row, worse]}}


def translated(right, layout, own=0.8):
    rows = [{"method": "DDIB", "strength": None, "scale": 1.0, "right": own, "layout": 0.6},
            {"method": translation.NEW, "strength": None, "scale": 1.0, "right": 0.9,
             "layout": 0.1},
            {"method": "img2img", "strength": 0.5, "scale": 1.0, "right": right,
             "layout": layout}]  # fmt: skip
    return {"digits": {"rows": rows, "text": "a to b"}}


def clip_result(psnr):
    methods = {"MMPS": psnr, "nearest frame": 15.0, "linear blend": 18.0}
    row = {"task": "t", "error": 0.1}
    return {"rows": [{**row, "method": m, "psnr": p, "gain": psnr - p} for m, p in methods.items()]}


def xray_result(low, high, gap_low, gap_high, synthetic=0.9):
    own = {"score": "model, gaussian", "auroc": (low + high) / 2, "low": low, "high": high}
    gap = {"auroc": (gap_low + gap_high) / 2, "low": gap_low, "high": gap_high, "baseline": "PCA"}
    contrasts = ("raw", "normalised")
    return {
        "anomaly": {"best": "gaussian",
                    "test": [{**own, "contrast": c} for c in contrasts],
                    "gaps": [{**gap, "contrast": c} for c in contrasts]},
        "synthesis": {"num": 9, "synthetic": {"auroc": synthetic}, "real": {"auroc": 0.95}},
    }  # fmt: skip


def stroke_result(own):
    rows = {"PCA": 0.8, "model, gaussian": own}
    return {"rows": [{"method": m, "pixels": value} for m, value in rows.items()]}


def speeds(seconds):
    return {"digits": {"steps": [10, 50], "rows": [{"edit": "a", "seconds": seconds}]}}


@pytest.mark.parametrize(
    ("module", "result", "index", "verdict"),
    [
        (closed_form, {"priors": {"very smooth": prior_result(0.04, 1.3, right=0.1)}}, 0, True),
        (closed_form, {"priors": {"very smooth": prior_result(0.06, 1.3)}}, 0, False),
        (closed_form, {"priors": {"very smooth": prior_result(0.04, 0.5)}}, 0, False),
        (closed_form, {"priors": {"two modes": prior_result(0.04, 1.0)}}, 0, True),
        (closed_form, {"priors": {"two modes": prior_result(0.04, 1.0, right=0.8)}}, 0, False),
        (inpainting, recognised(0.82), 0, True),
        (
            inpainting,
            {**recognised(0.82), "digits": {"changed": 1, "rows": fill_rows({"a": 0.6, "b": 0.6})}},
            0,
            False,
        ),
        (inpainting, recognised(0.82), 1, True),
        (inpainting, recognised(0.82), 2, False),
        (inpainting, recognised(0.82), 3, True),
        (inpainting, recognised(0.80), 3, False),
        (enlarging, enlarged(4.0), 0, True),
        (enlarging, enlarged(6.0), 0, False),
        (enlarging, enlarged(4.0), 1, True),
        (enlarging, enlarged(6.0), 1, False),
        (enlarging, enlarged(5.2), 1, None),
        (enlarging, enlarged(4.0), 2, True),
        (enlarging, enlarged(4.0, changed=3), 2, False),
        (inversion, round_trip(36.0), 0, True),
        (inversion, round_trip(34.0), 0, False),
        (inversion, round_trip(36.0, steps=10), 0, None),
        (translation, translated(0.9, 0.5), 0, True),
        (translation, translated(0.9, 0.7), 0, False),
        (translation, translated(0.9, 0.5, own=0.4), 0, False),
        (frames, clip_result(19.0), 0, True),
        (frames, clip_result(17.0), 0, False),
        (frames, clip_result(18.1), 0, None),
        (medical, xray_result(0.84, 0.9, 0.11, 0.2), 0, True),
        (medical, xray_result(0.80, 0.9, 0.11, 0.2), 0, None),
        (medical, xray_result(0.70, 0.8, 0.11, 0.2), 0, False),
        (medical, xray_result(0.84, 0.9, 0.05, 0.2), 1, True),
        (medical, xray_result(0.84, 0.9, 0.05, 0.2), 2, None),
        (medical, xray_result(0.84, 0.9, 0.01, 0.09), 2, False),
        (medical, xray_result(0.84, 0.9, 0.11, 0.2), 3, False),
        (medical, xray_result(0.84, 0.9, 0.11, 0.2, synthetic=0.93), 3, True),
        (texture, stroke_result(0.9), 0, True),
        (texture, stroke_result(0.7), 0, False),
        (speed, speeds([1.0, 5.5]), 0, True),
        (speed, speeds([1.0, 7.0]), 0, False),
    ],
)
def test_verdicts_follow_the_numbers(module, result, index, verdict):
    claim = module.claims(result)[index]
    assert claim.holds is verdict and claim.measured
