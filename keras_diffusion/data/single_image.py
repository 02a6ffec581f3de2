"""One picture as a data set: random crops of it, so many in each epoch.

The crops of epoch e are a function of (seed, e) and of nothing else, as the order of images is
in `pipeline`.
"""

import pathlib

import numpy as np
import tensorflow as tf

from keras_diffusion.data import folder, pipeline
from keras_diffusion.data.sources import Source

BUNDLED = {"flower": "flower.jpg", "china": "china.jpg"}  # pictures of scikit-learn, 427x640
CROPS = 512  # in an epoch
VALIDATION_CROPS = 32
MULTIPLE = 16  # of both sides, in pixels: what a network of five levels asks for


def read(image):
    """Reads a picture.

    Args:
        image: file name, or "flower" or "china" for a picture that scikit-learn brings.

    Returns:
        uint8 array (H, W, C).

    Raises:
        FileNotFoundError, ValueError: as `folder.read`.
    """
    if image not in BUNDLED:
        return folder.read(image)
    from sklearn.datasets import load_sample_image

    return np.array(load_sample_image(BUNDLED[image]))


def reduced_size(size, box=None):
    """The size that a picture is reduced to: its shape is kept, but for a rounding to 16 pixels.

    Args:
        size: (height, width) in pixels.
        box: (height, width) that it is to fit into; None: its own size.

    Returns:
        (height, width), multiples of 16; never larger than the picture or the box.

    Raises:
        ValueError: a side would be shorter than 16 pixels.
    """
    box = box or size
    scale = min(1.0, *(most / side for side, most in zip(size, box, strict=True)))
    sides = [round(side * scale / MULTIPLE) * MULTIPLE for side in size]
    most = [min(pair) // MULTIPLE * MULTIPLE for pair in zip(size, box, strict=True)]
    sides = tuple(map(min, sides, most))
    if min(sides) < MULTIPLE:
        raise ValueError(
            f"a picture of {size[0]}x{size[1]} in a box of {box[0]}x{box[1]} pixels is smaller "
            f"than {MULTIPLE}x{MULTIPLE}"
        )
    return sides


def crop_of(size, asked=None):
    """The size of the crops of a picture.

    Large ones teach more than many small ones: what a detail belongs to is seen from around it.

    Args:
        size: (height, width) of the picture, multiples of 16.
        asked: (height, width), or None for three quarters of the sides.

    Returns:
        (height, width), at most the picture's.
    """
    share = [max(1, round(0.75 * side / MULTIPLE)) * MULTIPLE for side in size]
    return tuple(map(min, asked or share, size))


def source(image, picture, crop):
    """The `Source` that a picture is: its "images" are crops, its validation the same picture."""
    data = tf.data.Dataset.from_tensors({"image": picture})
    name = image if image in BUNDLED else pathlib.Path(image).stem
    of = f"crops of {crop[0]}x{crop[1]} from one picture of {picture.shape[0]}x{picture.shape[1]}"
    return Source(
        name, data, data, picture.shape, CROPS, VALIDATION_CROPS,
        train_split=f"random {of}", val_split=f"fixed {of}",
    )  # fmt: skip


def crop_corners(count, seed, epoch, picture_size, crop):
    """Where the crops of an epoch are cut.

    Corners are drawn up to half a crop beyond the picture and moved back inside: without that,
    the corners of the picture would be seen in one crop of thousands.

    Args:
        count: int, N.
        seed: int, of the run.
        epoch: int, from 0.
        picture_size: (height, width).
        crop: (height, width), at most that of the picture.

    Returns:
        int64 array (N, 2), the tops and lefts.
    """
    rng = np.random.default_rng((seed, epoch, 2))
    sides = []
    for side, length in zip(picture_size, crop, strict=True):
        beyond = length // 2
        drawn = rng.integers(-beyond, side - length + beyond + 1, count)
        sides.append(drawn.clip(0, side - length))
    return np.stack(sides, axis=-1)


def crops(picture, corners, crop):
    """Cuts a picture.

    Args:
        picture: uint8 array (H, W, C).
        corners: int array (N, 2) as from `crop_corners`.
        crop: (height, width).

    Returns:
        uint8 array (N, height, width, C).
    """
    windows = np.lib.stride_tricks.sliding_window_view(picture, crop, axis=(0, 1))
    return np.moveaxis(windows[corners[:, 0], corners[:, 1]], 1, -1)


def batches(picture, crop, count, batch_size, *, seed=0, horizontal_flip=False):
    """Training batches of random crops.

    Args:
        picture: uint8 array (H, W, C).
        crop: (height, width).
        count: int, crops in an epoch.
        batch_size: int.
        seed: int, of the run.
        horizontal_flip: bool, mirror half of the crops at random.

    Returns:
        epoch_batches(epoch) -> tf.data.Dataset, as `pipeline.batches_in_memory`.
    """

    def cut(corners):
        images = tf.numpy_function(lambda rows: crops(picture, rows, crop), [corners], tf.uint8)
        return {"image": tf.ensure_shape(images, (corners.shape[0], *crop, picture.shape[-1]))}

    def epoch_batches(epoch):
        size = picture.shape[:2]
        corners = pipeline.drawn(
            lambda e: crop_corners(count, seed, e, size, crop), epoch, [count, 2]
        )
        batches = tf.data.Dataset.from_tensor_slices(corners).batch(
            batch_size, drop_remainder=count >= batch_size
        )
        batches = batches.map(cut, tf.data.AUTOTUNE)
        return pipeline.flipped(batches, count, seed, epoch) if horizontal_flip else batches

    return epoch_batches


def validation(picture, crop, batch_size):
    """Batches of crops at places that depend on nothing; see `pipeline.validation_batches`."""
    corners = crop_corners(VALIDATION_CROPS, 0, 0, picture.shape[:2], crop)
    return pipeline.validation_batches({"image": crops(picture, corners, crop)}, batch_size)
