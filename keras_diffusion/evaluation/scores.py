"""How good a set of pictures is, by what a classifier sees in them. Numbers in, numbers out.

`extractor.py` turns pictures into features and class probabilities; this file knows no network
and needs numpy alone.
"""

import dataclasses

import numpy as np

SURE = 0.9  # a probability above it counts as "the classifier is sure"


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Mean and covariance of features: all that the Frechet distance sees of a set of pictures.

    Attributes:
        mean: float64 (F,).
        covariance: float64 (F, F).
        num_images: int, from how many pictures; few of them make every distance larger.
    """

    mean: np.ndarray
    covariance: np.ndarray
    num_images: int

    @classmethod
    def of(cls, features):
        """Fits features (N, F), N at least 2; sums are in float64 and around the mean."""
        features = np.asarray(features, np.float64)
        if features.ndim != 2 or len(features) < 2:
            raise ValueError(f"features must be (N, F) with N from 2, not {features.shape}")
        if not np.isfinite(features).all():
            raise ValueError("features must be finite")
        mean = features.mean(axis=0)
        centred = features - mean
        return cls(mean, centred.T @ centred / (len(features) - 1), len(features))


def frechet_distance(first, second):
    """Squared Frechet (2-Wasserstein) distance of two Gaussians, as in FID.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). The usual matrix root of the product C1 C2 is
    that of a matrix that is not symmetric: it may come out complex, and loses half of the
    digits where features hardly vary. Its trace is the sum of the singular values of
    C1^(1/2) C2^(1/2), so two symmetric roots and one SVD do, also for singular covariances
    (fewer pictures than features, or a feature that is always 0).

    Args:
        first, second: `Gaussian`s, or features (N, F) to fit them to.

    Returns:
        float, not negative: the true value is not, and rounding is cut off.

    Raises:
        ValueError: the two differ in the number of features.
    """
    first, second = (
        each if isinstance(each, Gaussian) else Gaussian.of(each) for each in (first, second)
    )
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"{len(first.mean)} features cannot be held against {len(second.mean)}")
    roots = symmetric_root(first.covariance) @ symmetric_root(second.covariance)
    overlap = np.linalg.svd(roots, compute_uv=False).sum()
    shift = np.square(first.mean - second.mean).sum()
    spread = np.trace(first.covariance) + np.trace(second.covariance) - 2 * overlap
    return float(max(0.0, shift + spread))


def symmetric_root(matrix):
    """The square root of a symmetric matrix without negative eigenvalues, itself symmetric."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def confidence(probabilities):
    """How sure a classifier is of pictures: of noise it is not, of typical ones it is.

    Args:
        probabilities: (N, K), a row for each picture.

    Returns:
        dict of `sure` (share of pictures with a class above `SURE`) and `mean` (of the
        largest probabilities).
    """
    largest = np.asarray(probabilities, np.float64).max(axis=-1)
    return {"sure": float((largest > SURE).mean()), "mean": float(largest.mean())}


def class_shares(probabilities):
    """Shares of the classes that a classifier takes pictures for, (K,): they sum to 1."""
    probabilities = np.asarray(probabilities)
    counts = np.bincount(probabilities.argmax(axis=-1), minlength=probabilities.shape[-1])
    return counts / len(probabilities)


def share_distance(first, second):
    """Total variation of two rows of shares: 0 for the same, 1 where no class is in both."""
    return float(np.abs(np.asarray(first) - np.asarray(second)).sum() / 2)


def score(features, probabilities, reference, reference_shares, labels=None):
    """All figures of one set of pictures.

    Args:
        features: (N, F).
        probabilities: (N, K).
        reference: `Gaussian` of the real pictures.
        reference_shares: (K,), classes of the real pictures.
        labels: (N,) classes that were asked for, None where none were.

    Returns:
        dict: `distance`, `sure`, `confidence`, `class_shares`, `class_distance`, and with
        labels `accuracy`, the share of pictures that the classifier takes for what was asked.
    """
    shares = class_shares(probabilities)
    sureness = confidence(probabilities)
    figures = {
        "num_images": len(features),
        "distance": frechet_distance(reference, features),
        "sure": sureness["sure"],
        "confidence": sureness["mean"],
        "class_shares": [round(float(share), 4) for share in shares],
        "class_distance": share_distance(shares, reference_shares),
    }
    if labels is not None:
        right = np.asarray(probabilities).argmax(axis=-1) == np.asarray(labels)
        figures["accuracy"] = float(right.mean())
    return figures


def floor(features, reference, size, subsets=10, seed=0):
    """Distance of real, held-out pictures: what new pictures of the same kind score.

    It is not 0: `size` pictures never have exactly the mean and covariance of all, and the
    classifier knows the pictures of the reference, which it was trained on. A generator that
    copies those may come out below it.

    Args:
        features: (N, F) of held-out pictures, N at least `size`.
        reference: `Gaussian`.
        size: int, pictures in a subset, as many as will be scored of a generator.
        subsets: int; they are disjoint as long as the pictures last, and then drawn anew.
        seed: int.

    Returns:
        dict of `mean`, `min`, `max`, `std` (over subsets), `subsets`, `size`.
    """
    if len(features) < size:
        raise ValueError(f"{len(features)} held-out pictures are fewer than {size}")
    rng = np.random.default_rng(seed)
    left = np.empty(0, int)
    distances = []
    for _ in range(subsets):
        if len(left) < size:
            left = rng.permutation(len(features))
        chosen, left = left[:size], left[size:]
        distances.append(frechet_distance(reference, np.asarray(features)[chosen]))
    return {
        "mean": float(np.mean(distances)),
        "min": min(distances),
        "max": max(distances),
        "std": float(np.std(distances, ddof=1)) if subsets > 1 else 0.0,
        "subsets": subsets,
        "size": size,
    }
