"""The default network `unet`, and `build_unet` for U-Nets of other blocks."""

import functools

import keras
from keras import layers

from keras_diffusion.networks.embedding import conditioned_inputs
from keras_diffusion.networks.layers import (
    DepthToSpace,
    Recomputed,
    SpaceToDepth,
    SpatialAttention,
    conv2d,
)
from keras_diffusion.networks.normalisation import AdaptiveNorm, GroupRMSNorm
from keras_diffusion.networks.text_encoder import CrossAttention


def unet(
    image_shape,
    *,
    num_classes=0,
    widths=(64, 128, 256),
    block_depth=1,
    attention=None,
    dropout=0.0,
    embedding_width=256,
    remat=False,
    text=None,
    name="unet",
):
    """Builds a U-Net that predicts eps, x0 or v from noisy images.

    Args:
        image_shape: (height, width, channels); height and width are multiples of
            2 ** (len(widths) - 1).
        num_classes: number of classes; label `num_classes` is the null class. 0: no labels.
        widths: channels of each level, from full resolution downwards; each level halves it.
        block_depth: residual blocks per level on the way down, and again on the way up.
        attention: bool for each level, whether its blocks are followed by attention; None: only
            at the lowest resolution.
        dropout: dropout rate inside of residual blocks, in [0, 1).
        embedding_width: features of the embedding of noise level and condition.
        remat: gradient checkpointing of residual and attention blocks: less memory, more time,
            the same function.
        text: `TextEncoder`, or another layer with a `length` that maps tokens (B, length) to
            (B, length, features). Prompts replace labels, and attention blocks also attend to
            words. None: no prompts.
        name: name of the model.

    Returns:
        A functional `keras.Model`, {"x": (B, H, W, C), "logsnr": (B,)[, "label": (B,) int32 or
        "tokens": (B, L) int32]} -> float32 (B, H, W, C), initially zero.

    Raises:
        ValueError: a height or width that the levels do not divide; `attention` of another length
            than `widths`; both labels and prompts.

    Reference: Ronneberger et al. 2015, arXiv:1505.04597; Ho et al. 2020, arXiv:2006.11239,
        appendix B (residual blocks, attention); Rombach et al. 2022, arXiv:2112.10752 (prompts).
    """
    return build_unet(
        functools.partial(_residual_block, dropout=dropout),
        image_shape,
        num_classes=num_classes,
        widths=widths,
        block_depth=block_depth,
        attention=attention,
        embedding_width=embedding_width,
        remat=remat,
        text=text,
        name=name,
    )


def build_unet(block, image_shape, *, widths, block_depth, attention, remat, name, **condition):
    """Builds a U-Net of any kind of blocks.

    Args:
        block: function (x, embedding, *, name, width) -> (B, H, W, width), with `embedding`
            (B, embedding_width) of noise level and condition.
        condition: num_classes, embedding_width and text, see `conditioned_inputs`.

    Other arguments, returns and raises: see `unet`.
    """
    check_size(image_shape[:2], 2 ** (len(widths) - 1))
    attention = _attention_per_level(attention, len(widths))
    inputs, embedding, words = conditioned_inputs(image_shape, **condition)
    attend = _attention_block
    if remat:
        block, attend = _recomputed(block), _recomputed(attend)

    def blocks(h, level, prefix, depth=block_depth):
        for index in range(depth):
            name = f"{prefix}_{index}"
            h = block(h, embedding, name=name, width=widths[level])
            if attention[level]:
                h = attend(h, *words, name=f"{name}_attention")
        return h

    last = len(widths) - 1
    h = conv2d(widths[0], 3, padding="same", name="stem")(inputs["x"])
    skips = []
    for level in range(last):
        h = blocks(h, level, f"down{level}")
        skips.append(h)
        h = SpaceToDepth(name=f"halve{level}")(h)
        h = conv2d(widths[level + 1], 1, name=f"halve{level}_conv")(h)
    h = blocks(h, last, "middle", 2 * block_depth)
    for level in reversed(range(last)):
        h = conv2d(4 * widths[level], 1, name=f"double{level}_conv")(h)
        h = DepthToSpace(name=f"double{level}")(h)
        h = layers.Concatenate(name=f"skip{level}")([h, skips[level]])
        h = blocks(h, level, f"up{level}")
    h = GroupRMSNorm(activation="silu", name="out_norm")(h)
    channels = image_shape[-1]
    h = conv2d(channels, 3, padding="same", kernel_initializer="zeros", name="out")(h)
    output = layers.Activation("linear", dtype="float32", name="out_float32")(h)
    return keras.Model(inputs, output, name=name)


def _attention_per_level(attention, levels):
    if attention is None:
        return (False,) * (levels - 1) + (True,)
    if len(attention) != levels:
        raise ValueError(f"attention: {len(attention)} entries for {levels} widths.")
    return attention


def check_size(size, factor):
    """Raises ValueError with the nearest valid sizes if a side is not a multiple of `factor`."""
    if all(side >= factor and side % factor == 0 for side in size):
        return
    low = "x".join(str(max(factor, side // factor * factor)) for side in size)
    high = "x".join(str(max(factor, -(-side // factor) * factor)) for side in size)
    nearest = low if low == high else f"{low} or {high}"
    raise ValueError(
        f"image size {size[0]}x{size[1]}: this network needs multiples of {factor}. "
        f"Nearest: {nearest}."
    )


def _recomputed(block):
    """Returns `block` wrapped into a `Recomputed` layer."""

    def recomputed_block(*tensors, name, **options):
        inputs = [keras.Input(h.shape[1:], dtype=h.dtype) for h in tensors]
        inner = keras.Model(inputs, block(*inputs, name=name, **options), name=f"{name}_block")
        return Recomputed(inner, name=f"{name}_recomputed")(*tensors)

    return recomputed_block


def _residual_block(x, embedding, *, name, width, dropout):
    """Returns x + conv(silu(norm(conv(silu(norm(x)))))); a 1x1 conv on x if the width changes.

    Only the second norm is adaptive (Dhariwal & Nichol 2021, arXiv:2105.05233): two are not better,
    for a third more weights.
    """
    h = GroupRMSNorm(activation="silu", name=f"{name}_norm1")(x)
    h = conv2d(width, 3, padding="same", name=f"{name}_conv1")(h)
    h = AdaptiveNorm(activation="silu", name=f"{name}_norm2")(h, embedding)
    if dropout:
        h = layers.Dropout(dropout, name=f"{name}_dropout")(h)
    h = conv2d(width, 3, padding="same", kernel_initializer="zeros", name=f"{name}_conv2")(h)
    if x.shape[-1] != width:
        x = conv2d(width, 1, name=f"{name}_shortcut")(x)
    return layers.Add(name=f"{name}_add")([x, h])


def _attention_block(x, words=None, *, name):
    """Residual self-attention, and cross-attention to the words of a prompt."""
    h = GroupRMSNorm(name=f"{name}_norm")(x)
    x = layers.Add(name=f"{name}_add")([x, SpatialAttention(name=name)(h)])
    if words is None:
        return x
    h = CrossAttention(name=f"{name}_words")(GroupRMSNorm(name=f"{name}_words_norm")(x), words)
    return layers.Add(name=f"{name}_words_add")([x, h])
