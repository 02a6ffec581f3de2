"""A plain CNN at full resolution, small and slow: the network of the study of noise schedules."""

import keras
from keras import layers

from keras_diffusion.networks.embedding import conditioned_inputs


def cnn(
    image_shape,
    *,
    num_classes=0,
    widths=(16, 32, 32, 16),
    embedding_width=128,
    name="cnn",
):
    """Builds a chain of 7x7 convolutions that predicts eps, x0 or v from noisy images.

        block: conv 7x7, layer norm over the whole image, gelu;  at the end a conv 3x3

    The embedding of noise level and label is added once, after the first block. A pixel sees
    13 others to each side with four blocks: enough for MNIST, not for larger pictures.

    Args:
        image_shape: (height, width, channels), of any size; the norms have a weight for each
            pixel, so it is fixed.
        num_classes: 0 for no labels; otherwise labels are 0 .. num_classes - 1, and
            `num_classes` itself is the null class of guidance.
        widths: channels of each block, all of them at full resolution.
        embedding_width: features of the embedding of noise level and label.
        name: name of the model.

    Returns:
        A functional `keras.Model`; inputs a dict of "x" (B, H, W, C), "logsnr" (B,) and, for
        labels, "label" (B,) int32; output float32 (B, H, W, C), zero at the start.

    Reference: Ba et al. 2016, arXiv:1607.06450 (layer norm); the design is that of beginners'
        courses on DDPM.
    """
    inputs, embedding, _ = conditioned_inputs(image_shape, num_classes, embedding_width)
    h = inputs["x"]
    for index, width in enumerate(widths):
        h = layers.Conv2D(width, 7, padding="same", name=f"conv{index}")(h)
        h = layers.LayerNormalization(axis=(1, 2, 3), name=f"norm{index}")(h)
        h = layers.Activation("gelu", name=f"gelu{index}")(h)
        if index == 0:
            shift = layers.Dense(width, name="embedding_dense")(embedding)
            shift = layers.Reshape((1, 1, width), name="embedding_pixel")(shift)
            h = layers.Add(name="embedding_add")([h, shift])
    channels = image_shape[-1]
    h = layers.Conv2D(channels, 3, padding="same", kernel_initializer="zeros", name="out")(h)
    output = layers.Activation("linear", dtype="float32", name="out_float32")(h)
    return keras.Model(inputs, output, name=name)
