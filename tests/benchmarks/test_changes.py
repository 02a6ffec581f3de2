"""Sections roofline, changes and settings: what they make of a profile and of figures, tiny."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import change_pairs, changes, data, plain, roofline, runs, settings
from keras_diffusion.networks import normalisation

LONG = ("training step", "AutoGraph", "XLA for the whole step", "one operation of Adam")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            "unet_1/down0_0_conv1_1/convolution:_MklNativeFusedConv2D",
            "convolutions: forward, gradients by inputs",
        ),
        ("gradient_tape/unet_1/down0_0_norm1_1/mul:Mul", "normalisation and activation"),
        ("multiply_convert_fusion", "normalisation and activation"),
        ("StatefulPartitionedCall/Sum_12:Sum", "normalisation and activation"),
        ("unet_1/middle_0_attention_1/MatMul:_MklBatchMatMulV2", "attention"),
        ("unet_1/middle_0_attention_norm_1/mul:Mul", "normalisation and activation"),
        (
            "gradient_tape/unet/stem/Conv2DBackpropFilter:_MklNativeConv2DBackpropFilter",
            "convolutions: gradients by weights",
        ),
        ("global_norm/L2Loss_3:L2Loss", "optimizer"),
        ("adamw/mul_1:Mul", "optimizer"),
        ("average/mul_7:Mul", "average of the weights"),
        ("PyFunc:PyFunc", "noise and data"),
        ("random_normal/StatelessRandomNormalV2:StatelessRandomNormalV2", "noise and data"),
        ("AddN_2:AddN", "sums of gradients"),
        ("unet_1/skip0_1/concat:ConcatV2", "the rest"),
    ],
)
def test_operations_are_put_into_classes(event, expected):
    assert roofline._class_of(*roofline._operation(event)) == expected


@pytest.mark.parametrize(
    "event",
    ["ExecutorState::Process", "KernelAndDeviceFunc::Run", "__inference_step_12:_12", "wait", ":x"],
)
def test_what_contains_operations_is_no_operation(event):
    assert roofline._operation(event) is None


def test_a_profile_of_a_toy_step_is_made_of_operations(monkeypatch):
    found = roofline.step("mnist", tiny=True)
    assert abs(sum(found["shares"].values()) - 1) < 1e-9
    assert all(found["shares"][name] > 0 for name in roofline.CLASSES if name != "the rest")
    rates = {"bfloat16": 1e12, "float32": 1e12, "bytes": 1e10}
    one = {"runs": [found], "shares": found["shares"]}
    text = roofline.report({"rates": rates, "mnist": one, "flowers": one})
    assert f"{found['shares']['average of the weights']:.0%}" in text


@pytest.mark.parametrize("name", [name for name in changes.CHANGES if name not in LONG])
def test_both_versions_of_a_change_run(name):
    seconds = changes.pair(name, tiny=True)
    assert seconds["before"] > 0 and seconds["after"] > 0


def test_every_change_has_its_pair_and_a_row(monkeypatch):
    assert set(changes.CHANGES) == set(change_pairs.PAIRS)
    found = {name: {"before": 0.2, "after": 0.1} for name in changes.CHANGES}
    found["halving"] = {"failed": "given up"}
    losses = [{"plain": 0.25, "ours": 0.5}]  # as an earlier version measured them
    text = changes.report({**found, "loss": losses})
    assert "**2.00x**" in text and "given up" in text and "0.25000" in text
    del found["layer"]
    assert "still to be measured" in changes.report({**found, "loss": losses})


def test_a_loss_is_held_against_what_a_seed_makes_of_it():
    losses = [
        {"float32": 0.10 + seed / 100, "plain": 0.11 + seed / 100, "ours": 0.111 + seed / 100}
        for seed in range(3)
    ]
    assert "**more than chance**" in changes._difference(losses, "float32")
    losses[0]["ours"] -= 0.004  # now -0.003, 0.001 and 0.001 beside the plain version
    text = changes._difference(losses, "plain")
    assert "-0.00033 on average (standard error 0.00133)" in text and "no more than chance" in text
    losses[1]["ours"] = None
    assert "2 of 3 seeds" in changes._difference(losses, "plain")
    assert "| 1 | 0.11000 | 0.12000 | - |" in changes.report({"loss": losses})


def test_the_loss_of_a_version_is_measured(tmp_path):
    data.ensure("mnist", tiny=True, cache=tmp_path)
    own = normalisation.GroupRMSNorm.normalise
    assert 0 < changes.loss(seed=0, version="float32", tiny=True, cache=tmp_path)["loss"] < 10
    assert keras.config.dtype_policy().name == "float32"
    assert normalisation.GroupRMSNorm.normalise is own


def test_plain_layers_do_the_same_in_another_way():
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 4, 4, 32)), "float32")
    norm = normalisation.GroupRMSNorm(activation="silu")
    ours = norm(x)
    with plain.layers():
        assert normalisation.GroupRMSNorm.normalise is plain._plainly
        np.testing.assert_allclose(norm(x), ours, rtol=1e-4, atol=1e-5)


def test_settings_are_measured_and_told(tmp_path, monkeypatch):
    asked = []

    def noted(function, timeout, environment, **arguments):
        asked.append((function, environment, arguments["graph"]))
        return {"images_per_second": 100.0, "peak_mib": 1000.0}

    monkeypatch.setattr(runs, "in_fresh_process", noted)
    found = settings.run(runs.Options(rounds=1, tiny=True, cache=tmp_path))
    assert set(found["rows"]) == set(settings.SETTINGS) and len(asked) == len(settings.SETTINGS)
    assert ("settings.rate", {"MALLOC_ARENA_MAX": "1"}, {}) in asked
    assert "| as it is | **100** | 100 - 100 | 1.00x | 1,000 | 1.00 |" in settings.report(found)
    assert settings.rate({}, str(tmp_path), tiny=True)["images_per_second"] > 0
    rows = {
        "as it is": {"runs": [{"images_per_second": 100.0, "peak_mib": 1000.0}]},
        "one arena": {"runs": [{"images_per_second": 110.0, "peak_mib": 900.0}]},
        "huge pages": {"failed": "no such pages"},
    }
    text = settings.report({"rows": rows})
    assert "| one arena | **110** | 110 - 110 | 1.10x | 900 | 0.90 |" in text
    assert "no such pages" in text


def test_a_change_that_fails_does_not_stop_the_others(monkeypatch, tmp_path):
    def failing(function, *timeout, **arguments):
        if arguments.get("name") == "layer":
            raise runs.RunFailed("no luck")
        return {"before": 2.0, "after": 1.0, "loss": 0.5}

    monkeypatch.setattr(runs, "in_fresh_process", failing)
    found = changes.run(runs.Options(tiny=True, cache=tmp_path))
    assert found["layer"] == {"failed": "no luck"} and found["halving"]["after"] == 1.0
