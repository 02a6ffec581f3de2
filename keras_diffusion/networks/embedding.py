"""What every network takes in: noisy images, and an embedding of noise level and label."""

import keras
from keras import layers

from keras_diffusion.networks.layers import LabelEmbedding, LogSNREmbedding


def conditioned_inputs(image_shape, num_classes, width):
    """Returns a network's inputs and the embedding of noise level and label, (B, width), float32.

    Sines and cosines of logSNR, and what two dense layers learn of them.

    Args:
        image_shape: (height, width, channels).
        num_classes: 0 for no labels.
        width: of the embedding.
    """
    inputs = {"x": keras.Input(image_shape, name="x"), "logsnr": keras.Input((), name="logsnr")}
    h = LogSNREmbedding(name="logsnr_waves")(inputs["logsnr"])
    h = layers.Dense(width, activation="silu", dtype="float32", name="logsnr_dense")(h)
    if num_classes:
        inputs["label"] = keras.Input((), dtype="int32", name="label")
        label = LabelEmbedding(num_classes, width, dtype="float32", name="label_embedding")
        h = layers.Add(dtype="float32", name="embedding_sum")([h, label(inputs["label"])])
    return inputs, layers.Dense(width, activation="silu", dtype="float32", name="embedding")(h)
