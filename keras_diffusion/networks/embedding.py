"""What every network takes in: noisy images, and an embedding of noise level and condition."""

import keras
from keras import layers

from keras_diffusion.networks.layers import LabelEmbedding, LogSNREmbedding
from keras_diffusion.networks.text import MeanOfWords, TextEncoder

TOLD = ("label", "tokens")  # inputs that say what a picture is of; a network has one or none


def conditioned_inputs(image_shape, num_classes, embedding_width, text=None):
    """Returns a network's inputs, their embedding, and the words of prompts.

    The embedding is that of noise level and label: sines and cosines of logSNR, and what two dense
    layers learn of them. Of a prompt it has the mean of its words (as in Saharia et al. 2022,
    arXiv:2205.11487).

    Args:
        image_shape: (height, width, channels).
        num_classes: 0 for no labels.
        embedding_width: features of the embedding.
        text: None, or the `TextEncoder` of prompts, which then stand in the place of labels.

    Returns:
        Dict of inputs; embedding (B, embedding_width), float32; [words (B, L, features)], or []
        without prompts.

    Raises:
        ValueError: labels and prompts.
    """
    if num_classes and text is not None:
        raise ValueError("text: prompts stand in the place of labels; leave num_classes at 0.")
    width = embedding_width
    inputs = {"x": keras.Input(image_shape, name="x"), "logsnr": keras.Input((), name="logsnr")}
    h = LogSNREmbedding(name="logsnr_waves")(inputs["logsnr"])
    h = layers.Dense(width, activation="silu", dtype="float32", name="logsnr_dense")(h)
    told, words = None, []
    if num_classes:
        inputs["label"] = keras.Input((), dtype="int32", name="label")
        told = LabelEmbedding(num_classes, width, dtype="float32", name="label_embedding")(
            inputs["label"]
        )
    if text is not None:
        inputs["tokens"] = keras.Input((text.length,), dtype="int32", name="tokens")
        words = [text(inputs["tokens"])]
        mean = MeanOfWords(name="text_mean")(*words, inputs["tokens"])
        told = layers.Dense(width, dtype="float32", name="text_dense")(mean)
    if told is not None:
        h = layers.Add(dtype="float32", name="embedding_sum")([h, told])
    h = layers.Dense(width, activation="silu", dtype="float32", name="embedding")(h)
    return inputs, h, words


def count_classes(network, prompts=None):
    """Returns how many classes a network knows, 0 for none.

    Args:
        network: functional `keras.Model`.
        prompts: None, or the `Prompts` that it is told of in the place of labels.

    Raises:
        ValueError: prompts that do not fit the network, or a network that lacks them.
    """
    tokens = network.input.get("tokens")
    if (tokens is None) != (prompts is None):
        raise ValueError("prompts: are for networks that take tokens, and those need them.")
    if prompts is None:
        embeddings = [layer for layer in network.layers if isinstance(layer, LabelEmbedding)]
        return embeddings[0].num_classes if embeddings else 0
    encoders = [layer for layer in network.layers if isinstance(layer, TextEncoder)]
    taken = {(encoder.num_tokens, encoder.length) for encoder in encoders}
    needed = prompts.num_tokens, prompts.length
    if taken - {needed} or tokens.shape[1] != prompts.length:
        raise ValueError(
            f"prompts: need a TextEncoder{needed}, of the number of tokens and of the length of "
            f"a prompt; the network has another."
        )
    return prompts.num_classes
