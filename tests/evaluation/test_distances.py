"""Distances and manifolds: golden values, without any network."""

import numpy as np
import pytest

from keras_diffusion.evaluation.distances import Gaussian, frechet_distance, kernel_distance
from keras_diffusion.evaluation.manifolds import precision_recall, radii


def normal(n, mean, root, seed=0):
    noise = np.random.default_rng(seed).normal(size=(n, len(mean)))
    return np.asarray(mean) + noise @ np.asarray(root)


def test_frechet_distance_of_diagonal_gaussians_is_the_closed_form():
    rng = np.random.default_rng(0)
    means, deviations = rng.normal(size=(2, 128)), rng.uniform(0, 3, size=(2, 128))
    first, second = (
        Gaussian(m, np.diag(d**2), 10**6) for m, d in zip(means, deviations, strict=True)
    )
    expected = np.square(means[0] - means[1]).sum() + np.square(deviations[0] - deviations[1]).sum()
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_any_covariances_is_that_of_the_matrix_root():
    rng = np.random.default_rng(4)
    factors = rng.normal(size=(2, 8, 8))
    first, second = (Gaussian(np.zeros(8), root @ root.T, 10**6) for root in factors)
    product = np.linalg.eigvals(first.covariance @ second.covariance)  # not symmetric
    expected = np.trace(first.covariance + second.covariance) - 2 * np.sqrt(product.real).sum()
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_depends_on_no_rotation_origin_order_or_block(monkeypatch):
    rng = np.random.default_rng(1)
    rotation = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    first = normal(500, np.zeros(16), rng.normal(size=(16, 16)), seed=2)
    second = normal(400, np.ones(16), rng.normal(size=(16, 16)), seed=3)
    distance = pytest.approx(frechet_distance(first, second), rel=1e-6)
    assert frechet_distance(first @ rotation, second @ rotation) == distance
    assert frechet_distance(second + 1e4, first + 1e4) == distance
    monkeypatch.setattr("keras_diffusion.evaluation.distances.BLOCK", 7)
    assert frechet_distance(rng.permutation(first), second) == distance


def test_frechet_distance_to_itself_is_zero_also_with_singular_covariances():
    features = np.random.default_rng(0).normal(size=(60, 128)) * np.geomspace(1e-6, 1e3, 128)
    features[:, ::3] = 0
    scale = Gaussian.of(features).covariance.trace()
    assert 0 <= frechet_distance(features, features) < 1e-9 * scale


def test_features_that_cannot_be_compared_are_rejected():
    for bad in (np.ones((1, 4)), np.ones(4), np.full((5, 4), np.nan)):
        with pytest.raises(ValueError):
            Gaussian.of(bad)
    with pytest.raises(ValueError, match="3 features"):
        frechet_distance(np.eye(3), np.eye(4))
    with pytest.raises(ValueError, match="4 images"):
        kernel_distance(np.ones((3, 2)), np.ones((9, 2)))
    with pytest.raises(ValueError, match="2 features"):
        kernel_distance(np.ones((9, 2)), np.ones((9, 3)))
    with pytest.raises(ValueError, match="3 neighbours"):
        precision_recall(np.ones((3, 2)), np.ones((9, 2)))


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
    expected = expected_kernel(origin, origin) + expected_kernel(other, other)
    expected -= 2 * expected_kernel(origin, other)
    result = kernel_distance(
        normal(2000, origin, np.eye(8)), normal(2000, other, np.eye(8), seed=1)
    )
    assert result["mean"] == pytest.approx(expected, abs=4 * result["standard_error"])
    assert result["standard_error"] < (0.1 * expected if shift else 0.01)
    assert (result["size"], result["subsets"]) == (400, 20)


def test_kernel_distance_has_no_bias_and_its_standard_error_is_right():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(5000, 8))
    results = [kernel_distance(real, rng.normal(0.4, 1, size=(60, 8))) for _ in range(60)]
    means = np.array([each["mean"] for each in results])
    expected = kernel_distance(real, rng.normal(0.4, 1, size=(5000, 8)))["mean"]
    assert means.mean() == pytest.approx(expected, abs=4 * means.std() / 60**0.5)
    estimated = np.sqrt(np.mean([each["standard_error"] ** 2 for each in results]))
    assert 0.8 * means.std() < estimated < 2.5 * means.std()


def test_precision_and_recall_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(80, 3)) + 50, rng.normal(0.5, 1.5, size=(60, 3)) + 50

    def balls(points):
        between = np.linalg.norm(points[:, None] - points, axis=-1)
        return np.sort(between, axis=1)[:, 3]

    between = np.linalg.norm(generated[:, None] - real, axis=-1)
    result = precision_recall(real, generated)
    assert result["precision"] == (between <= balls(real)).any(axis=1).mean()
    assert result["recall"] == (between <= balls(generated)[:, None]).any(axis=0).mean()
    np.testing.assert_allclose(radii(real), balls(real), rtol=1e-9)
    assert precision_recall(real, rng.permutation(generated), working_memory=0.01) == result
    assert precision_recall(real, real.copy()) == {"precision": 1.0, "recall": 1.0}
    assert precision_recall(real, real + 100) == {"precision": 0.0, "recall": 0.0}


def test_a_lost_mode_costs_recall_and_noise_costs_precision():
    rng = np.random.default_rng(0)
    modes, again = (
        rng.normal(size=(600, 4)) + 20 * (np.arange(600) % 2)[:, None] for _ in range(2)
    )
    one_mode = precision_recall(modes, again[::2])
    assert one_mode["precision"] > 0.8 and 0.3 < one_mode["recall"] < 0.5
    noisy = precision_recall(modes, again + rng.normal(0, 3, size=again.shape))
    assert noisy["precision"] < 0.5 and noisy["recall"] > 0.9
