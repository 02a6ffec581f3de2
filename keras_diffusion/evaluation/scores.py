"""Scores of a set of images by their features and class probabilities, as pure functions."""

import numpy as np

from keras_diffusion.evaluation.distances import Gaussian, frechet_distance, kernel_distance
from keras_diffusion.evaluation.manifolds import precision_recall

SURE = 0.9  # a probability above it counts as "the classifier is sure"
SUBSETS = 10  # of held-out images, for the baseline of the distance
KERAS_IO_BATCH = 64  # images in a subset of the kernel distance of the keras.io DDIM example


def compare(features, real, gaussian=None, seed=0):
    """Returns the scores of images that need no labels.

    Args:
        features: (N, F) of the images, N from 5.
        real: (M, F) of all real images, M from 5.
        gaussian: None, or the `Gaussian` of `real`, which is slow to compute.
        seed: int, of the subsets of the kernel distance, and of the N real images that precision
            and recall use.

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
    """Returns the kernel distance as the keras.io DDIM example reports it.

    Features have to be those of Keras' InceptionV3 at 75 pixels. The example compares batches of
    64 generated images with batches of 64 of the validation split.
    """
    return kernel_distance(held_out, features, size=KERAS_IO_BATCH)["mean"]


def accuracy(probabilities, labels):
    """Returns the share of images whose predicted class is their label, float in [0, 1]."""
    return float((np.asarray(probabilities).argmax(axis=-1) == np.asarray(labels)).mean())


def confidence(probabilities):
    """Returns how confident a classifier is: low for noise, high for typical images.

    Args:
        probabilities: (N, K), a row for each image.

    Returns:
        dict of `sure` (share of images with a probability above `SURE`) and `mean` (of the
        largest probabilities).
    """
    largest = np.asarray(probabilities, np.float64).max(axis=-1)
    return {"sure": float((largest > SURE).mean()), "mean": float(largest.mean())}


def class_shares(probabilities):
    """Returns the share of each predicted class, (K,); they sum to 1."""
    probabilities = np.asarray(probabilities)
    counts = np.bincount(probabilities.argmax(axis=-1), minlength=probabilities.shape[-1])
    return counts / len(probabilities)


def share_distance(first, second):
    """Returns the total variation of two rows of shares: 0 if equal, 1 if disjoint."""
    return float(np.abs(np.asarray(first) - np.asarray(second)).sum() / 2)


def baseline(held_out, size, subsets, score):
    """Returns scores of real, held-out images: what new images of the same distribution get.

    Distances are above 0, as `size` images never have exactly the mean and covariance of all,
    and the classifier was trained on the training images. A generator that copies those may come
    out below the baseline.

    Args:
        held_out: (N, F), features of the images.
        size, subsets: see `random_subsets`; `size` as of the generated images to compare.
        score: function of features (size, F).

    Returns:
        list of what `score` returns for each subset.

    Raises:
        ValueError: there are fewer images than `size`.
    """
    return [score(held_out[rows]) for rows in random_subsets(len(held_out), size, subsets)]


def distance_baseline(held_out, gaussian, size):
    """Returns the baseline of the Frechet distance alone.

    Args:
        held_out, size: see `baseline`; at most all held-out images are used.
        gaussian: `Gaussian` of the real images.

    Returns:
        dict of `mean`, `min`, `max`, `std` (over the subsets), `subsets`, `size`.
    """
    size = min(size, len(held_out))
    distances = baseline(held_out, size, SUBSETS, lambda each: frechet_distance(gaussian, each))
    return {
        "mean": float(np.mean(distances)),
        "min": min(distances),
        "max": max(distances),
        "std": float(np.std(distances, ddof=1)),
        "subsets": SUBSETS,
        "size": size,
    }


def random_subsets(count, size, subsets, seed=0):
    """Returns random subsets of `count` images, a list of int arrays (size,).

    They are disjoint as long as there are images left, and start anew from all images then.

    Raises:
        ValueError: there are fewer images than `size`.
    """
    if count < size:
        raise ValueError(f"{count} held-out images are fewer than {size}")
    rng = np.random.default_rng(seed)
    left, rows = np.empty(0, int), []
    for _ in range(subsets):
        if len(left) < size:
            left = rng.permutation(count)
        rows.append(left[:size])
        left = left[size:]
    return rows
