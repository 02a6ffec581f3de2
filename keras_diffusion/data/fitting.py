"""Images of any size for a model of one size: a window is reduced to it, and results go back.

A window is (top, left, height, width) in pixels of an image. It has the aspect ratio of the model's
images, and may reach beyond the image.
"""

import numpy as np
import tensorflow as tf

from keras_diffusion.data import pipeline


def largest_window(size, shape, around=None):
    """Returns the largest window within an image, as training crops it.

    Args:
        size: (height, width) of the image.
        shape: (height, width) of the model's images.
        around: None for the centre of the image, or (top, left, height, width) that the centre of
            the window is moved to, as far as the window stays within the image.
    """
    height = max(1, min(size[0], size[1] * shape[0] // shape[1]))
    width = max(1, min(size[1], size[0] * shape[1] // shape[0]))
    return _centred(size, (height, width), around, inside=True)


def whole_window(size, shape):
    """Returns the smallest window that contains an image; see `largest_window`."""
    height = max(size[0], -(-size[1] * shape[0] // shape[1]))
    width = max(size[1], -(-size[0] * shape[1] // shape[0]))
    return _centred(size, (height, width))


def bounding_box(mask):
    """Returns (top, left, height, width) of the True pixels of a bool array (H, W)."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def contains(window, box):
    """Whether a window contains another one."""
    return all(
        first <= other and other + length <= first + size
        for first, size, other, length in zip(window[:2], window[2:], box[:2], box[2:], strict=True)
    )


def cut(pixels, window, mode="constant"):
    """Cuts a window out of an image.

    Args:
        pixels: array (H, W, ...).
        window: (top, left, height, width).
        mode: what is outside of the image, as in `numpy.pad`: "constant" (zeros) or "reflect".

    Returns:
        Array (height, width, ...).
    """
    pads, slices = [], []
    for first, length, side in zip(window[:2], window[2:], pixels.shape[:2], strict=True):
        before, after = max(0, -first), max(0, first + length - side)
        pads.append((before, after))
        slices.append(slice(first + before, first + before + length))
    if not any(map(any, pads)):
        return pixels[tuple(slices)]
    return np.pad(pixels, pads + [(0, 0)] * (pixels.ndim - 2), mode)[tuple(slices)]


def fit(pixels, window, shape, mode="constant"):
    """Reduces or enlarges a window of an image to the model's size, as training does.

    Args:
        pixels: uint8 (H, W, C).
        window, mode: as in `cut`.
        shape: (h, w, c) of the model's images.

    Returns:
        uint8 (h, w, c).
    """
    part = tf.constant(convert_channels(cut(pixels, window, mode), shape[2]))
    return pipeline.resize(part, *shape[:2]).numpy()


def fit_masked(pixels, filled, window, shape):
    """Like `fit`, for an image with unknown pixels: nothing of them gets into the known ones.

    Args:
        pixels: uint8 (H, W, C).
        filled: bool (H, W), True where the image is unknown. It is unknown outside, too.
        window: as in `cut`.
        shape: (h, w, c) of the model's images.

    Returns:
        (uint8 (h, w, c), bool (h, w)): the image, and where it is known: where no part of the
        pixel is unknown.
    """
    known = cut(~filled, window).astype("float32")[..., None]
    part, size = convert_channels(cut(pixels, window), shape[2]).astype("float32"), shape[:2]
    if known.shape[:2] != tuple(size):
        share = tf.image.resize(known, size, "area")  # 1: wholly known
        weight = tf.image.resize(known, size, antialias=True)
        part = tf.image.resize(part * known, size, antialias=True) / tf.maximum(weight, 1e-6)
        known = share.numpy() > 1 - 1e-4
    return np.asarray(part).round().clip(0, 255).astype("uint8"), known[..., 0] > 0


def put_back(pixels, filled, window, result):
    """Returns an image with its unknown pixels from a result of the model; all others unchanged.

    Args:
        pixels: uint8 (H, W, C).
        filled: bool (H, W).
        window: the one that the model's image was made of; contains all of `filled`.
        result: uint8 (h, w, c); resized to the window, with the channels of `pixels`.
    """
    patch = resize_bicubic(convert_channels(result, pixels.shape[2]), window[2:])
    return np.where(filled[..., None], _over(pixels, window, patch), pixels)


def colour(pixels, window, result):
    """Returns an image with the colours of a result and its own brightness.

    Args:
        pixels: uint8 (H, W, 1).
        window: contains the image.
        result: uint8 (h, w, 3); resized to the window.

    Returns:
        uint8 (H, W, 3), of the luma of `pixels` but where a colour would leave 0 .. 255.
    """
    patch = resize_bicubic(result, window[2:])
    rgb = _over(np.repeat(pixels, 3, -1), window, patch).astype("float32")
    luma = rgb @ np.array([0.299, 0.587, 0.114], "float32")
    return (rgb + pixels - luma[..., None]).round().clip(0, 255).astype("uint8")


def convert_channels(pixels, channels):
    """Returns a uint8 image with 1, 3 or 4 channels, as `pipeline.convert_channels`, in numpy."""
    return np.asarray(pipeline.convert_channels(tf.constant(pixels), channels))


def resize_bicubic(pixels, size):
    """Returns a uint8 image (H, W, C) resized to (height, width); of that size it is unchanged."""
    if tuple(size) == pixels.shape[:2]:
        return pixels
    pixels = tf.image.resize(tf.cast(pixels, tf.float32), size, "bicubic", antialias=True)
    return tf.saturate_cast(tf.round(pixels), tf.uint8).numpy()


def _centred(size, lengths, around=None, inside=False):
    around = around or (0, 0, *size)
    firsts = []
    for side, length, first, extent in zip(size, lengths, around[:2], around[2:], strict=True):
        middle = first + (extent - length) // 2
        firsts.append(int(min(max(0, middle), side - length) if inside else middle))
    return (*firsts, *lengths)


def _over(pixels, window, patch):
    """Returns a copy of an image with a window of it replaced, as far as it is inside."""
    copy, (top, left, height, width) = pixels.copy(), window
    bottom, right = min(top + height, pixels.shape[0]), min(left + width, pixels.shape[1])
    first, start = max(0, top), max(0, left)
    copy[first:bottom, start:right] = patch[first - top : bottom - top, start - left : right - left]
    return copy
