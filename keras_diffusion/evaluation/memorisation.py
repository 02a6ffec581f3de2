"""Are generated images copies? Distances to the nearest training image, as of held-out images.

A model that generalises generates images about as far from the training images as held-out
images are. A model that copies generates closer ones.
"""

import dataclasses

import numpy as np

BLOCK = 2**26  # values of training images at once: 256 MiB in float32
CLOSE = 0.01  # quantile of the held-out distances below which an image is suspicious


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The nearest training image of each of N images.

    Attributes:
        indices: int (N,), its number.
        distances: float64 (N,), root mean squared difference; of pixels in 0 .. 255.
        mirrored: bool (N,), whether the mirrored image is nearest.
    """

    indices: np.ndarray
    distances: np.ndarray
    mirrored: np.ndarray

    def matches(self, training):
        """Returns the nearest training images themselves, mirrored where these are nearest."""
        images = training[self.indices]
        return np.where(self.mirrored[:, None, None, None], images[:, :, ::-1], images)


def nearest(images, training):
    """Finds the nearest training image of each image; `BLOCK` bounds the memory.

    Args:
        images: (N, ...) pixels or features.
        training: (M, ...) likewise.

    Returns:
        `Nearest`.
    """
    from sklearn.metrics import pairwise_distances_argmin_min  # takes a second to import

    images = np.reshape(images, (len(images), -1)).astype(np.float32)
    training = np.reshape(training, (len(training), -1))
    size = max(1, BLOCK // training.shape[1])
    indices, least = np.zeros(len(images), int), np.full(len(images), np.inf)
    for first in range(0, len(training), size):
        block = training[first : first + size].astype(np.float32)
        rows, distances = pairwise_distances_argmin_min(images, block)
        closer = distances < least
        indices[closer], least[closer] = first + rows[closer], distances[closer]
    # Once more for the pairs: scikit-learn computes distances by products, which leaves no exact 0.
    squares = [
        np.square(image - training[index].astype(np.float32)).mean(dtype=np.float64)
        for image, index in zip(images, indices, strict=True)
    ]
    return Nearest(indices, np.sqrt(squares), np.zeros(len(images), bool))


def nearest_or_mirrored(images, training):
    """As `nearest` for images (N, H, W, C), of a model that was trained on mirrored ones too."""
    plain, other = nearest(images, training), nearest(images[:, :, ::-1], training)
    mirrored = other.distances < plain.distances
    return Nearest(
        np.where(mirrored, other.indices, plain.indices),
        np.minimum(other.distances, plain.distances),
        mirrored,
    )


def compare(generated, held_out):
    """Compares distances to the nearest training image with those of held-out images.

    Args:
        generated: (N,), distances of generated images.
        held_out: (M,), distances of real images that were not trained on.

    Returns:
        dict of
        `closer`: probability that a generated image is closer to its nearest training image
            than a held-out one to its own; 0.5 without copies, 1 if all are copies;
        `closer_error`: the standard error of `closer` without copies;
        `suspicious`: share of generated images that are closer than 99% of the held-out ones;
            0.01 without copies;
        `median` and `median_held_out`: of the distances.

    Reference: Meehan et al. 2020, arXiv:2004.05675, without its division into cells.
    """
    from sklearn.metrics import roc_auc_score

    generated, held_out = np.asarray(generated), np.asarray(held_out)
    is_held_out = np.repeat([0, 1], [len(generated), len(held_out)])
    pairs = len(generated) * len(held_out)
    return {
        "closer": float(roc_auc_score(is_held_out, np.concatenate([generated, held_out]))),
        "closer_error": float(np.sqrt((len(generated) + len(held_out) + 1) / (12 * pairs))),
        "suspicious": float((generated < np.quantile(held_out, CLOSE)).mean()),
        "median": float(np.median(generated)),
        "median_held_out": float(np.median(held_out)),
    }


def in_words(space, comparison):
    """Returns the result of `compare` as a sentence."""
    closer, margin = comparison["closer"], 2 * comparison["closer_error"]
    if closer > 0.5 + margin:
        verdict = "closer to training images than held-out ones are"
    elif closer < 0.5 - margin:
        verdict = "further from training images than held-out ones are"
    else:
        verdict = "as far from training images as held-out ones"
    return (
        f"by {space}, generated images are {verdict}: a generated image is the closer one of a "
        f"pair in {closer:.1%} ± {comparison['closer_error']:.1%} (50% without copies), and "
        f"{comparison['suspicious']:.1%} are closer than 99% of the held-out ones"
    )
