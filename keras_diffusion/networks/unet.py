"""The default network, and the frame of every U-Net: levels, skips, and one embedding of noise
level and label in all blocks."""

import functools

import keras
from keras import layers

from keras_diffusion.networks.embedding import conditioned_inputs
from keras_diffusion.networks.layers import (
    DepthToSpace,
    Recomputed,
    SpaceToDepth,
    SpatialAttention,
)
from keras_diffusion.networks.normalisation import AdaptiveNorm, GroupRMSNorm
from keras_diffusion.networks.text import CrossAttention


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
        image_shape: (height, width, channels); height and width multiples of
            2 ** (len(widths) - 1).
        num_classes: 0 for no labels; otherwise labels are 0 .. num_classes - 1, and
            `num_classes` itself is the null class of guidance.
        widths: channels of each level, full resolution first; each next level has half the
            height and width.
        block_depth: residual blocks per level on the way down, and again on the way up.
        attention: for each level, whether its blocks are followed by attention; None: only at
            the last one, where pixels are few.
        dropout: share of features dropped inside each residual block, in [0, 1).
        embedding_width: features of the embedding of noise level and label.
        remat: keep only the inputs of residual and attention blocks for the backward pass, and
            compute the rest again there: less memory, more time, the same function.
        text: None, or a `TextEncoder`, or any layer with a `length` from tokens (B, length) to
            (B, length, features): prompts in the place of labels. Where pixels attend to each
            other they then attend to the words as well.
        name: name of the model.

    Returns:
        A functional `keras.Model`; inputs a dict of "x" (B, H, W, C), "logsnr" (B,) and, for
        labels, "label" (B,) int32, or, for prompts, "tokens" (B, L) int32; output float32
        (B, H, W, C), zero at the start.

    Raises:
        ValueError: a size that the levels do not divide; `attention` of another length; labels
            and prompts.

    Reference: Ronneberger et al. 2015, arXiv:1505.04597; residual blocks and attention as in
        Ho et al. 2020, arXiv:2006.11239, appendix B; attention to words as in Rombach et al.
        2022, arXiv:2112.10752.
    """
    return framed(
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


def framed(block, image_shape, *, widths, block_depth, attention, remat, name, **condition):
    """Builds a U-Net of blocks of any kind.

    Args:
        block: function (x, embedding, *, name, width) -> (B, H, W, width), where
            `embedding` (B, embedding_width) is that of noise level and label.
        condition: num_classes, embedding_width and text, see `conditioned_inputs`.

    The other arguments, what is returned and what is raised: see `unet`.
    """
    check_size(image_shape[:2], 2 ** (len(widths) - 1))
    attention = _per_level(attention, len(widths))
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
    h = layers.Conv2D(widths[0], 3, padding="same", name="stem")(inputs["x"])
    skips = []
    for level in range(last):
        h = blocks(h, level, f"down{level}")
        skips.append(h)
        h = SpaceToDepth(name=f"halve{level}")(h)
        h = layers.Conv2D(widths[level + 1], 1, name=f"halve{level}_conv")(h)
    h = blocks(h, last, "middle", 2 * block_depth)
    for level in reversed(range(last)):
        h = layers.Conv2D(4 * widths[level], 1, name=f"double{level}_conv")(h)
        h = DepthToSpace(name=f"double{level}")(h)
        h = layers.Concatenate(name=f"skip{level}")([h, skips[level]])
        h = blocks(h, level, f"up{level}")
    h = GroupRMSNorm(activation="silu", name="out_norm")(h)
    channels = image_shape[-1]
    h = layers.Conv2D(channels, 3, padding="same", kernel_initializer="zeros", name="out")(h)
    output = layers.Activation("linear", dtype="float32", name="out_float32")(h)
    return keras.Model(inputs, output, name=name)


def _per_level(attention, levels):
    if attention is None:
        return (False,) * (levels - 1) + (True,)
    if len(attention) != levels:
        raise ValueError(f"attention: {len(attention)} entries for {levels} widths; one per level.")
    return attention


def check_size(size, factor):
    """Raises ValueError, with the nearest sizes that work, unless `factor` divides `size`."""
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
    """Returns `block` as one layer that computes itself again in the backward pass."""

    def recomputed_block(*tensors, name, **options):
        inputs = [keras.Input(h.shape[1:], dtype=h.dtype) for h in tensors]
        inner = keras.Model(inputs, block(*inputs, name=name, **options), name=f"{name}_block")
        return Recomputed(inner, name=f"{name}_recomputed")(*tensors)

    return recomputed_block


def _residual_block(x, embedding, *, name, width, dropout):
    """norm, silu, conv twice, plus the input (through a 1x1 conv if the width changes).

    The embedding speaks once, in the second norm (Dhariwal & Nichol 2021, arXiv:2105.05233): in
    both it learns no better, for a third more weights.
    """
    h = GroupRMSNorm(activation="silu", name=f"{name}_norm1")(x)
    h = layers.Conv2D(width, 3, padding="same", name=f"{name}_conv1")(h)
    h = AdaptiveNorm(activation="silu", name=f"{name}_norm2")(h, embedding)
    if dropout:
        h = layers.Dropout(dropout, name=f"{name}_dropout")(h)
    h = layers.Conv2D(width, 3, padding="same", kernel_initializer="zeros", name=f"{name}_conv2")(h)
    if x.shape[-1] != width:
        x = layers.Conv2D(width, 1, name=f"{name}_shortcut")(x)
    return layers.Add(name=f"{name}_add")([x, h])


def _attention_block(x, words=None, *, name):
    """Pixels look at each other and, where there is a prompt, at its words."""
    h = GroupRMSNorm(name=f"{name}_norm")(x)
    x = layers.Add(name=f"{name}_add")([x, SpatialAttention(name=name)(h)])
    if words is None:
        return x
    h = CrossAttention(name=f"{name}_words")(GroupRMSNorm(name=f"{name}_words_norm")(x), words)
    return layers.Add(name=f"{name}_words_add")([x, h])
