"""Inputs of every network, and the embedding of noise level and condition."""

import keras
from keras import layers

from keras_diffusion.networks.layers import LabelEmbedding, LogSNREmbedding, check_precision
from keras_diffusion.networks.text_encoder import MaskedMean, TextEncoder

CONDITION_INPUTS = ("label", "tokens")  # a network has one of them or none


def conditioned_inputs(image_shape, num_classes, embedding_width, text=None):
    """Builds the inputs of a network and the embedding of noise level and condition.

        embedding = silu(dense(silu(dense(waves(logsnr))) + condition))

    `condition` is the label's embedding, or a dense layer of the mean of a prompt's words (Saharia
    et al. 2022, arXiv:2205.11487).

    Args:
        image_shape: (height, width, channels).
        num_classes: number of classes; 0: no labels.
        embedding_width: features of the embedding.
        text: `TextEncoder` of prompts, which replace labels; None: no prompts.

    Returns:
        inputs: dict of `keras.Input`: "x", "logsnr" and, conditioned, "label" or "tokens".
        embedding: float32 (B, embedding_width).
        words: [(B, L, features)], or [] without prompts.

    Raises:
        ValueError: both labels and prompts; weights that are not float32.
    """
    check_precision()
    if num_classes and text is not None:
        raise ValueError("text: replaces labels. Leave num_classes at 0.")
    width = embedding_width
    inputs = {"x": keras.Input(image_shape, name="x"), "logsnr": keras.Input((), name="logsnr")}
    h = LogSNREmbedding(name="logsnr_waves")(inputs["logsnr"])
    h = layers.Dense(width, activation="silu", dtype="float32", name="logsnr_dense")(h)
    condition, words = None, []
    if num_classes:
        inputs["label"] = keras.Input((), dtype="int32", name="label")
        embed = LabelEmbedding(num_classes, width, dtype="float32", name="label_embedding")
        condition = embed(inputs["label"])
    if text is not None:
        inputs["tokens"] = keras.Input((text.length,), dtype="int32", name="tokens")
        words = [text(inputs["tokens"])]
        mean = MaskedMean(name="text_mean")(*words, inputs["tokens"])
        condition = layers.Dense(width, dtype="float32", name="text_dense")(mean)
    if condition is not None:
        h = layers.Add(dtype="float32", name="embedding_sum")([h, condition])
    h = layers.Dense(width, activation="silu", dtype="float32", name="embedding")(h)
    return inputs, h, words


def count_classes(network, prompts=None):
    """Returns the number of classes of a network, 0 without labels and prompts.

    Args:
        network: functional `keras.Model`.
        prompts: `Prompts` of a network with "tokens", else None.

    Raises:
        ValueError: prompts that do not fit the network, or are missing.
    """
    tokens = network.input.get("tokens")
    if (tokens is None) != (prompts is None):
        raise ValueError("prompts: needed for, and only for, a network with an input 'tokens'.")
    if prompts is None:
        embeddings = [layer for layer in network.layers if isinstance(layer, LabelEmbedding)]
        return embeddings[0].num_classes if embeddings else 0
    encoders = [layer for layer in network.layers if isinstance(layer, TextEncoder)]
    sizes = {(encoder.num_tokens, encoder.length) for encoder in encoders}
    needed = prompts.num_tokens, prompts.length
    if sizes - {needed} or tokens.shape[1] != prompts.length:
        raise ValueError(
            f"prompts: these need a TextEncoder with num_tokens={needed[0]}, length={needed[1]}; "
            "the network has another."
        )
    return prompts.num_classes
