"""Initial word embeddings from a text model of KerasHub, if KerasHub is installed."""

import functools

import numpy as np

from keras_diffusion.runtime.console import one_line

STD = 0.03  # standard deviation of newly initialised embeddings


@functools.cache
def word_vectors(name, words, width):
    """Returns embeddings of words, float32 (len(words), width); similar words are close.

    They are the token embeddings of a pretrained text model, averaged over the tokens of a word and
    reduced to `width` features by PCA.

    Args:
        name: preset of KerasHub, such as "bert_tiny_en_uncased", or its folder.
        words: tuple of words.
        width: number of features; padded with zeros if the text model has fewer.

    Raises:
        ValueError: KerasHub is not installed, or has no such text model.
    """
    try:
        import keras_hub
    except ImportError as error:
        reason = one_line(error, 160)
        raise ValueError(f"needs KerasHub: pip install keras-hub ({reason}).") from error
    try:
        tokenizer = keras_hub.models.Tokenizer.from_preset(name)
        table = keras_hub.models.Backbone.from_preset(name).token_embedding.get_weights()[0]
    except Exception as error:  # unknown name, no network, no text model
        reason = one_line(error, 160)
        raise ValueError(f"{name!r} is not a text model of KerasHub ({reason}).") from error
    vectors = np.stack([table[np.asarray(tokenizer(word))].mean(axis=0) for word in words])
    vectors = vectors.astype("float32") - vectors.mean(axis=0)
    directions, sizes, _ = np.linalg.svd(vectors, full_matrices=False)
    reduced = (directions * sizes)[:, :width]
    reduced *= STD / max(reduced.std(), 1e-6)
    return np.pad(reduced, ((0, 0), (0, width - reduced.shape[1])))
