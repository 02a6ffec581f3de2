"""Tables and pages, from made-up figures and from the results in the repository."""

import pytest

from benchmarks import (
    bench,
    formats,
    latents,
    pages,
    roofline,
    runs,
    sampling,
    startup,
    training,
)  # fmt: skip

SIZE = {"parameters": 3_430_000, "flops": 5e8}


def row(subject, variant, **figures):
    return {"subject": subject, "variant": variant, "runs": [{**SIZE, **figures}]}


def trained(subject, variant, rate, peak):
    memory = dict.fromkeys(training.PHASES, peak)
    return row(subject, variant, images_per_second=rate, peak_mib=peak, memory=memory)


TRAINING = {
    "tiny": False,
    "mnist": [
        trained("ours", "default", 300.0, 1000),
        trained("ddp", "float32", 50.0, 2000),
        trained("diffusers_unet", "float32", 60.0, 900),
        trained("diffusers_unet", "bfloat16 autocast", 150.0, 1100),
        {"subject": "ddp", "variant": "bfloat16 autocast, compiled", "failed": "no compiler"},
    ],
    "flowers": [
        trained("ours", "default", 90.0, 1000),
        trained("keras_ddim", "float32", 30.0, 990),
    ],
}
STARTUP = {
    "tiny": False,
    "times": [
        {"command": "help", "runs": [{"seconds": 0.1}]},
        {"command": "import", "runs": [{"seconds": 3.0}]},
        {"command": "first_sample", "runs": [{"seconds": 6.5}, {"seconds": 7.5}]},
    ],
}


def test_formats():
    numbers = [formats.number(x) for x in (None, 0, 0.01234, 0.1, 56.78, 12345.6)]
    assert numbers == ["-", "0", "0.0123", "0.100", "56.8", "12,346"]
    assert formats.summary([3, 1, 2]) == {"median": 2, "low": 1, "high": 3}
    assert [formats.times(x) for x in (None, 0.5, 12.34)] == ["-", "0.50x", "12.3x"]
    assert formats.verdict("5x", 5, 5) == "5x: met"
    assert formats.verdict("5x", 5, 4, at_most=True) == "5x: missed"
    assert formats.verdict("5x", None, 4) == ""


def test_the_report_of_training():
    text = training.report(TRAINING)
    assert "| **50.0** | 50.0 - 50.0 | 6.00x | 5x: met |" in text
    assert "| **150** | 150 - 150 | 2.00x | 3x: missed |" in text  # the fastest variant
    assert "| 60.0 - 60.0 | 5.00x |  |" in text
    assert "| no compiler |" in text
    assert "| 990 | 990 | 990 | **990** | 990 - 990 | 0.99x | ours at most this: missed |" in text
    assert training.median_of_ours(TRAINING, "flowers") == 90.0
    float32 = {
        **TRAINING["mnist"][0],
        "runs": [dict(TRAINING["mnist"][0]["runs"][0], precision="float32")],
    }
    text = training.report({**TRAINING, "mnist": [float32, *TRAINING["mnist"][1:]]})
    assert "| 6.00x | 4x: met |" in text and "| 2.00x | 2x: met |" in text


def fewest(number):
    """What the quality section found for MNIST."""
    reference = {"sampler": "ddim", "num_steps": 250, "distance": 2.5}
    return {"fewest": number, "distance": number and 2.4, "reference": reference, "noise": 0.1,
            "baseline": 0.5}  # fmt: skip


def sampled(subject, steps, measured_steps, rate, call):
    figures = {"images_per_second": rate, "seconds_per_call": call}
    return {**row(subject, "float32", **figures), "steps": steps, "measured_steps": measured_steps}


def test_the_report_of_sampling():
    result = {
        "quality": {"mnist": fewest(10), "flowers": None},
        "mnist": [sampled("ours", 10, 10, 64.0, 0.1), sampled("ddp", 250, 50, 0.64, 0.4)],
        "flowers": [sampled("ours", 20, 20, 32.0, 0.1)],
    }
    text = sampling.report(result)
    cells = "| 250 * | **0.640** | 0.640 - 0.640 | 100x | 400 | 4.00x |"
    assert f"{cells} 60x: met; per call 3x: met |" in text
    assert "Ours takes 10 steps of dpmpp_2m: the fewest" in text and "has not found" in text
    assert "(2.40) no worse than the 2.50 of 250 steps of ddim (± 0.100" in text


def test_sampling_takes_the_steps_that_quality_found(tmp_path):
    options = runs.Options(results=tmp_path)
    assert sampling._fewest_steps("mnist", options) is None
    result = {
        "minutes": 20.0,
        "curve": [
            {"sampler": "dpmpp_2m", "num_steps": 7, "distances": [2.4]},
            {"sampler": "ddim", "num_steps": 250, "distances": [2.5]},
        ],
        "curve_baseline": {"mean": 0.5, "std": 0.1},
    }
    options.save("quality_mnist", result, 1.0)
    assert sampling._fewest_steps("mnist", options) == fewest(7)
    options.save("quality_mnist", {**result, "minutes": 1.0}, 1.0)  # a trial
    assert sampling._fewest_steps("mnist", options) is None


def test_the_reports_of_latents_and_start_up():
    figures = {**SIZE, "peak_mib": 900.0, "encode": 1e-3, "decode": 2e-3}
    rows = [
        {"kind": "pixels", "runs": [{**figures, "images_per_second": 100.0, "generate": 0.3}]},
        {"kind": "latents", "runs": [{**figures, "images_per_second": 400.0, "generate": 0.1}]},
        {"kind": "autoencoder", "failed": "out of memory"},
    ]
    text = latents.report({"rows": [{"dataset": "cifar10", **row} for row in rows]})
    assert "| latents | 3.43 M | 0.50 | **2.50** | 4.00x | 900 | **100** | 3.00x |" in text
    assert "takes 1.00 ms" in text and "out of memory" in text and "Flowers" not in text
    text = startup.report(STARTUP)
    assert "| **0.100** | 0.100 - 0.100 | at most 1 s: met |" in text
    assert "beyond the import of TensorFlow | **4.00** | 3.50 - 4.50 | at most 4 s: met |" in text


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("unet_1/down0_0_conv1_1/convolution:_MklNativeFusedConv2D", "convolutions: forward"),
        ("gradient_tape/unet/stem/x:Conv2DBackpropFilter", "convolutions: gradients of the w"),
        ("gradient_tape/unet_1/down0_0_norm1_1/mul:Mul", "normalisation and activation"),
        ("multiply_convert_fusion", "normalisation and activation"),
        ("StatefulPartitionedCall/Sum_12:Sum", "normalisation and activation"),
        ("unet_1/middle_0_attention_norm_1/mul:Mul", "normalisation and activation"),
        ("unet_1/middle_0_attention_1/MatMul:_MklBatchMatMulV2", "attention"),
        ("global_norm/L2Loss_3:L2Loss", "optimizer"),
        ("adamw/mul_1:Mul", "optimizer"),
        ("average/mul_7:Mul", "average of the weights"),
        ("random_normal/StatelessRandomNormalV2:StatelessRandomNormalV2", "noise and data"),
        ("AddN_2:AddN", "sums of gradients"),
        ("unet_1/skip0_1/concat:ConcatV2", "other"),
        ("ExecutorState::Process", None),
        ("__inference_step_12:_12", None),
        (":x", None),
    ],
)
def test_classes_of_operations(event, expected):
    found = roofline.class_of(event)
    assert found is None if expected is None else found.startswith(expected)


def test_the_pages_are_those_of_the_results(tmp_path):
    text, records = bench.render(runs.Options())
    assert set(records) == set(bench.SECTIONS)
    assert text == (runs.FOLDER / bench.REPORT).read_text()
    readme = (runs.ROOT / "README.md").read_text()
    (tmp_path / "README.md").write_text(readme)
    pages.write(records, tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text() == readme
    for record in records["training"].values():
        rate = training.median_of_ours(record["result"], "mnist")
        assert f"**{formats.number(rate)}**" in readme


def test_the_overview_has_the_usual_and_the_best_variant():
    scores = [("ours", 0.5), ("ddp", 4.0), ("ddp", 1.0)]  # the last: of its last weights
    rows = [{"subject": name, "score": {"distance": value}} for name, value in scores]
    quality = {"minutes": 20.0, "baseline": {"mean": 0.1}, "rows": rows}
    facts = {"cpu": "EPYC", "cores": 2, "date": "2026-11-30"}
    records = {
        "training": dict.fromkeys(
            ("amx_bf16", "avx2_imitated"), {"machine": facts, "result": TRAINING}
        ),
        "quality_mnist": {
            "amx_bf16": {"machine": {**facts, "date": "2026-11-28"}, "result": quality}
        },
    }
    digits, again, flowers, _, distance, _, notes = pages.overview(records).splitlines()[2:]
    assert "| **300** | 50.0: 6.00x | 60.0 (150): 5.00x (2.00x) |  |" in digits
    assert digits.startswith("| training, MNIST: images/s | AMX | **300**")
    assert again.startswith("|  | AVX2, imitated | **300**")
    assert "| **90.0** |  |  | 30.0: 3.00x |" in flowers
    assert "| **0.500** | 4.00 (1.00): 8.00x (2.00x) |  |  |" in distance
    assert notes.startswith("AMX: EPYC, 2 cores, 2026-11-28 and 2026-11-30. AVX2, im")
    assert notes.endswith(pages.IMITATED)
    del records["training"]["avx2_imitated"]
    assert pages.IMITATED not in pages.overview(records)
