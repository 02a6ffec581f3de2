"""One image as a data set: random crops, a given number per epoch.

The crops of epoch e are a function of (seed, e) only, as the order of images in `pipeline`.
"""

import pathlib

import numpy as np
import tensorflow as tf

from keras_diffusion.data import decoding, pipeline
from keras_diffusion.data.sources import Source

BUNDLED = {"flower": "flower.jpg", "china": "china.jpg"}  # images of scikit-learn, 427x640
CROPS = 512  # per epoch
VALIDATION_CROPS = 32
MULTIPLE = 16  # pixels; sides are multiples of it, as a network of five levels requires


def read(image):
    """Reads an image.

    Args:
        image: file name, or "flower" or "china" for an image of scikit-learn.

    Returns:
        uint8 array (H, W, C).

    Raises:
        FileNotFoundError, ValueError: as `decoding.read`.
    """
    if image not in BUNDLED:
        return decoding.read(image)
    from sklearn.datasets import load_sample_image

    return np.array(load_sample_image(BUNDLED[image]))


def reduced_size(size, box=None):
    """Size that an image is reduced to, of the same aspect ratio up to rounding to 16 pixels.

    Args:
        size: (height, width) in pixels.
        box: (height, width) that the image must fit into; None: its own size.

    Returns:
        (height, width), multiples of 16; never larger than the image or the box.

    Raises:
        ValueError: a side would be shorter than 16 pixels.
    """
    box = box or size
    scale = min(1.0, *(limit / side for side, limit in zip(size, box, strict=True)))
    sides = [round(side * scale / MULTIPLE) * MULTIPLE for side in size]
    limits = [min(pair) // MULTIPLE * MULTIPLE for pair in zip(size, box, strict=True)]
    sides = tuple(map(min, sides, limits))
    if min(sides) < MULTIPLE:
        raise ValueError(
            f"an image of {size[0]}x{size[1]} in a box of {box[0]}x{box[1]} pixels is smaller "
            f"than {MULTIPLE}x{MULTIPLE}"
        )
    return sides


def choose_crop_size(size, requested=None):
    """Size of the crops of an image; large crops train better, as they show more context.

    Args:
        size: (height, width) of the image, multiples of 16.
        requested: (height, width), or None for three quarters of the sides.

    Returns:
        (height, width), at most that of the image.
    """
    default = [max(1, round(0.75 * side / MULTIPLE)) * MULTIPLE for side in size]
    return tuple(map(min, requested or default, size))


def make_source(image, pixels, crop_size):
    """`Source` of an image: its training and validation images are crops.

    Args:
        image: as in `read`.
        pixels: uint8 array (H, W, C).
        crop_size: (height, width).
    """
    data = tf.data.Dataset.from_tensors({"image": pixels})
    name = image if image in BUNDLED else pathlib.Path(image).stem
    crop, whole = ("x".join(map(str, size)) for size in (crop_size, pixels.shape[:2]))
    return Source(
        name, data, data, pixels.shape, CROPS, VALIDATION_CROPS,
        train_split=f"random crops of {crop} from one image of {whole}",
        val_split=f"fixed crops of {crop} from one image of {whole}",
    )  # fmt: skip


def crop_corners(count, seed, epoch, image_size, crop_size):
    """Corners of the crops of an epoch.

    They are sampled up to half a crop outside the image and moved back inside; otherwise the
    corners of the image would be in one crop of thousands.

    Args:
        count: int, N.
        seed: int, of the run.
        epoch: int, from 0.
        image_size: (height, width).
        crop_size: (height, width), at most that of the image.

    Returns:
        int64 array (N, 2), top and left.
    """
    rng = np.random.default_rng((seed, epoch, 2))
    sides = []
    for side, length in zip(image_size, crop_size, strict=True):
        margin = length // 2
        corners = rng.integers(-margin, side - length + margin + 1, count)
        sides.append(corners.clip(0, side - length))
    return np.stack(sides, axis=-1)


def cut(pixels, corners, crop_size):
    """Cuts crops out of an image.

    Args:
        pixels: uint8 array (H, W, C).
        corners: int array (N, 2) as from `crop_corners`.
        crop_size: (height, width).

    Returns:
        uint8 array (N, height, width, C).
    """
    windows = np.lib.stride_tricks.sliding_window_view(pixels, crop_size, axis=(0, 1))
    return np.moveaxis(windows[corners[:, 0], corners[:, 1]], 1, -1)


def batches(pixels, crop_size, count, batch_size, *, seed=0, horizontal_flip=False):
    """Training batches of random crops.

    Args:
        pixels: uint8 array (H, W, C).
        crop_size: (height, width).
        count: int, crops per epoch.
        batch_size: int.
        seed: int, of the run.
        horizontal_flip: bool, mirror half of the crops at random.

    Returns:
        epoch_batches(epoch) -> tf.data.Dataset, as `pipeline.batches_in_memory`.
    """

    def cut_batch(corners):
        images = tf.numpy_function(lambda rows: cut(pixels, rows, crop_size), [corners], tf.uint8)
        shape = (corners.shape[0], *crop_size, pixels.shape[-1])
        return {"image": tf.ensure_shape(images, shape)}

    def epoch_batches(epoch):
        corners = pipeline.per_epoch(
            lambda e: crop_corners(count, seed, e, pixels.shape[:2], crop_size), epoch, [count, 2]
        )
        batches = pipeline.batch_rows(corners, count, batch_size)
        batches = batches.map(cut_batch, tf.data.AUTOTUNE)
        return pipeline.flipped(batches, count, seed, epoch) if horizontal_flip else batches

    return epoch_batches


def validation(pixels, crop_size, batch_size):
    """Batches of fixed crops, the same for every seed; see `pipeline.validation_batches`."""
    corners = crop_corners(VALIDATION_CROPS, 0, 0, pixels.shape[:2], crop_size)
    return pipeline.validation_batches({"image": cut(pixels, corners, crop_size)}, batch_size)
