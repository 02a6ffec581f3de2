"""Encoder and decoder of an autoencoder: images <-> latents at a lower resolution.

At full resolution, where a CPU spends most of its time, 2x2 pixels are only folded into channels.
Blocks have no normalisation: it would take a third of the time, and the brightness and contrast of
an image must be kept.
"""

import keras
from keras import layers

from keras_diffusion.networks.layers import DepthToSpace, SpaceToDepth, check_precision, conv2d
from keras_diffusion.networks.unet import check_size

FIRST_LOG_VARIANCE = -4.0  # initial standard deviation of the latent noise: 0.14


def encoder(image_shape, *, latent_channels=4, widths=(64,), block_depth=1, name="encoder"):
    """Builds the encoder of an autoencoder.

    Args:
        image_shape: (height, width, channels); height and width are multiples of
            f = 2 ** len(widths), the ratio between the sides of images and of latents.
        latent_channels: channels of the latents.
        widths: channels of each level, from half the resolution downwards; each level halves it.
        block_depth: residual blocks per level.
        name: name of the model.

    Returns:
        A functional `keras.Model`, x (B, H, W, C) in [-1, 1] -> [mean, log_variance], both
        float32 (B, H/f, W/f, latent_channels).

    Raises:
        ValueError: height or width is not a multiple of f.

    Reference: Rombach et al. 2022, arXiv:2112.10752, appendix G (latents of a KL autoencoder);
        Lim et al. 2017, arXiv:1707.02921 (residual blocks without normalisation).
    """
    check_precision()
    check_size(image_shape[:2], 2 ** len(widths))
    h = x = keras.Input(image_shape, name="x")
    for level, width in enumerate(widths):
        h = SpaceToDepth(name=f"halve{level}")(h)
        h = conv2d(width, 1 if level else 3, padding="same", name=f"halve{level}_conv")(h)
        for index in range(block_depth):
            h = _residual_block(h, name=f"level{level}_{index}")
    h = layers.Activation("silu", name="out_silu")(h)
    mean = conv2d(latent_channels, 3, padding="same", name="mean")(h)
    log_variance = conv2d(
        latent_channels,
        3,
        padding="same",
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(FIRST_LOG_VARIANCE),
        name="log_variance",
    )(h)
    outputs = [
        layers.Activation("linear", dtype="float32", name=f"{output_name}_float32")(output)
        for output_name, output in (("mean", mean), ("log_variance", log_variance))
    ]
    return keras.Model(x, outputs, name=name)


def decoder(image_shape, *, latent_channels=4, widths=(64,), block_depth=1, name="decoder"):
    """Builds the decoder of an autoencoder.

    It has one block more than the encoder, at the lowest resolution.

    Args:
        image_shape: (height, width, channels) of the images.
        latent_channels, widths, block_depth: as of the `encoder`.
        name: name of the model.

    Returns:
        A functional `keras.Model`, (B, H/f, W/f, latent_channels) -> x float32 (B, H, W, C),
        approximately in [-1, 1].

    Raises:
        ValueError: height or width is not a multiple of f.
    """
    check_precision()
    height, width, channels = image_shape
    factor, last = 2 ** len(widths), len(widths) - 1
    check_size((height, width), factor)
    latent = keras.Input((height // factor, width // factor, latent_channels), name="latent")
    h = conv2d(widths[last], 3, padding="same", name="stem")(latent)
    for level in reversed(range(len(widths))):
        for index in range(block_depth + (level == last)):
            h = _residual_block(h, name=f"level{level}_{index}")
        if level:
            h = conv2d(4 * widths[level - 1], 1, name=f"double{level}_conv")(h)
            h = DepthToSpace(name=f"double{level}")(h)
    h = layers.Activation("silu", name="out_silu")(h)
    h = conv2d(4 * channels, 3, padding="same", name="out")(h)
    h = DepthToSpace(name="double0")(h)
    return keras.Model(
        latent, layers.Activation("linear", dtype="float32", name="out_float32")(h), name=name
    )


def _residual_block(x, *, name):
    """Returns x + conv(silu(conv(silu(x))))."""
    h, width = x, x.shape[-1]
    for number, initializer in ((1, "glorot_uniform"), (2, "zeros")):
        h = layers.Activation("silu", name=f"{name}_silu{number}")(h)
        h = conv2d(
            width, 3, padding="same", kernel_initializer=initializer, name=f"{name}_conv{number}"
        )(h)
    return layers.Add(name=f"{name}_add")([x, h])
