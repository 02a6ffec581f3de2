"""evaluation/: the numbers, without any network."""

import numpy as np
import pytest

from keras_diffusion.evaluation import scores
from keras_diffusion.evaluation.distances import Gaussian, frechet_distance


def normal(n, mean, root, seed=0):
    noise = np.random.default_rng(seed).normal(size=(n, len(mean)))
    return np.asarray(mean) + noise @ np.asarray(root)


def gaussian(mean, covariance):
    return Gaussian(np.asarray(mean, float), np.asarray(covariance, float), 10**6)


def test_distance_of_diagonal_gaussians_is_the_closed_form():
    rng = np.random.default_rng(0)
    means, deviations = rng.normal(size=(2, 128)), rng.uniform(0, 3, size=(2, 128))
    first, second = (gaussian(m, np.diag(d**2)) for m, d in zip(means, deviations, strict=True))
    wanted = np.square(means[0] - means[1]).sum() + np.square(deviations[0] - deviations[1]).sum()
    assert frechet_distance(first, second) == pytest.approx(wanted, rel=1e-9)


def test_distance_is_the_same_after_a_rotation_of_both():
    rng = np.random.default_rng(1)
    rotation = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    first = normal(500, np.zeros(16), rng.normal(size=(16, 16)), seed=2)
    second = normal(400, np.ones(16), rng.normal(size=(16, 16)), seed=3)
    plain = frechet_distance(first, second)
    assert frechet_distance(first @ rotation, second @ rotation) == pytest.approx(plain, rel=1e-9)
    assert frechet_distance(second, first) == pytest.approx(plain, rel=1e-9)


def test_distance_to_itself_is_zero_even_where_features_are_dead_or_more_than_pictures():
    features = np.random.default_rng(0).normal(size=(60, 128)) * np.geomspace(1e-6, 1e3, 128)
    features[:, ::3] = 0
    scale = Gaussian.of(features).covariance.trace()
    assert 0 <= frechet_distance(features, features) < 1e-9 * scale


def test_a_far_away_origin_costs_no_digits():
    first = np.random.default_rng(0).normal(size=(1000, 64))
    shifted = frechet_distance(first + 1e4, first * 1.1 + 1e4)
    assert shifted == pytest.approx(frechet_distance(first, first * 1.1), rel=1e-6)


def test_distance_falls_with_more_pictures_and_grows_with_the_difference():
    reference = normal(50_000, np.zeros(32), np.eye(32))
    few, many = (normal(n, np.zeros(32), np.eye(32), seed=n) for n in (300, 3000))
    off = normal(3000, np.full(32, 0.2), np.eye(32), seed=7)
    distances = [frechet_distance(reference, each) for each in (many, few, off)]
    assert distances == sorted(distances)


@pytest.mark.parametrize("bad", [np.ones((1, 4)), np.ones(4), np.full((5, 4), np.nan)])
def test_features_that_fit_no_gaussian_are_refused(bad):
    with pytest.raises(ValueError):
        Gaussian.of(bad)


def test_other_numbers_of_features_are_refused():
    with pytest.raises(ValueError, match="3 features"):
        frechet_distance(np.eye(3), np.eye(4))


def test_score_of_sure_and_right_pictures():
    probabilities = np.array([[0.95, 0.05], [0.08, 0.92], [0.2, 0.8], [0.3, 0.7]])
    features = np.random.default_rng(0).normal(size=(4, 3))
    reference = Gaussian.of(features)
    found = scores.score(features, probabilities, reference, [0.5, 0.5], labels=[0, 1, 1, 0])
    assert found["sure"] == 0.5
    assert found["confidence"] == pytest.approx((0.95 + 0.92 + 0.8 + 0.7) / 4)
    assert found["class_shares"] == [0.25, 0.75]
    assert found["class_distance"] == pytest.approx(0.25)
    assert found["accuracy"] == 0.75
    assert found["distance"] == pytest.approx(0, abs=1e-9)
    assert "accuracy" not in scores.score(features, probabilities, reference, [0.5, 0.5])


def test_floor_uses_disjoint_subsets_while_they_last():
    features = np.random.default_rng(0).normal(size=(400, 8))
    reference = Gaussian.of(np.random.default_rng(1).normal(size=(20_000, 8)))
    found = scores.floor(features, reference, size=100, subsets=4)
    assert found["min"] <= found["mean"] <= found["max"] and found["std"] > 0
    again = scores.floor(features, reference, size=100, subsets=4)
    assert again == found
    whole = scores.floor(features, reference, size=400, subsets=2)
    assert whole["min"] == pytest.approx(whole["max"]) and whole["mean"] < found["mean"]
    with pytest.raises(ValueError, match="fewer than 401"):
        scores.floor(features, reference, size=401)
