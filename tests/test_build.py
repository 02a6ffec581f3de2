"""From a Config to objects."""

import pytest

from keras_diffusion import build
from keras_diffusion.config.options import Config
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
    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    monkeypatch.setattr(precision.tf.config, "list_physical_devices", lambda kind: [])
    chosen, why = precision.policy("auto")
    assert chosen == policy and reason in why
    assert precision.policy("float32")[0] == "float32"


@pytest.mark.parametrize(
    ("capability", "policy"), [((8, 0), "mixed_bfloat16"), ((7, 5), "float32")]
)
def test_automatic_precision_depends_on_the_gpu(capability, policy, monkeypatch):
    config = precision.tf.config
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: ["gpu"])
    details = {"compute_capability": capability}
    monkeypatch.setattr(config.experimental, "get_device_details", lambda gpu: details)
    assert precision.policy("auto")[0] == policy


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
