"""Distances between two sets of images, by their features: Frechet and kernel distance.

Pure functions of arrays (N, F); every sum is in float64.
"""

import dataclasses
import functools

import numpy as np

MIN_SUBSETS = 5  # for the standard error of a kernel distance
BLOCK = 4096  # images at once in a sum: 64 MiB for 2048 features


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Mean and covariance of the features of a set of images, for the Frechet distance.

    Attributes:
        mean: float64 (F,).
        covariance: float64 (F, F).
        num_images: int, how many images; few of them make every distance larger.
    """

    mean: np.ndarray
    covariance: np.ndarray
    num_images: int

    @classmethod
    def of(cls, features):
        """Fits features (N, F), N at least 2; sums are in float64 and around the mean.

        Raises:
            ValueError: another shape, fewer than 2 rows, or a value that is not finite.
        """
        features = np.asarray(features)
        if features.ndim != 2 or len(features) < 2:
            raise ValueError(f"features must be (N, F) with N from 2, not {features.shape}")
        if not np.isfinite(features).all():
            raise ValueError("features must be finite")
        mean = features.mean(axis=0, dtype=np.float64)
        covariance = np.zeros((len(mean), len(mean)))
        for first in range(0, len(features), BLOCK):
            centred = features[first : first + BLOCK] - mean
            covariance += centred.T @ centred
        return cls(mean, covariance / (len(features) - 1), len(features))

    @functools.cached_property
    def root(self):
        """The symmetric square root of the covariance, float64 (F, F)."""
        return symmetric_root(self.covariance)


def frechet_distance(first, second):
    """Squared Frechet (2-Wasserstein) distance of two Gaussians, as in FID.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). The product C1 C2 is not symmetric: its matrix
    root may come out complex, and loses half of the digits where features hardly vary. The trace
    of the root is the sum of the singular values of C1^(1/2) C2^(1/2), so two symmetric roots
    and one SVD are enough, also for singular covariances (fewer images than features, or a
    feature that is always 0).

    Args:
        first, second: `Gaussian`s, or features (N, F) to fit them to.

    Returns:
        float, at least 0.

    Raises:
        ValueError: the two differ in the number of features.

    Reference: Heusel et al. 2017, arXiv:1706.08500, equation 6.
    """
    first, second = (
        each if isinstance(each, Gaussian) else Gaussian.of(each) for each in (first, second)
    )
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"{len(first.mean)} features cannot be compared with {len(second.mean)}")
    overlap = np.linalg.svd(first.root @ second.root, compute_uv=False).sum()
    shift = np.square(first.mean - second.mean).sum()
    spread = np.trace(first.covariance) + np.trace(second.covariance) - 2 * overlap
    return float(max(0.0, shift + spread))


def symmetric_root(matrix):
    """The square root of a symmetric matrix without negative eigenvalues, itself symmetric."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def kernel_distance(first, second, size=1000, rounds=4, seed=0):
    """Squared maximum mean discrepancy with the kernel (x.y / F + 1)^3, as in KID.

    Unbiased for any number of images, so it may come out below 0. In each round both sets are
    shuffled and cut into disjoint subsets of `size`; the standard error is computed from their
    variance. Rounds share the images: they make the mean steadier, but count once for the
    standard error.

    Args:
        first, second: features (N, F) and (M, F).
        size: int, most images in a subset; fewer where a set is too small for 5 subsets.
        rounds: int.
        seed: int, of the shuffles.

    Returns:
        dict of `mean`, `standard_error`, `size` and `subsets` (of all rounds).

    Raises:
        ValueError: a set has fewer than 4 images, or the two differ in the number of features.

    Reference: Binkowski et al. 2018, arXiv:1801.01401, section 4; Gretton et al. 2012, lemma 6.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(f"{first.shape[1]} features cannot be compared with {second.shape[1]}")
    fewest = min(len(first), len(second))
    if fewest < 4:
        raise ValueError(f"a kernel distance needs 4 images in each set, not {fewest}")
    size = max(2, min(size, fewest // MIN_SUBSETS))
    subsets = fewest // size
    rng = np.random.default_rng(seed)
    values = np.empty((rounds, subsets))
    for row in values:
        chosen = [rng.permutation(len(each))[: subsets * size] for each in (first, second)]
        parts = (rows.reshape(subsets, size) for rows in chosen)
        for index, (rows, others) in enumerate(zip(*parts, strict=True)):
            row[index] = _discrepancy(first[rows], second[others])
    error = np.sqrt(values.var(axis=1, ddof=1).mean() / subsets)
    return {
        "mean": float(values.mean()),
        "standard_error": float(error),
        "size": size,
        "subsets": values.size,
    }


def _discrepancy(first, second):
    """The unbiased estimate for two sets of one size N: without pairs of an image with itself."""
    first, second = (np.asarray(each, np.float64) for each in (first, second))
    count, width = first.shape
    within = 0.0
    for each in (first, second):
        kernel = (each @ each.T / width + 1) ** 3
        within += (kernel.sum() - np.trace(kernel)) / (count * (count - 1))
    return within - 2 * ((first @ second.T / width + 1) ** 3).mean()
