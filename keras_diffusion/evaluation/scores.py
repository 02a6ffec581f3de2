"""How good a set of pictures is, by what a network sees in them. Numbers in, numbers out."""

import numpy as np

from keras_diffusion.evaluation.distances import Gaussian, frechet_distance, kernel_distance
from keras_diffusion.evaluation.manifolds import precision_recall

SURE = 0.9  # a probability above it counts as "the classifier is sure"
KERAS_IO_BATCH = 64  # pictures in a subset of the kernel distance of the keras.io DDIM example


def compare(features, real, gaussian=None, seed=0):
    """The scores that need no labels, of a set of pictures against real ones.

    Args:
        features: (N, F) of the pictures, N from 5.
        real: (M, F) of all real pictures, M from 5.
        gaussian: None, or the `Gaussian` of `real`, which takes its time.
        seed: int; which real pictures meet which, and which N of them the manifolds are of.

    Returns:
        dict of `num_images`, `fid` (Frechet distance), `kid` and `kid_error` (kernel distance and
        its standard error), `precision` and `recall`.
    """
    features, real = np.asarray(features), np.asarray(real)
    kernel = kernel_distance(real, features, seed=seed)
    as_many = np.random.default_rng(seed).permutation(len(real))[: len(features)]
    return {
        "num_images": len(features),
        "fid": frechet_distance(gaussian or Gaussian.of(real), features),
        "kid": kernel["mean"],
        "kid_error": kernel["standard_error"],
        **precision_recall(real[as_many], features),
    }


def keras_io_kid(features, held_out):
    """The kernel distance as the keras.io DDIM example reports it, if the features are its own.

    Those are of Keras' InceptionV3 at 75 pixels. The example holds batches of 64 new pictures
    against batches of 64 of the validation split.
    """
    return kernel_distance(held_out, features, size=KERAS_IO_BATCH)["mean"]


def accuracy(probabilities, labels):
    """Share of pictures that a classifier takes for what was asked for, float in [0, 1]."""
    return float((np.asarray(probabilities).argmax(axis=-1) == np.asarray(labels)).mean())


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
    """The figures of one set of pictures by a classifier alone.

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
        figures["accuracy"] = accuracy(probabilities, labels)
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
        subsets, seed: see `draws`.

    Returns:
        dict of `mean`, `min`, `max`, `std` (over subsets), `subsets`, `size`.

    Raises:
        ValueError: there are fewer pictures than `size`.
    """
    features = np.asarray(features)
    chosen = draws(len(features), size, subsets, seed)
    distances = [frechet_distance(reference, features[rows]) for rows in chosen]
    return {
        "mean": float(np.mean(distances)),
        "min": min(distances),
        "max": max(distances),
        "std": float(np.std(distances, ddof=1)) if subsets > 1 else 0.0,
        "subsets": subsets,
        "size": size,
    }


def draws(count, size, subsets, seed=0):
    """Which held-out pictures a floor is of.

    Args:
        count: int, how many there are.
        size: int, pictures in a subset.
        subsets: int; they are disjoint as long as the pictures last, and then drawn anew.
        seed: int.

    Returns:
        list of int arrays (size,).

    Raises:
        ValueError: there are fewer pictures than `size`.
    """
    if count < size:
        raise ValueError(f"{count} held-out pictures are fewer than {size}")
    rng = np.random.default_rng(seed)
    left = np.empty(0, int)
    found = []
    for _ in range(subsets):
        if len(left) < size:
            left = rng.permutation(count)
        found.append(left[:size])
        left = left[size:]
    return found
