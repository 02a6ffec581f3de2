"""Linear operators A of a measurement y = A x: what is known of an image that is to be restored.

    operator = mask(known)             # some pixels
    small = operator.apply(images)

They act on images (N, H, W, C) of any range, as they are linear.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from keras import ops

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's conversion to "L"


@dataclasses.dataclass(frozen=True, eq=False)
class Operator:
    """A linear function of images, and its adjoint.

    Args:
        forward: function (x, *arrays) -> y = A x, of `keras.ops`; it treats every image alone.
        backward: function (y, *arrays) -> A^T y, of the shape of x.
        arrays: arrays (N, ...) with one row per image, or (1, ...) for all images alike.
        is_projection: whether A A = A. Then a measurement has the shape of x, and `restore` reads
            only A y of it.
        keeps_range: whether A x of images in [0, 1] is in [0, 1], so that `restore` can check y.
    """

    forward: Callable
    backward: Callable
    arrays: tuple = ()
    is_projection: bool = False
    keeps_range: bool = True

    def apply(self, x):
        """Returns A x."""
        return self.forward(x, *self.arrays)

    def adjoint(self, y):
        """Returns A^T y."""
        return self.backward(y, *self.arrays)


def linear(apply, adjoint, *arrays):
    """Any linear operator.

    Args:
        apply: function (x, *arrays) -> A x, of `keras.ops` or TensorFlow; x float32 (N, H, W, C).
            Pass the same function object again: another one is another graph.
        adjoint: function (y, *arrays) -> A^T y, float32 (N, H, W, C).
        *arrays: what the functions depend on, with one row per image.
    """
    arrays = tuple(np.asarray(each, "float32") for each in arrays)
    return Operator(apply, adjoint, arrays, keeps_range=False)


def mask(known):
    """Known pixels; the others are 0 in A x.

    Args:
        known: (H, W) for all images, or (N, H, W) or (N, H, W, 1); 1 or True: known, 0: missing.

    Raises:
        ValueError: another shape, or other values.
    """
    known = np.asarray(known)
    known = known[None] if known.ndim == 2 else known
    known = known[..., None] if known.ndim == 3 else known
    if known.ndim != 4 or known.shape[-1] != 1:
        raise ValueError(
            f"mask: shape {known.shape}; it must be (H, W), (N, H, W) or (N, H, W, 1)."
        )
    if not np.isin(known, (0, 1)).all():
        raise ValueError("mask: must be 1 where a pixel is known, and 0 elsewhere.")
    return Operator(_masked, _masked, (known.astype("float32"),), is_projection=True)


def frames(known, num_frames):
    """Known frames of clips with channels (frame, colour); the others are 0 in A x.

    Args:
        known: indices of the known frames, 0 .. num_frames - 1.
        num_frames: number of frames of a clip.

    Raises:
        ValueError: no index, or one out of range.
    """
    known = np.atleast_1d(np.asarray(known))
    if not known.size or not np.isin(known, range(num_frames)).all():
        raise ValueError(f"frames: {known.tolist()} are no frames of 0 .. {num_frames - 1}.")
    is_known = np.isin(np.arange(num_frames), known).astype("float32")[None]
    return Operator(_masked_frames, _masked_frames, (is_known,), is_projection=True)


@functools.cache
def downscale(factor):
    """The mean of each block of factor x factor pixels.

    Args:
        factor: int, at least 2; height and width of the images must be multiples of it.

    Raises:
        ValueError: another factor. `apply` raises it for images that cannot be divided.
    """
    if factor < 2 or factor % 1:
        raise ValueError(f"factor: {factor} is not a whole number of 2 or more.")
    factor = int(factor)

    def forward(x):
        height, width, channels = x.shape[1:]
        if height % factor or width % factor:
            raise ValueError(f"factor: {height}x{width} pixels cannot be divided by {factor}.")
        blocks = (-1, height // factor, factor, width // factor, factor, channels)
        return ops.mean(ops.reshape(x, blocks), axis=(2, 4))

    def backward(y):
        return ops.repeat(ops.repeat(y, factor, axis=1), factor, axis=2) / factor**2

    return Operator(forward, backward)


@functools.cache
def grayscale():
    """The luminance of RGB images, (N, H, W, 1); `apply` raises ValueError for other images."""

    def forward(x):
        if x.shape[-1] != 3:
            raise ValueError(f"grayscale: needs images of 3 channels, not of {x.shape[-1]}.")
        return ops.sum(x * np.float32(LUMINANCE), axis=-1, keepdims=True)

    def backward(y):
        return y * np.float32(LUMINANCE)

    return Operator(forward, backward)


def _masked(x, known):
    return x * known


def _masked_frames(x, known):
    num_frames, channels = known.shape[-1], x.shape[3]
    if channels % num_frames:
        raise ValueError(f"num_frames: {channels} channels are not {num_frames} frames.")
    by_frame = ops.reshape(x, (-1, *x.shape[1:3], num_frames, channels // num_frames))
    return ops.reshape(by_frame * known[:, None, None, :, None], (-1, *x.shape[1:]))
