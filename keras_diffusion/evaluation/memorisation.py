"""Are pictures copies? The nearest training picture of each, beside that of held-out ones.

A model that has learned what its pictures have in common draws new ones that are about as far
from the training pictures as real, held-out ones are. One that copies draws closer ones.
"""

import dataclasses

import numpy as np

BLOCK = 2**26  # numbers of training pictures at once: 256 MiB in float32
CLOSE = 0.01  # quantile of the held-out distances below which a picture is suspicious


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The nearest training picture of each of N pictures.

    Attributes:
        indices: int (N,), which one it is.
        distances: float64 (N,), root of the mean squared difference of all numbers: for pixels
            in their own units, 0 .. 255.
        mirrored: bool (N,), whether it is nearest when mirrored.
    """

    indices: np.ndarray
    distances: np.ndarray
    mirrored: np.ndarray

    def matches(self, training):
        """Returns the nearest training pictures themselves, mirrored where they are so."""
        found = training[self.indices]
        return np.where(self.mirrored[:, None, None, None], found[:, :, ::-1], found)


def nearest(pictures, training):
    """Finds the nearest training picture of each picture; memory is bounded by blocks.

    Args:
        pictures: (N, ...) pixels or features.
        training: (M, ...) likewise.

    Returns:
        `Nearest`.
    """
    from sklearn.metrics import pairwise_distances_argmin_min  # takes a second, which few need

    pictures = np.reshape(pictures, (len(pictures), -1)).astype(np.float32)
    training = np.reshape(training, (len(training), -1))
    size = max(1, BLOCK // training.shape[1])
    indices, least = np.zeros(len(pictures), int), np.full(len(pictures), np.inf)
    for first in range(0, len(training), size):
        block = training[first : first + size].astype(np.float32)
        found, distances = pairwise_distances_argmin_min(pictures, block)
        closer = distances < least
        indices[closer], least[closer] = first + found[closer], distances[closer]
    # Once more, pair by pair: the way by products that found them leaves no exact zeros.
    squares = [
        np.square(picture - training[index].astype(np.float32)).mean(dtype=np.float64)
        for picture, index in zip(pictures, indices, strict=True)
    ]
    return Nearest(indices, np.sqrt(squares), np.zeros(len(pictures), bool))


def nearest_or_mirrored(images, training):
    """As `nearest` of pictures (N, H, W, C), where training saw mirrored ones as well."""
    plain, other = nearest(images, training), nearest(images[:, :, ::-1], training)
    mirrored = other.distances < plain.distances
    return Nearest(
        np.where(mirrored, other.indices, plain.indices),
        np.minimum(other.distances, plain.distances),
        mirrored,
    )


def compare(drawn, held_out):
    """Holds distances to the nearest training picture against those of held-out pictures.

    Args:
        drawn: (N,), of the pictures in question.
        held_out: (M,), of real pictures that were not trained on.

    Returns:
        dict of
        `closer`: chance that a drawn picture is closer to its nearest than a held-out one to
            its own; 0.5 where nothing is copied, 1 where all is;
        `closer_error`: the standard error of `closer` where nothing is copied;
        `suspicious`: share of drawn pictures that are closer than 99% of the held-out ones;
            0.01 where nothing is copied;
        `median` and `median_held_out`: of the distances.

    Reference: Meehan et al. 2020, arXiv:2004.05675, the same comparison over all of the space.
    """
    from sklearn.metrics import roc_auc_score

    drawn, held_out = np.asarray(drawn), np.asarray(held_out)
    is_held_out = np.repeat([0, 1], [len(drawn), len(held_out)])
    pairs = len(drawn) * len(held_out)
    return {
        "closer": float(roc_auc_score(is_held_out, np.concatenate([drawn, held_out]))),
        "closer_error": float(np.sqrt((len(drawn) + len(held_out) + 1) / (12 * pairs))),
        "suspicious": float((drawn < np.quantile(held_out, CLOSE)).mean()),
        "median": float(np.median(drawn)),
        "median_held_out": float(np.median(held_out)),
    }


def in_words(space, found):
    """Returns what `compare` has found as a sentence."""
    margin = 2 * found["closer_error"]
    if found["closer"] > 0.5 + margin:
        verdict = "closer to training pictures than held-out ones are"
    elif found["closer"] < 0.5 - margin:
        verdict = "further from training pictures than held-out ones are"
    else:
        verdict = "as far from training pictures as held-out ones"
    return (
        f"by {space}, drawn pictures are {verdict}: a chance of {found['closer']:.1%} "
        f"± {found['closer_error']:.1%} to be the closer one (50% without copies), and "
        f"{found['suspicious']:.1%} below what 1% of held-out ones are"
    )
