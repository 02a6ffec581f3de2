"""Tiny networks of two convolutions that are fast to trace, and models of them."""

import keras
import numpy as np
from keras import layers

from keras_diffusion import DiffusionModel
from keras_diffusion.networks import TextEncoder
from keras_diffusion.networks.layers import LabelEmbedding
from keras_diffusion.networks.text_encoder import MaskedMean

SHAPE = (4, 4, 1)
LABELS = np.arange(16) % 2
# Dark and bright images.
IMAGES = np.random.default_rng(0).integers(0, 56, (16, *SHAPE)) + 200 * LABELS[:, None, None, None]
IMAGES = IMAGES.astype("uint8")


def tiny_network(shape=SHAPE, num_classes=0, prompts=None, dropout=0.0):
    """A network that depends on x, logsnr and its condition, and is not zero at the start."""
    inputs = {"x": keras.Input(shape, name="x"), "logsnr": keras.Input((), name="logsnr")}
    shifts = [layers.Dense(8)(layers.Reshape((1,))(inputs["logsnr"]))]
    if num_classes:
        inputs["label"] = keras.Input((), dtype="int32", name="label")
        shifts.append(
            LabelEmbedding(num_classes, 8, embeddings_initializer="normal")(inputs["label"])
        )
    if prompts:
        inputs["tokens"] = keras.Input((prompts.length,), dtype="int32", name="tokens")
        words = TextEncoder(prompts.num_tokens, prompts.length, width=4, depth=0)(inputs["tokens"])
        shifts.append(layers.Dense(8)(MaskedMean()(words, inputs["tokens"])))
    h = layers.Conv2D(8, 3, padding="same")(inputs["x"])
    h = layers.Add()([h, *(layers.Reshape((1, 1, 8))(shift) for shift in shifts)])
    h = layers.Dropout(dropout, seed=5)(layers.Activation("silu")(h))
    h = layers.Conv2D(shape[-1], 3, padding="same", name="out")(h)
    return keras.Model(inputs, layers.Activation("linear", dtype="float32")(h))


def tiny_model(
    shape=SHAPE, num_classes=0, prompts=None, dropout=0.0, optimizer=None, eagerly=False, **options
):
    """A compiled `DiffusionModel`, always with the same weights."""
    keras.utils.set_random_seed(0)
    network = tiny_network(shape, num_classes, prompts, dropout)
    model = DiffusionModel(network, prompts=prompts, **options)
    model.compile(optimizer or keras.optimizers.Adam(1e-2), run_eagerly=eagerly)
    return model
