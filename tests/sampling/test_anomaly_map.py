"""Anomaly maps, on digits with pasted strokes and a model in closed form."""

import numpy as np
import pytest
from fixtures_anomaly import GaussianModel, digits, with_strokes
from sklearn.metrics import roc_auc_score

from keras_diffusion.diffusion.noise import NOISES
from keras_diffusion.sampling.anomaly import METHODS, _mahalanobis, anomaly_map

DIGITS = digits()
NORMAL, TEST = DIGITS[:1000], DIGITS[1000:1040]
FAST = {"num_draws": 2, "num_steps": 5}


@pytest.fixture(scope="module")
def model():
    return GaussianModel(NORMAL)


@pytest.mark.parametrize("noise", METHODS)
@pytest.mark.parametrize("normal", [None, NORMAL[:200]])
def test_maps_are_high_at_strokes(noise, normal, model):
    images, marks = with_strokes(TEST)
    maps, scores = anomaly_map(model, images, noise=noise, normal=normal, smoothing=0.5, **FAST)
    clean = anomaly_map(model, TEST, noise=noise, normal=normal, smoothing=0.5, **FAST)[1]
    assert maps.shape == marks.shape and np.allclose(scores, maps.mean((1, 2)))
    assert roc_auc_score(marks.ravel(), maps.ravel()) > 0.75
    both = np.repeat([True, False], len(TEST))
    assert roc_auc_score(both, np.concatenate([scores, clean])) > 0.6


def test_a_map_depends_on_its_image_and_place_alone(model):
    whole, _ = anomaly_map(model, TEST, normal=NORMAL[:50], seed=3, **FAST)
    parts, _ = anomaly_map(model, TEST, normal=NORMAL[:50], seed=3, batch_size=7, **FAST)
    first, _ = anomaly_map(model, TEST[:5], normal=NORMAL[:50], seed=3, **FAST)
    other, _ = anomaly_map(model, TEST[:5], normal=NORMAL[:50], seed=4, **FAST)
    np.testing.assert_allclose(parts, whole, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(first, whole[:5], rtol=1e-3, atol=1e-4)
    assert np.abs(other - first).max() > 0.1


def test_mahalanobis_scores_tell_strokes_and_leave_the_maps(model):
    images, _ = with_strokes(TEST)
    both, options = np.concatenate([images, TEST]), {"normal": NORMAL[:200], **FAST}
    maps, scores = anomaly_map(model, both, score="mahalanobis", **options)
    np.testing.assert_array_equal(maps, anomaly_map(model, both, **options)[0])
    assert roc_auc_score(np.repeat([True, False], len(TEST)), scores) > 0.6


def test_errors_count_less_where_they_vary_together():
    rng = np.random.default_rng(0)
    usual = (rng.normal(size=(300, 1, 1, 1, 1)) + 0.1 * rng.normal(size=(300, 2, 7, 7, 1))) / 2
    together, apart = np.ones((2, 1, 2, 7, 7, 1))
    apart[:, :, ::2] = -1
    distances = [_mahalanobis(values, usual)[0] for values in (together, apart)]
    assert distances[1] > 3 * distances[0] > 0


def test_distances_of_normal_images_are_one_on_average(model):
    maps, _ = anomaly_map(model, NORMAL[:200], normal=NORMAL[:200], **FAST)
    assert np.sqrt(np.mean(maps[:, 2:6, 2:6] ** 2)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", NOISES)
def test_noise_has_unit_variance_and_depends_on_its_numbers(name):
    fields = [NOISES[name]((32, 24, 2), 1, index, 0) for index in range(20)]
    assert np.mean(np.square(fields)) == pytest.approx(1, abs=0.05)
    assert abs(np.mean(fields)) < 0.2
    np.testing.assert_array_equal(fields[3], NOISES[name]((32, 24, 2), 1, 3, 0))
    for numbers in ((2, 3, 0), (1, 4, 0), (1, 3, 1)):
        assert np.abs(NOISES[name]((32, 24, 2), *numbers) - fields[3]).max() > 1


def test_wavelengths_differ():
    def correlation(name):  # of neighbours
        field = np.stack([NOISES[name]((64, 64, 1), 0, index, 0) for index in range(8)])
        return np.mean(field[:, 1:] * field[:, :-1])

    assert abs(correlation("gaussian")) < 0.05 < correlation("simplex") < correlation("coarse")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"noise": "salt"}, "noise"),
        ({"score": "median"}, "score"),
        ({"score": "mahalanobis"}, "score: .*normal"),
        ({"times": ()}, "times"),
        ({"times": (0.5, 1.5)}, "times"),
        ({"num_draws": 0}, "num_draws"),
        ({"normal": NORMAL[:5]}, "normal"),
        ({"images": TEST[:, :4]}, "images"),
        ({"labels": 1}, "labels"),
    ],
)
def test_bad_arguments_are_rejected(arguments, name, model):
    with pytest.raises(ValueError, match=name):
        anomaly_map(model, **{"images": TEST, **FAST, **arguments})
