"""Precision and recall: which share of images is realistic, which share of the data is covered."""

import numpy as np

WORKING_MEMORY = 128  # MiB, for a block of distances


def precision_recall(real, generated, neighbours=3, working_memory=WORKING_MEMORY):
    """Precision and recall by manifolds of nearest neighbours.

    The manifold of a set is the union of balls around its features, each as large as the
    distance to the k-th nearest neighbour within the set. Precision is the share of generated
    images inside of the manifold of the real ones, recall the share of real ones inside of
    that of the generated ones. Both depend on the sizes of the sets: use equal ones.

    Memory: both sets in float64, and a block of distances: at 5000 images of 2048 features
    2 x 80 MB and about 0.3 GB.

    Args:
        real: features (N, F), N above `neighbours`.
        generated: features (M, F), M above `neighbours`.
        neighbours: k.
        working_memory: MiB that a block of distances may take.

    Returns:
        dict of `precision` and `recall`, in [0, 1].

    Raises:
        ValueError: a set has too few images.

    Reference: Kynkaanniemi et al. 2019, arXiv:1904.06991, equations 1 and 2.
    """
    fewest = min(len(real), len(generated))
    if fewest <= neighbours:
        raise ValueError(f"{neighbours} neighbours need more images than {fewest}")
    middle = np.mean(real, axis=0, dtype=np.float64)  # centred, for precision
    real, generated = (np.asarray(each, np.float64) - middle for each in (real, generated))
    inside = [
        _is_inside(points, others, radii(others, neighbours, working_memory), working_memory)
        for points, others in ((generated, real), (real, generated))
    ]
    return {"precision": float(inside[0].mean()), "recall": float(inside[1].mean())}


def radii(features, neighbours=3, working_memory=WORKING_MEMORY):
    """Distance of each of (N, F) features to its k-th nearest neighbour, itself left out: (N,)."""

    def furthest(distances, _):
        return np.partition(distances, neighbours, axis=1)[:, neighbours]  # 0 is itself

    return _by_blocks(furthest, features, None, working_memory)


def _is_inside(points, others, reach, working_memory):
    """Returns which points lie in a ball around any of the others: bool (N,)."""

    def is_reached(distances, _):
        return (distances <= reach).any(axis=1)

    return _by_blocks(is_reached, points, others, working_memory)


def _by_blocks(function, points, others, working_memory):
    """Applies a function to the distances, some rows at a time, and joins the results."""
    from sklearn.metrics import pairwise_distances_chunked  # takes a second to import

    blocks = pairwise_distances_chunked(
        points, others, reduce_func=function, working_memory=working_memory
    )
    return np.concatenate(list(blocks))
