"""A U-Net of ConvNeXt blocks: depthwise convolutions, then wide ones."""

import functools

from keras import layers

from keras_diffusion.networks.layers import conv2d
from keras_diffusion.networks.normalisation import AdaptiveNorm, GroupRMSNorm
from keras_diffusion.networks.unet import build_unet


def convnext_unet(
    image_shape,
    *,
    num_classes=0,
    widths=(32, 64, 128),
    block_depth=1,
    attention=None,
    dropout=0.0,
    embedding_width=256,
    kernel_size=3,
    expansion=2,
    remat=False,
    text=None,
    name="convnext_unet",
):
    """Builds a U-Net of ConvNeXt blocks that predicts eps, x0 or v from noisy images.

    A block: depthwise convolution; adaptive norm with the embedding; 3x3 convolution to
    `expansion` times the width; norm and silu; 3x3 convolution back; plus the input. ConvNeXt has
    7x7 depthwise and 1x1 pointwise convolutions and gelu. Here 3x3 and silu are for speed on a
    CPU: larger depthwise kernels have no fast gradient (62 ms instead of 4 for (128, 28, 28, 32) in
    bfloat16 on one core of an AMD EPYC Zen 4), and gelu costs twice as much as silu.

    Args:
        kernel_size: side of the depthwise kernels, odd.
        expansion: ratio of the channels inside of a block to those outside.

    Other arguments, returns and raises: see `unet`.

    Reference: Liu et al. 2022, arXiv:2201.03545 (ConvNeXt).
    """
    inside = {"kernel_size": kernel_size, "expansion": expansion, "dropout": dropout}
    return build_unet(
        functools.partial(_convnext_block, **inside),
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


def _convnext_block(x, embedding, *, name, width, dropout, kernel_size, expansion):
    h = layers.DepthwiseConv2D(
        kernel_size, padding="same", data_format="channels_last", name=f"{name}_depthwise"
    )(x)
    h = AdaptiveNorm(name=f"{name}_norm1")(h, embedding)
    h = conv2d(expansion * width, 3, padding="same", name=f"{name}_conv1")(h)
    h = GroupRMSNorm(activation="silu", name=f"{name}_norm2")(h)
    if dropout:
        h = layers.Dropout(dropout, name=f"{name}_dropout")(h)
    h = conv2d(width, 3, padding="same", kernel_initializer="zeros", name=f"{name}_conv2")(h)
    if x.shape[-1] != width:
        x = conv2d(width, 1, name=f"{name}_shortcut")(x)
    return layers.Add(name=f"{name}_add")([x, h])
