"""From a Config to objects."""

import keras
import pytest

from keras_diffusion import build
from keras_diffusion.config.options import Config
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
def test_automatic_precision_depends_on_the_processor(flags, policy, reason, monkeypatch):
    monkeypatch.setattr(precision, "_cpu_flags", lambda: flags)
    monkeypatch.setattr(precision.tf.config, "list_physical_devices", lambda kind: [])
    chosen, why = precision.policy("auto")
    assert chosen == policy and reason in why
    assert precision.policy("float32")[0] == "float32"


def test_a_model_has_the_options_of_its_config():
    options = {
        "schedule": "linear", "prediction_type": "eps", "loss_weighting": "min_snr",
        "ema_decay": 0.7, "label_dropout": 0.3, "accumulate": 4, "seed": 9,
    }  # fmt: skip
    training = {"learning_rate": 0.25, "weight_decay": 0.125, "clip_norm": 0.5}
    config = Config(network="cnn", widths=(4,), embedding_width=4, **options, **training)
    model = build.model(config, (4, 4, 1), 3)
    assert {name: model.get_config()[name] for name in options} == options
    optimizer = model.optimizer
    assert float(optimizer.learning_rate) == 0.25
    assert (optimizer.weight_decay, optimizer.global_clipnorm) == (0.125, 0.5)
    assert model.num_classes == 3 and model.image_shape == (4, 4, 1)


def test_data_has_the_options_of_its_config():
    options = {"limit": 30, "batch_size": 7, "image_size": (6, 4), "channels": 3}
    config = Config(**options, unconditional=True, horizontal_flip=True)
    data = build.load_data(config)
    assert (data.source.num_train, data.source.num_classes) == (30, 0)
    assert (data.image_shape, data.steps_per_epoch) == ((6, 4, 3), 4)
    assert data.horizontal_flip
    for options in ({"dataset": "nothing"}, {"folder": "nowhere"}, {"image": "nowhere"}):
        [(flag, value)] = options.items()
        with pytest.raises((ValueError, FileNotFoundError), match=f"^--{flag} {value}: "):
            build.load_data(Config(**options))


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
    options = {"widths": (16,), "attention": (False,), "embedding_width": 8}
    small, large = (estimate_costs(unet((s, s, 1), **options), 1)["flops"] for s in (8, 16))
    assert 3.8 < large / small <= 4
