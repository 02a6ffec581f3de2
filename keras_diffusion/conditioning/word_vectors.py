"""Words as a text model of KerasHub knows them, where KerasHub is installed."""

import functools

import numpy as np

SPREAD = 0.03  # standard deviation that embeddings start with


@functools.cache
def word_vectors(name, words, width):
    """Returns vectors of words, float32 (len(words), width), in which like words are near.

    They are the input vectors of a pretrained text model: of a word in several pieces their mean,
    and of their directions those in which the words differ most.

    Args:
        name: a preset of KerasHub, such as "bert_tiny_en_uncased", or its folder.
        words: tuple of words.
        width: of the vectors; what they have less is zero.

    Raises:
        ValueError: KerasHub is not installed, or has no such text model; one line.
    """
    try:
        import keras_hub
    except ImportError as error:
        what = " ".join(str(error).split())[:160]
        raise ValueError(f"needs KerasHub: pip install keras-hub ({what}).") from error
    try:
        tokenizer = keras_hub.models.Tokenizer.from_preset(name)
        table = keras_hub.models.Backbone.from_preset(name).token_embedding.get_weights()[0]
    except Exception as error:  # an unknown name, no network, a model without words
        what = " ".join(str(error).split())[:160]
        raise ValueError(f"{name!r} is no text model of KerasHub ({what}).") from error
    vectors = np.stack([table[np.asarray(tokenizer(word))].mean(axis=0) for word in words])
    vectors = vectors.astype("float32") - vectors.mean(axis=0)
    directions, sizes, _ = np.linalg.svd(vectors, full_matrices=False)
    reduced = (directions * sizes)[:, :width]
    reduced *= SPREAD / max(reduced.std(), 1e-6)
    return np.pad(reduced, ((0, 0), (0, width - reduced.shape[1])))
