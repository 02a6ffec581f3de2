"""Layers of the networks.

Under mixed precision embeddings and softmax are float32; tensors of the size of an image are in the
compute dtype, bfloat16.
"""

import math
import operator

import keras
from keras import layers, ops


def register(cls):
    """Registers a layer, so that .keras files with it can be loaded."""
    return keras.saving.register_keras_serializable("keras_diffusion")(cls)


def conv2d(filters, kernel_size, **options):
    """Returns a `Conv2D` of (B, H, W, C), also where keras.json says channels_first."""
    return layers.Conv2D(filters, kernel_size, data_format="channels_last", **options)


def check_precision():
    """Raises ValueError if new layers would not have float32 weights."""
    for name, value in (
        ("floatx", keras.config.floatx()),
        ("dtype_policy", keras.config.dtype_policy().variable_dtype),
    ):
        if value != "float32":
            raise ValueError(
                f"keras.config.{name}: is {value!r}, but networks need float32 weights. Call "
                f"keras.config.set_{name}('float32') first"
                + (", or set mixed_bfloat16." if name == "dtype_policy" else ".")
            )


@register
class LogSNREmbedding(layers.Layer):
    """Sinusoidal embedding of the log signal-to-noise ratio, (B,) -> (B, width).

    Args:
        width: number of features, even.
        longest: longest wavelength in units of logSNR. Schedules span about 28 units.
        shortest: shortest wavelength. Networks must distinguish differences of about 0.5.

    Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3.5 (sinusoidal embedding);
        Kingma et al. 2021, arXiv:2107.00630 (conditioning on logSNR).
    """

    def __init__(self, width=64, longest=60.0, shortest=2.0, **kwargs):
        super().__init__(dtype="float32", **{k: v for k, v in kwargs.items() if k != "dtype"})
        self.width = width
        self.longest = longest
        self.shortest = shortest

    def call(self, logsnr):
        exponents = ops.linspace(0.0, 1.0, self.width // 2, dtype="float32")
        lengths = self.longest * (self.shortest / self.longest) ** exponents
        angles = logsnr[:, None] * (2 * math.pi / lengths)
        return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)

    def get_config(self):
        names = ("width", "longest", "shortest")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@register
class LabelEmbedding(layers.Embedding):
    """Embedding of class labels and of the null class, (B,) -> (B, width).

    Args:
        num_classes: number of classes. Labels are 0 .. num_classes - 1; label `num_classes` is the
            null class of classifier-free guidance.
        width: number of features.

    Reference: Ho & Salimans 2022, arXiv:2207.12598.
    """

    def __init__(self, num_classes, width, **kwargs):
        num_classes = operator.index(num_classes)  # labels.max() + 1 is one of numpy's
        super().__init__(num_classes + 1, width, **kwargs)
        self.num_classes = num_classes
        self.width = width

    def get_config(self):
        base = layers.Layer.get_config(self)
        return {**base, "num_classes": self.num_classes, "width": self.width}


@register
class SpatialAttention(layers.Layer):
    """Multi-head self-attention between the pixels, (B, H, W, C) -> (B, H, W, C).

    The cost grows with (H W)^2: for low resolutions. The output is initially zero.

    Args:
        head_width: channels per head; there are max(1, C // head_width) heads.

    Reference: Vaswani et al. 2017, arXiv:1706.03762.
    """

    def __init__(self, head_width=32, **kwargs):
        super().__init__(**kwargs)
        self.head_width = head_width

    def build(self, x_shape):
        channels = x_shape[-1]
        self.num_heads = max(1, channels // self.head_width)
        width = self.num_heads * self.head_width
        self.project_in = layers.Dense(
            3 * width, use_bias=False, dtype=self.dtype_policy, name="project_in"
        )
        self.project_in.build(x_shape)
        self.project_out = layers.Dense(
            channels, kernel_initializer="zeros", dtype=self.dtype_policy, name="project_out"
        )
        self.project_out.build((*x_shape[:-1], width))

    def call(self, x):
        _, height, width, _ = x.shape
        qkv = ops.reshape(
            self.project_in(x), (-1, height * width, 3, self.num_heads, self.head_width)
        )
        q, k, v = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), axis=0)
        mixed = ops.transpose(dot_product_attention(q, k, v), (0, 2, 1, 3))
        mixed = ops.reshape(mixed, (-1, height, width, self.num_heads * self.head_width))
        return self.project_out(mixed)

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "head_width": self.head_width}


def dot_product_attention(q, k, v):
    """Scaled dot-product attention with QK normalisation.

        softmax(rms_norm(q) rms_norm(k)^T / sqrt(head_width)) v

    The normalisation bounds the logits, so they do not overflow in bfloat16; the softmax is
    float32.

    Args:
        q: (B, heads, Q, head_width).
        k: (B, heads, K, head_width).
        v: (B, heads, K, head_width).

    Returns:
        (B, heads, Q, head_width).

    Reference: Dehghani et al. 2023, arXiv:2302.05442.
    """
    scores = ops.cast(
        ops.matmul(_unit_rms(q), ops.transpose(_unit_rms(k), (0, 1, 3, 2))), "float32"
    )
    weights = ops.softmax(scores / math.sqrt(q.shape[-1]), axis=-1)
    return ops.matmul(ops.cast(weights, v.dtype), v)


def _unit_rms(x):
    mean_square = ops.mean(ops.square(ops.cast(x, "float32")), axis=-1, keepdims=True)
    return x * ops.cast(ops.rsqrt(mean_square + 1e-6), x.dtype)


@register
class SpaceToDepth(layers.Layer):
    """Folds 2x2 pixels into channels, (B, H, W, C) -> (B, H/2, W/2, 4C), on any backend."""

    def call(self, x):
        _, height, width, channels = x.shape
        pairs = ops.reshape(x, (-1, height // 2, 2, width // 2, 2 * channels))
        return ops.reshape(
            ops.transpose(pairs, (0, 1, 3, 2, 4)), (-1, height // 2, width // 2, 4 * channels)
        )


@register
class DepthToSpace(layers.Layer):
    """Unfolds channels into 2x2 pixels, (B, H, W, 4C) -> (B, 2H, 2W, C)."""

    def call(self, x):
        _, height, width, channels = x.shape
        pairs = ops.reshape(x, (-1, height, width, 2, channels // 2))
        return ops.reshape(
            ops.transpose(pairs, (0, 1, 3, 2, 4)), (-1, 2 * height, 2 * width, channels // 4)
        )


@register
class Recomputed(layers.Layer):
    """Gradient checkpointing of a block: the backward pass computes its activations again.

    In training only the inputs of the block are kept in memory, at the cost of about one more
    forward pass. Outside of training the layer is the block itself.

    Args:
        block: functional `keras.Model` with one output.

    Call arguments: the inputs of the block, as positional arguments.

    Reference: Chen et al. 2016, arXiv:1604.06174.
    """

    def __init__(self, block, **kwargs):
        super().__init__(**{**kwargs, "autocast": False})  # the block's layers cast themselves
        self.block = block
        self.built = True

    def call(self, *inputs, training=False):
        if not training:
            return self.block(inputs, training=False)
        # Both passes need the same dropout masks: the seeds are advanced once, here, and fixed.
        dropouts = [layer for layer in self.block.layers if isinstance(layer, layers.Dropout)]
        generators = [layer.seed_generator for layer in dropouts]
        seeds = [(generator.state, generator.next()) for generator in generators]

        def block(*inputs):
            with keras.StatelessScope(state_mapping=seeds):
                return self.block(inputs, training=True)

        return keras.remat(block)(*inputs)

    def compute_output_shape(self, *input_shapes):
        return self.block.output_shape

    def get_config(self):
        block = keras.saving.serialize_keras_object(self.block)
        return {**super().get_config(), "block": block}

    @classmethod
    def from_config(cls, config):
        block = keras.saving.deserialize_keras_object(config["block"])
        return cls(**{**config, "block": block})
