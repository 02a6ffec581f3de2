"""How good a set of pictures is, by what a network sees in them. Numbers in, numbers out."""

import numpy as np

from keras_diffusion.evaluation.distances import Gaussian, frechet_distance, kernel_distance
from keras_diffusion.evaluation.manifolds import precision_recall

SURE = 0.9  # a probability above it counts as "the classifier is sure"
SUBSETS = 10  # of held-out pictures, for the floor of the distance
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


def floor(held_out, size, subsets, score):
    """What real, held-out pictures score: what new pictures of the same kind would.

    No distance is 0 there: `size` pictures never have exactly the mean and covariance of all, and
    the classifier knows the training pictures, from which it learned. A generator that copies
    those may come out below it.

    Args:
        held_out: (N, F), features of the pictures.
        size, subsets: see `draws`; as many pictures in a subset as will be scored of a generator.
        score: function of features (size, F).

    Returns:
        list of what `score` returns for each subset.

    Raises:
        ValueError: there are fewer pictures than `size`.
    """
    return [score(held_out[rows]) for rows in draws(len(held_out), size, subsets)]


def distance_floor(held_out, gaussian, size):
    """The floor of the Frechet distance alone.

    Args:
        held_out, size: see `floor`; at most all held-out pictures are taken.
        gaussian: `Gaussian` of the real pictures.

    Returns:
        dict of `mean`, `min`, `max`, `std` (over the subsets), `subsets`, `size`.
    """
    size = min(size, len(held_out))
    distances = floor(held_out, size, SUBSETS, lambda each: frechet_distance(gaussian, each))
    return {
        "mean": float(np.mean(distances)),
        "min": min(distances),
        "max": max(distances),
        "std": float(np.std(distances, ddof=1)),
        "subsets": SUBSETS,
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
