"""Normalisation, modulation and activation as one operation with its own gradient.

On a CPU they take most of the time next to the convolutions. Their time is proportional to the
number of passes over a batch of images: in training three forward and five backward, in sampling
five. Measurements: docs/performance.md.
"""

import functools

from keras import layers, ops

from keras_diffusion.networks.compiled import compiled
from keras_diffusion.networks.layers import register

ACTIVATIONS = (None, "silu")


@register
class GroupRMSNorm(layers.Layer):
    """RMS normalisation of groups of channels, with an optional activation.

        y = activation(x / rms(x) * scale + shift)

    The rms is over height, width and the channels of a group. scale and shift are weights of each
    channel, initially 1 and 0. Tensors of the size of the images are in the compute dtype, sums
    over pixels are rounded to it; everything else is float32.

    Args:
        group_width: channels per group; one group if the channels are not a multiple of it.
        epsilon: added to the mean square.
        activation: "silu" or None.

    Call arguments: x (B, H, W, C).

    Raises:
        ValueError: an unknown activation.

    Reference: Wu & He 2018, arXiv:1803.08494 (groups); Zhang & Sennrich 2019,
        arXiv:1910.07467 (no centring).
    """

    def __init__(self, group_width=16, epsilon=1e-5, activation=None, **kwargs):
        super().__init__(**{**kwargs, "autocast": False})  # scale and shift stay float32
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation: unknown {activation!r}. Choose from: None, 'silu'.")
        self.group_width = group_width
        self.epsilon = epsilon
        self.activation = activation

    def build(self, x_shape):
        options = {"shape": x_shape[-1:], "autocast": False}
        self.scale = self.add_weight(name="scale", initializer="ones", **options)
        self.shift = self.add_weight(name="shift", initializer="zeros", **options)

    def call(self, x, training=None):
        shape = ops.shape(x)[0], x.shape[-1]
        scale, shift = (ops.broadcast_to(w, shape) for w in (self.scale, self.shift))
        return self.normalise(x, scale, shift, training)

    def normalise(self, x, scale, shift, training):
        """Returns y for scale and shift of shape (B, C)."""
        divides = x.shape[-1] % self.group_width == 0
        groups = x.shape[-1] // self.group_width if divides else 1
        functions = _normalise(groups, self.epsilon, self.activation)
        return functions[training is not False](x, scale, shift)

    def compute_output_shape(self, x_shape, *_):
        return x_shape

    def get_config(self):
        names = ("group_width", "epsilon", "activation")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@register
class AdaptiveNorm(GroupRMSNorm):
    """`GroupRMSNorm` with scale and shift from the embedding of noise level and condition.

        (scale - 1, shift) = dense(embedding), initially zero

    Args: as of `GroupRMSNorm`.

    Call arguments: x (B, H, W, C); embedding (B, E).

    Reference: Perez et al. 2018, arXiv:1709.07871 (FiLM).
    """

    def build(self, x_shape, embedding_shape):
        options = {"initializer": "zeros", "autocast": False}
        shape = (embedding_shape[-1], 2 * x_shape[-1])
        self.kernel = self.add_weight(shape=shape, name="kernel", **options)
        self.bias = self.add_weight(shape=shape[1:], name="bias", **options)

    def call(self, x, embedding, training=None):
        modulation = ops.matmul(ops.cast(embedding, self.kernel.dtype), self.kernel) + self.bias
        scale, shift = ops.split(modulation, 2, axis=-1)
        return self.normalise(x, 1 + scale, shift, training)


@functools.cache
def _normalise(groups, epsilon, activation):
    """Returns (plain, trained), functions (x, scale, shift) -> activation(x / rms * scale + shift).

    Both compute the same. `trained` has its own gradient and needs XLA, which compiles it for one
    size of batch. `plain` is for sampling: batches of any size, and no functions for gradients in a
    SavedModel.

    x is (B, H, W, C); scale and shift (B, C). With z = gain x + shift, gain = scale / rms:

        dz = dy activation'(z),  dshift = sum(dz),  dgain = sum(dz x),  dscale = dgain / rms
        dx = gain dz - x group_mean(scale dgain) / (rms^3 H W)
    """

    def group_mean(values):
        channels = values.shape[-1]
        folded = ops.reshape(values, (-1, groups, channels // groups))
        means = ops.mean(folded, axis=-1, keepdims=True)
        return ops.reshape(ops.broadcast_to(means, ops.shape(folded)), (-1, channels))

    def inverse_rms_of(x, pixels):
        mean_square = ops.cast(ops.sum(x * x, axis=(1, 2)), pixels.dtype) / pixels
        return ops.rsqrt(group_mean(mean_square) + epsilon)

    def plain(x, scale, shift):
        gain = scale * inverse_rms_of(x, _count_pixels(x, scale.dtype))
        z = _modulated(x, gain, shift)
        return ops.silu(z) if activation else z

    @ops.custom_gradient
    def trained(x, scale, shift):
        pixels = _count_pixels(x, scale.dtype)
        inverse_rms = inverse_rms_of(x, pixels)
        gain = scale * inverse_rms
        y = _modulated_silu(x, gain, shift) if activation else _modulated(x, gain, shift)

        def gradient(*arguments, upstream=None):
            dy = arguments[0] if upstream is None else upstream
            dz = _silu_gradient(x, dy, gain, shift) if activation else dy
            dshift = ops.cast(ops.sum(dz, axis=(1, 2)), shift.dtype)
            dgain = ops.cast(ops.sum(dz * x, axis=(1, 2)), scale.dtype)
            pull = -group_mean(scale * dgain) * inverse_rms**3 / pixels
            return _weighted_sum(dz, x, gain, pull), dgain * inverse_rms, dshift

        return y, gradient

    return plain, trained


def _count_pixels(x, dtype):
    return ops.cast(ops.shape(x)[1] * ops.shape(x)[2], dtype)


def _over_pixels(values, dtype):
    return ops.cast(values, dtype)[:, None, None, :]


def _modulated(x, gain, shift):
    """z = gain x + shift, in the dtype of x."""
    return x * _over_pixels(gain, x.dtype) + _over_pixels(shift, x.dtype)


@compiled
def _modulated_silu(x, gain, shift):
    """silu(z) = z s, z = gain x + shift, s = sigmoid(z)."""
    z = _modulated(ops.cast(x, gain.dtype), gain, shift)
    return ops.cast(z * _sigmoid(z), x.dtype)


@compiled
def _silu_gradient(x, dy, gain, shift):
    """dy silu'(z), silu'(z) = s (1 + z (1 - s))."""
    z = _modulated(ops.cast(x, gain.dtype), gain, shift)
    s = _sigmoid(z)
    return ops.cast(ops.cast(dy, gain.dtype) * s * (1 + z * (1 - s)), x.dtype)


def _sigmoid(z):
    return 0.5 * ops.tanh(0.5 * z) + 0.5


@compiled
def _weighted_sum(dz, x, gain, pull):
    """gain dz + pull x."""
    dz, x, dtype = ops.cast(dz, gain.dtype), ops.cast(x, gain.dtype), x.dtype
    return ops.cast(dz * gain[:, None, None, :] + x * pull[:, None, None, :], dtype)
