"""Prompts in networks: a text encoder, and cross-attention from pixels to words.

The encoder is small and trained together with the network. It is float32 also under mixed
precision, as its cost is negligible next to that of the pixels.
"""

import keras
from keras import layers, ops

from keras_diffusion.networks.layers import dot_product_attention, register

HEAD_WIDTH = 32  # features of an attention head


@register
class TextEncoder(layers.Layer):
    """Transformer encoder of prompts, tokens (B, L) -> (B, L, width).

    Embeddings of words and positions, transformer blocks, layer norm. Padding is masked; its output
    is zero.

    Args:
        num_tokens: number of tokens; token 0 is padding.
        length: tokens per prompt, L.
        width: features of a word.
        depth: number of transformer blocks.

    Reference: Vaswani et al. 2017, arXiv:1706.03762; Rombach et al. 2022, arXiv:2112.10752,
        section 3.3 (in a diffusion model).
    """

    def __init__(self, num_tokens, length, width=128, depth=2, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.num_tokens = num_tokens
        self.length = length
        self.width = width
        self.depth = depth
        self.words = layers.Embedding(num_tokens, width, dtype="float32", name="words")
        self.blocks = [TransformerBlock(width, name=f"block{index}") for index in range(depth)]
        self.norm = layers.LayerNormalization(dtype="float32", name="norm")

    def build(self, tokens_shape):
        self.positions = self.add_weight(
            shape=(self.length, self.width), initializer="uniform", name="positions"
        )
        self.words.build(tokens_shape)
        for block in self.blocks:
            block.build((*tokens_shape, self.width))
        self.norm.build((*tokens_shape, self.width))

    def call(self, tokens):
        mask = ops.not_equal(tokens, 0)
        h = self.words(tokens) + self.positions
        for block in self.blocks:
            h = block(h, mask)
        return self.norm(h) * ops.cast(mask, "float32")[..., None]

    def set_word_vectors(self, vectors):
        """Sets the initial embeddings of the last N tokens, `vectors` (N, width)."""
        [table] = self.words.get_weights()
        table[-len(vectors) :] = vectors
        self.words.set_weights([table])

    def compute_output_shape(self, tokens_shape):
        return (*tokens_shape, self.width)

    def get_config(self):
        names = ("num_tokens", "length", "width", "depth")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("keras_diffusion", name="MeanOfWords")  # in old files
class MaskedMean(layers.Layer):
    """Mean over the words of a prompt without padding, (B, L, width), (B, L) -> (B, width).

    Call arguments: words (B, L, width), zero at padding, as from `TextEncoder`; tokens (B, L).
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, words, tokens):
        count = ops.sum(ops.cast(ops.not_equal(tokens, 0), "float32"), axis=1, keepdims=True)
        return ops.sum(words, axis=1) / ops.maximum(count, 1.0)

    def compute_output_shape(self, words_shape, tokens_shape):
        return words_shape[0], words_shape[-1]


@register
class TransformerBlock(layers.Layer):
    """Pre-norm transformer block: self-attention and a two-layer perceptron, both residual.

    Args:
        width: features of a word.

    Call arguments: h (B, L, width); mask (B, L), bool, False at padding.
    """

    def __init__(self, width, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.width = width
        heads = max(1, width // HEAD_WIDTH)
        self.norm1 = layers.LayerNormalization(dtype="float32", name="norm1")
        self.attention = layers.MultiHeadAttention(
            heads, HEAD_WIDTH, use_bias=False, dtype="float32", name="attention"
        )
        self.norm2 = layers.LayerNormalization(dtype="float32", name="norm2")
        self.dense1 = layers.Dense(4 * width, activation="gelu", dtype="float32", name="dense1")
        self.dense2 = layers.Dense(width, dtype="float32", name="dense2")

    def build(self, h_shape, *_):
        self.norm1.build(h_shape)
        self.attention.build(h_shape, h_shape)
        self.norm2.build(h_shape)
        self.dense1.build(h_shape)
        self.dense2.build((*h_shape[:-1], 4 * self.width))

    def call(self, h, mask):
        normed = self.norm1(h)
        h = h + self.attention(normed, normed, attention_mask=mask[:, None, :])
        return h + self.dense2(self.dense1(self.norm2(h)))

    def compute_output_shape(self, h_shape, *_):
        return h_shape

    def get_config(self):
        return {**super().get_config(), "width": self.width}


@register
class CrossAttention(layers.Layer):
    """Multi-head cross-attention from pixels to words, (B, H, W, C), (B, L, width) -> (B, H, W, C).

    Padding is not masked: its keys and values are zero, so attention to it means to no word. The
    output is initially zero.

    Args:
        head_width: channels per head; there are max(1, C // head_width) heads.

    Call arguments: x (B, H, W, C); text (B, L, width), as from `TextEncoder`.

    Reference: Rombach et al. 2022, arXiv:2112.10752, section 3.3.
    """

    def __init__(self, head_width=HEAD_WIDTH, **kwargs):
        super().__init__(**kwargs)
        self.head_width = head_width

    def build(self, x_shape, text_shape):
        channels = x_shape[-1]
        self.num_heads = max(1, channels // self.head_width)
        width = self.num_heads * self.head_width
        options = {"use_bias": False, "dtype": self.dtype_policy}
        self.project_x = layers.Dense(width, name="project_x", **options)
        self.project_x.build(x_shape)
        self.project_text = layers.Dense(2 * width, name="project_text", **options)
        self.project_text.build(text_shape)
        self.project_out = layers.Dense(
            channels, kernel_initializer="zeros", dtype=self.dtype_policy, name="project_out"
        )
        self.project_out.build((*x_shape[:-1], width))

    def call(self, x, text):
        _, height, width, _ = x.shape
        heads = (self.num_heads, self.head_width)
        q = ops.reshape(self.project_x(x), (-1, height * width, *heads))
        kv = ops.reshape(self.project_text(text), (-1, text.shape[1], 2, *heads))
        k, v = ops.unstack(ops.transpose(kv, (2, 0, 3, 1, 4)), axis=0)
        mixed = dot_product_attention(ops.transpose(q, (0, 2, 1, 3)), k, v)
        mixed = ops.reshape(
            ops.transpose(mixed, (0, 2, 1, 3)), (-1, height, width, heads[0] * heads[1])
        )
        return self.project_out(mixed)

    def compute_output_shape(self, x_shape, text_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "head_width": self.head_width}
