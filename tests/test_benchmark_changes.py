"""Sections roofline and changes: what they make of a profile and of figures, at toy size."""

import pytest

from benchmarks import change_pairs, changes, roofline, runs


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("unet_1/down0_0_conv1_1/convolution:_MklNativeFusedConv2D", "convolutions"),
        ("gradient_tape/unet_1/down0_0_norm1_1/mul:Mul", "normalisation and activation"),
        ("multiply_convert_fusion", "normalisation and activation"),
        ("unet_1/middle_0_attention_1/MatMul:_MklBatchMatMulV2", "attention"),
        ("unet_1/middle_0_attention_norm_1/mul:Mul", "normalisation and activation"),
        ("global_norm/L2Loss_3:L2Loss", "optimizer and average"),
        ("adamw/mul_1:Mul", "optimizer and average"),
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
    assert f"{found['shares']['convolutions']:.0%}" in text


@pytest.mark.parametrize("name", ["layer", "halving", "doubling", "embeddings before the loop"])
def test_both_versions_of_a_change_run(name):
    seconds = changes.pair(name, tiny=True)
    assert seconds["before"] > 0 and seconds["after"] > 0


def test_every_change_has_its_pair_and_a_row(monkeypatch):
    assert set(changes.CHANGES) == set(change_pairs.PAIRS)
    found = {name: {"before": 0.2, "after": 0.1} for name in changes.CHANGES}
    found["halving"] = {"failed": "given up"}
    text = changes.report({**found, "loss": [{"plain": 0.25, "ours": 0.5}]})
    assert "**2.00x**" in text and "given up" in text and "0.25000" in text


def test_a_change_that_fails_does_not_stop_the_others(monkeypatch, tmp_path):
    def failing(function, *timeout, **arguments):
        if arguments.get("name") == "layer":
            raise runs.RunFailed("no luck")
        return {"before": 2.0, "after": 1.0, "loss": 0.5}

    monkeypatch.setattr(runs, "in_fresh_process", failing)
    found = changes.run(runs.Options(tiny=True, cache=tmp_path))
    assert found["layer"] == {"failed": "no luck"} and found["halving"]["after"] == 1.0
