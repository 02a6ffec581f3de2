"""From options to objects: precision and costs."""

import keras
import pytest

from keras_diffusion.networks import unet
from keras_diffusion.networks.costs import estimate_costs
from keras_diffusion.networks.text_encoder import CrossAttention
from keras_diffusion.runtime import precision


@pytest.mark.parametrize(
    ("flags", "policy", "reason"),
    [
        ([], "float32", "no bfloat16"),
        (["avx512f", "avx512_bf16"], "mixed_bfloat16", "avx512_bf16"),
        (["amx_tile", "amx_bf16"], "mixed_bfloat16", "amx_bf16"),
    ],
)
def test_automatic_precision_follows_the_processor(flags, policy, reason, monkeypatch):
    monkeypatch.setattr(precision, "_cpu_flags", lambda: flags)
    monkeypatch.setattr(precision.tf.config, "list_physical_devices", lambda kind: [])
    picked, why = precision.policy("auto")
    assert picked == policy
    assert reason in why


def test_named_precision_is_taken():
    assert precision.policy("float32") == ("float32", "as asked")


def test_flops_of_a_convolution():
    inputs = keras.Input((8, 4, 3))
    network = keras.Model(inputs, keras.layers.Conv2D(5, 3, padding="same")(inputs))
    costs = estimate_costs(network, batch_size=10)
    assert costs["flops"] == 2 * 8 * 4 * 3 * 3 * 3 * 5
    assert costs["parameters"] == 3 * 3 * 3 * 5 + 5
    assert costs["memory"] == 20 * costs["parameters"] + 10 * 4 * 8 * 4 * (3 + 5)


def test_flops_of_words_do_not_grow_with_the_pixels():
    for side in (4, 8):
        x, words = keras.Input((side, side, 8)), keras.Input((5, 6))
        network = keras.Model([x, words], CrossAttention(head_width=4)(x, words))
        expected = side * side * 8 * 8 * 2 + 5 * 6 * 16
        assert estimate_costs(network, batch_size=1)["flops"] == 2 * expected


def test_flops_of_convolutions_grow_with_the_pixels():
    options = {"widths": (16, 32), "attention": (False, False), "embedding_width": 8}
    small, large = (estimate_costs(unet((s, s, 1), **options), 1)["flops"] for s in (8, 16))
    assert 3.8 < large / small <= 4
