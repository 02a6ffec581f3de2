"""A U-Net of ConvNeXt blocks: each channel is looked at alone first, then all of them widely."""

import functools

from keras import layers

from keras_diffusion.networks.normalisation import AdaptiveNorm, GroupRMSNorm
from keras_diffusion.networks.unet import framed


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

    A block is: depthwise convolution; norm, to which the embedding of noise level and label is
    added; 3x3 convolution to `expansion` times the width; norm and silu; 3x3 convolution back;
    plus the input. ConvNeXt has 1x1 convolutions there, gelu, and depthwise kernels of 7x7.
    3x3 and silu are for speed on a CPU: depthwise kernels above 3x3 have no fast gradient, 62 ms
    beside 4 for (128, 28, 28, 32) in bfloat16 on one core of an AMD EPYC (Zen 4), three times
    a 3x3 convolution of all channels; gelu costs twice a silu. The 3x3 convolutions after it
    see further than 1x1 would, and so does each lower level.

    Args:
        kernel_size: side of the depthwise kernels, odd.
        expansion: by how much the channels inside of a block are more than outside.

    The other arguments, what is returned and what is raised: see `unet`.

    Reference: Liu et al. 2022, arXiv:2201.03545 (ConvNeXt).
    """
    inside = {"kernel_size": kernel_size, "expansion": expansion, "dropout": dropout}
    return framed(
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
    h = layers.DepthwiseConv2D(kernel_size, padding="same", name=f"{name}_depthwise")(x)
    h = AdaptiveNorm(name=f"{name}_norm1")(h, embedding)
    h = layers.Conv2D(expansion * width, 3, padding="same", name=f"{name}_conv1")(h)
    h = GroupRMSNorm(activation="silu", name=f"{name}_norm2")(h)
    if dropout:
        h = layers.Dropout(dropout, name=f"{name}_dropout")(h)
    h = layers.Conv2D(width, 3, padding="same", kernel_initializer="zeros", name=f"{name}_conv2")(h)
    if x.shape[-1] != width:
        x = layers.Conv2D(width, 1, name=f"{name}_shortcut")(x)
    return layers.Add(name=f"{name}_add")([x, h])
