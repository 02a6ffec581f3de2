"""evaluation/distances.py and manifolds.py: golden values, without any network."""

import numpy as np
import pytest

from keras_diffusion.evaluation.distances import Gaussian, frechet_distance, kernel_distance
from keras_diffusion.evaluation.manifolds import precision_recall, radii


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


def test_the_order_of_the_pictures_and_the_size_of_blocks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    real, drawn = rng.normal(size=(300, 16)), rng.normal(0.3, 1.2, size=(200, 16))
    distance, manifolds = frechet_distance(real, drawn), precision_recall(real, drawn)
    mixed = rng.permutation(real), rng.permutation(drawn)
    assert frechet_distance(*mixed) == pytest.approx(distance, rel=1e-9)
    assert precision_recall(*mixed) == manifolds
    monkeypatch.setattr("keras_diffusion.evaluation.distances.BLOCK", 7)
    assert frechet_distance(real, drawn) == pytest.approx(distance, rel=1e-9)
    assert precision_recall(real, drawn, working_memory=0.01) == manifolds


# The kernel distance ------------------------------------------------------------------------


def expected_kernel(first, second):
    """E (x.y / F + 1)^3 for x from N(first, 1), y from N(second, 1), in closed form."""
    width, dot = len(first), first @ second
    squares = first @ first + second @ second
    moments = [
        dot,
        width + squares + dot**2,
        dot**3 + 3 * dot * squares + (3 * width + 6) * dot,
    ]
    one, two, three = (moment / width**power for power, moment in enumerate(moments, 1))
    return three + 3 * two + 3 * one + 1


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_kernel_distance_of_gaussians_is_the_closed_form(shift):
    origin, other = np.zeros(8), np.full(8, shift)
    wanted = expected_kernel(origin, origin) + expected_kernel(other, other)
    wanted -= 2 * expected_kernel(origin, other)
    found = kernel_distance(normal(2000, origin, np.eye(8)), normal(2000, other, np.eye(8), seed=1))
    assert found["mean"] == pytest.approx(wanted, abs=4 * found["standard_error"])
    assert found["standard_error"] < (0.1 * wanted if shift else 0.01)
    assert (found["size"], found["subsets"]) == (400, 20)


def test_kernel_distance_has_no_bias_and_its_standard_error_is_honest():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(5000, 8))
    found = [kernel_distance(real, rng.normal(0.4, 1, size=(60, 8))) for _ in range(60)]
    means = np.array([each["mean"] for each in found])
    wanted = kernel_distance(real, rng.normal(0.4, 1, size=(5000, 8)))["mean"]
    assert means.mean() == pytest.approx(wanted, abs=4 * means.std() / 60**0.5)
    told = np.sqrt(np.mean([each["standard_error"] ** 2 for each in found]))
    assert 0.8 * means.std() < told < 2.5 * means.std()


def test_one_subset_is_the_unbiased_estimate_by_its_definition():
    first, second = np.random.default_rng(0).normal(size=(2, 10, 5))
    found = kernel_distance(first, second, size=2, rounds=3, seed=4)
    rng, values = np.random.default_rng(4), []
    for _ in range(3):
        orders = rng.permutation(10), rng.permutation(10)
        for at in range(0, 10, 2):
            (a, b), (c, d) = (
                each[o[at : at + 2]] for each, o in zip((first, second), orders, strict=True)
            )
            k = [(x @ y / 5 + 1) ** 3 for x, y in [(a, b), (c, d), (a, c), (a, d), (b, c), (b, d)]]
            values.append(k[0] + k[1] - sum(k[2:]) / 2)
    assert found["mean"] == pytest.approx(np.mean(values), rel=1e-12)


def test_kernel_distance_needs_pictures_of_equal_features():
    with pytest.raises(ValueError, match="4 pictures"):
        kernel_distance(np.ones((3, 2)), np.ones((9, 2)))
    with pytest.raises(ValueError, match="2 features"):
        kernel_distance(np.ones((9, 2)), np.ones((9, 3)))


# Precision and recall -----------------------------------------------------------------------


def test_precision_and_recall_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    real, drawn = rng.normal(size=(80, 3)) + 50, rng.normal(0.5, 1.5, size=(60, 3)) + 50

    def balls(points):
        between = np.linalg.norm(points[:, None] - points, axis=-1)
        return np.sort(between, axis=1)[:, 3]

    between = np.linalg.norm(drawn[:, None] - real, axis=-1)
    found = precision_recall(real, drawn)
    assert found["precision"] == (between <= balls(real)).any(axis=1).mean()
    assert found["recall"] == (between <= balls(drawn)[:, None]).any(axis=0).mean()
    np.testing.assert_allclose(radii(real), balls(real), rtol=1e-9)


def test_equal_sets_have_all_of_both_and_far_ones_none():
    real = np.random.default_rng(0).normal(size=(200, 6)).astype("float32")
    assert precision_recall(real, real.copy()) == {"precision": 1.0, "recall": 1.0}
    assert precision_recall(real, real + 100) == {"precision": 0.0, "recall": 0.0}


def test_a_lost_mode_costs_recall_and_noise_costs_precision():
    rng = np.random.default_rng(0)
    modes = rng.normal(size=(600, 4)) + 20 * (np.arange(600) % 2)[:, None]
    again = rng.normal(size=(600, 4)) + 20 * (np.arange(600) % 2)[:, None]
    one_mode = precision_recall(modes, again[::2])
    assert one_mode["precision"] > 0.8 and 0.3 < one_mode["recall"] < 0.5
    noisy = precision_recall(modes, again + rng.normal(0, 3, size=again.shape))
    assert noisy["precision"] < 0.5 and noisy["recall"] > 0.9


def test_too_few_neighbours_are_refused():
    with pytest.raises(ValueError, match="3 neighbours"):
        precision_recall(np.ones((3, 2)), np.ones((9, 2)))
