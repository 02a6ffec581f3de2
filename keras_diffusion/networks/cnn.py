"""A plain CNN at full resolution, used by the study of noise schedules."""

import keras
from keras import layers

from keras_diffusion.networks.embedding import conditioned_inputs
from keras_diffusion.networks.layers import conv2d


def cnn(
    image_shape,
    *,
    num_classes=0,
    widths=(16, 32, 32, 16),
    embedding_width=128,
    name="cnn",
):
    """Builds a chain of 7x7 convolutions that predicts eps, x0 or v from noisy images.

        block: conv 7x7, layer norm over the whole image, gelu;  output: conv 3x3

    The embedding is added once, after the first block. With four blocks the receptive field is 13
    pixels to each side: enough for MNIST, not for larger images.

    Args:
        image_shape: (height, width, channels), any size. It is fixed, as the norms have a weight
            for each pixel.
        num_classes: number of classes; label `num_classes` is the null class. 0: no labels.
        widths: channels of each block.
        embedding_width: features of the embedding of noise level and label.
        name: name of the model.

    Returns:
        A functional `keras.Model`, {"x": (B, H, W, C), "logsnr": (B,)[, "label": (B,) int32]} ->
        float32 (B, H, W, C), initially zero.

    Reference: Ba et al. 2016, arXiv:1607.06450 (layer norm).
    """
    inputs, embedding, _ = conditioned_inputs(image_shape, num_classes, embedding_width)
    h = inputs["x"]
    for index, width in enumerate(widths):
        h = conv2d(width, 7, padding="same", name=f"conv{index}")(h)
        h = layers.LayerNormalization(axis=(1, 2, 3), name=f"norm{index}")(h)
        h = layers.Activation("gelu", name=f"gelu{index}")(h)
        if index == 0:
            shift = layers.Dense(width, name="embedding_dense")(embedding)
            shift = layers.Reshape((1, 1, width), name="embedding_pixel")(shift)
            h = layers.Add(name="embedding_add")([h, shift])
    channels = image_shape[-1]
    h = conv2d(channels, 3, padding="same", kernel_initializer="zeros", name="out")(h)
    output = layers.Activation("linear", dtype="float32", name="out_float32")(h)
    return keras.Model(inputs, output, name=name)
