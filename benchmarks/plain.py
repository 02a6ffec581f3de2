"""The plain version of what the package does in its own way: the yardstick of its optimisations.

Each is written as one would write it first, in stock operations with TensorFlow's own gradient.
"""

import contextlib

from keras import ops

from keras_diffusion.networks.normalisation import GroupRMSNorm


def _plainly(norm, x, scale, shift):
    """`GroupRMSNorm.normalise` as its formula reads."""
    divides = x.shape[-1] % norm.group_width == 0
    width = norm.group_width if divides else x.shape[-1]
    means = ops.cast(ops.mean(x * x, axis=(1, 2)), "float32")
    grouped = ops.reshape(means, (-1, x.shape[-1] // width, width))
    rms = ops.sqrt(ops.mean(grouped, axis=-1, keepdims=True) + norm.epsilon)
    rms = ops.reshape(ops.broadcast_to(rms, ops.shape(grouped)), (-1, x.shape[-1]))
    gain, shift = (ops.cast(v, x.dtype)[:, None, None] for v in (scale / rms, shift))
    z = x * gain + shift
    return ops.silu(z) if norm.activation else z


@contextlib.contextmanager
def layers():
    """Normalisation is plain, wherever it is called inside."""
    own, GroupRMSNorm.normalise = GroupRMSNorm.normalise, _plainly
    try:
        yield
    finally:
        GroupRMSNorm.normalise = own
