"""The text encoder, and cross-attention from pixels to words."""

import keras
import numpy as np
import pytest

from keras_diffusion.conditioning.prompts import Prompts
from keras_diffusion.networks import TextEncoder, unet
from keras_diffusion.networks.embedding import count_classes
from keras_diffusion.networks.text_encoder import CrossAttention, MaskedMean

TOKENS = np.array([[1, 2, 3, 4], [1, 3, 2, 4], [1, 2, 0, 0], [1, 0, 0, 0]], "int32")


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(0)
    layer = TextEncoder(num_tokens=5, length=4, width=8, depth=2)
    layer(TOKENS)
    rng = np.random.default_rng(0)
    layer.set_weights([w + 0.3 * rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def test_a_word_depends_on_its_position_and_context(encoder):
    words = encoder(TOKENS).numpy()
    assert words.shape == (4, 4, 8) and words.dtype == "float32"
    assert np.abs(words[0, 1] - words[1, 2]).max() > 0.1, "another position"
    assert np.abs(words[0, 1] - words[2, 1]).max() > 0.1, "other context"
    assert np.abs(words[0, 0] - words[3, 0]).max() > 0.1, "START attends to the words"


def test_padding_is_masked_and_its_output_is_zero(encoder):
    words = encoder(TOKENS).numpy()
    np.testing.assert_array_equal(words[2, 2:], 0)
    np.testing.assert_array_equal(words[3, 1:], 0)
    before = encoder.get_weights()
    changed = [w.copy() for w in before]
    for weights, variable in zip(changed, encoder.weights, strict=True):
        if "words" in variable.path:
            weights[0] += 5  # the embedding of padding
    encoder.set_weights(changed)
    np.testing.assert_array_equal(encoder(TOKENS), words)
    encoder.set_weights(before)


def test_the_mean_is_over_the_words_of_a_prompt(encoder):
    words = encoder(TOKENS)
    means = MaskedMean()(words, TOKENS)
    for row, count in enumerate((4, 4, 2, 1)):
        np.testing.assert_allclose(means[row], words[row, :count].numpy().mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(("channels", "head_width"), [(8, 4), (3, 4)])
def test_cross_attention_against_numpy(channels, head_width):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 2, channels)).astype("float32")
    text = rng.normal(size=(2, 5, 6)).astype("float32")
    text[1, 3:] = 0  # padding
    layer = CrossAttention(head_width=head_width)
    np.testing.assert_array_equal(layer(x, text), 0)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    w_x, w_text, w_out, bias = layer.get_weights()

    def unit(heads):
        return heads / np.sqrt((heads**2).mean(axis=-1, keepdims=True) + 1e-6)

    q = unit((x.reshape(2, 6, channels) @ w_x).reshape(2, 6, -1, head_width))
    k, v = np.moveaxis((text @ w_text).reshape(2, 5, 2, -1, head_width), 2, 0)
    logits = np.exp(np.einsum("bphc,bwhc->bhpw", q, unit(k)) / np.sqrt(head_width))
    weights = logits / logits.sum(axis=-1, keepdims=True)
    mixed = np.einsum("bhpw,bwhc->bphc", weights, v).reshape(2, 6, -1)
    expected = (mixed @ w_out + bias).reshape(2, 3, 2, channels)
    np.testing.assert_allclose(layer(x, text), expected, atol=1e-4)


def test_networks_and_prompts_must_fit():
    prompts = Prompts(["cat", "dog"])
    options = {"widths": (8,), "attention": (False,), "embedding_width": 8}

    def network(num_tokens, length):
        return unet((4, 4, 1), text=TextEncoder(num_tokens, length, 8, 0), **options)

    assert count_classes(unet((4, 4, 1), **options)) == 0
    fitting = network(prompts.num_tokens, prompts.length)
    assert count_classes(fitting, prompts) == 2
    for wrong in (network(prompts.num_tokens, 3), network(3, prompts.length)):
        with pytest.raises(ValueError, match="prompts: .* TextEncoder with num_tokens=.*length="):
            count_classes(wrong, prompts)
    for one, other in ((fitting, None), (unet((4, 4, 1), num_classes=2, **options), prompts)):
        with pytest.raises(ValueError, match="prompts: .* an input 'tokens'"):
            count_classes(one, other)
    with pytest.raises(ValueError, match="text: .* num_classes"):
        unet((4, 4, 1), num_classes=2, text=TextEncoder(3, 3), **options)


def test_words_reach_pixels_through_attention():
    keras.utils.set_random_seed(0)
    network = unet((4, 4, 1), text=TextEncoder(5, 4, 8, 1), widths=(8,), embedding_width=8)
    rng = np.random.default_rng(1)
    network.set_weights([w + 0.3 * rng.normal(size=w.shape) for w in network.get_weights()])
    dense = network.get_layer("text_dense")  # the other way
    dense.set_weights([np.zeros_like(w) for w in dense.get_weights()])
    inputs = {"x": np.zeros((4, 4, 4, 1), "float32"), "logsnr": np.zeros(4, "float32")}
    output = network({**inputs, "tokens": TOKENS}).numpy()
    assert np.abs(output[1:] - output[0]).max(axis=(1, 2, 3)).min() > 1e-3
