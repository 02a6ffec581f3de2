"""Masks, fills that need no model, and scores of what was filled."""

import numpy as np
import tensorflow as tf
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

MOST_PSNR = 60.0  # dB; equal images would be infinitely alike
SSIM_MARGIN = 5  # pixels at the border that have no window of 11 around them


def masks(shape, num, seed):
    """Returns {name: bool (num, H, W)}, True where a pixel is known.

    Args:
        shape: (H, W, ...) of the images.
        num: int.
        seed: of the random pixels.
    """
    height, width = shape[:2]
    half, box = np.ones((2, height, width), bool)
    half[height // 2 :] = False
    box[height // 4 : height - height // 4, width // 4 : width - width // 4] = False
    random = np.random.default_rng(seed).random((num, height, width)) < 0.5
    same = {"lower half": half, "centre box": box}
    return {
        **{name: np.broadcast_to(mask, random.shape) for name, mask in same.items()},
        "random 50%": random,
    }


def nearest(images, known):
    """Fills each missing pixel with the nearest known one.

    Args:
        images: uint8 (N, H, W, C).
        known: bool (N, H, W).
    """
    filled = []
    for image, each in zip(images, known, strict=True):
        rows, columns = ndimage.distance_transform_edt(
            ~each, return_distances=False, return_indices=True
        )
        filled.append(image[rows, columns])
    return np.stack(filled)


def harmonic(images, known):
    """Fills missing pixels so that each is the mean of its neighbours (Laplace's equation).

    At the border of the image the neighbours inside of it count.

    Args:
        images: uint8 (N, H, W, C).
        known: bool (N, H, W), some True in each.
    """
    degrees, neighbours = _laplacian(images.shape[1:3])
    filled = images.astype("float64").reshape(len(images), -1, images.shape[-1])
    for image, each in zip(filled, known.reshape(len(known), -1), strict=True):
        missing = ~each
        if missing.any():
            system = (degrees - neighbours)[missing][:, missing].tocsc()
            given = neighbours[missing][:, each] @ image[each]
            image[missing] = spsolve(system, given).reshape(-1, images.shape[-1])
    return np.clip(np.rint(filled), 0, 255).astype("uint8").reshape(images.shape)


def _laplacian(size):
    """Returns two sparse matrices of H W pixels: numbers of neighbours, and which they are."""
    height, width = size
    places = np.arange(height * width).reshape(size)
    pairs = np.concatenate([
        np.stack([places[:, 1:].ravel(), places[:, :-1].ravel()]),
        np.stack([places[1:].ravel(), places[:-1].ravel()]),
    ], axis=1)  # fmt: skip
    ends = np.concatenate([pairs, pairs[::-1]], axis=1)
    neighbours = sparse.coo_matrix((np.ones(ends.shape[1]), tuple(ends))).tocsr()
    return sparse.diags(np.asarray(neighbours.sum(1)).ravel()).tocsr(), neighbours


def psnr(images, truth, known=None):
    """Returns the mean of `psnr_of_each`."""
    return float(psnr_of_each(images, truth, known).mean())


def psnr_of_each(images, truth, known=None):
    """Returns the PSNR (N,) in dB of missing pixels alone; at most 60 dB.

    Args:
        images, truth: uint8 (N, H, W, C).
        known: bool (N, H, W); None: all pixels count.
    """
    squares = np.square(images.astype("float64") - truth).mean(-1)
    weights = np.ones_like(squares) if known is None else ~known
    errors = (squares * weights).sum((1, 2)) / weights.sum((1, 2))
    return 10 * np.log10(255**2 / np.maximum(errors, 255**2 / 10 ** (MOST_PSNR / 10)))


def ssim(images, truth, known):
    """Returns the mean structural similarity of windows of 11x11 pixels around missing ones.

    Windows that reach over the border of the image do not count. Arguments as in `psnr_of_each`.
    """
    values = tf.image.ssim(images, truth, max_val=255, return_index_map=True).numpy()
    inner = slice(SSIM_MARGIN, -SSIM_MARGIN)
    return float(values[~known[:, inner, inner]].mean())
