"""The benchmark harness at toy size; nothing here is timed."""

import ast
import importlib.util
import json
import re
import shutil

import numpy as np
import pytest
from fixtures_exports import one_sampler

from benchmarks import (
    bench,
    data,
    latents,
    machine,
    pages,
    runs,
    sampling,
    startup,
    subjects,
    training,
)

PEER_PARAMETERS = {  # of networks that need torch
    ("ddp", "mnist"): 3_434_017,
    ("ddp", "flowers"): 1_986_435,
    ("diffusers_unet", "mnist"): 3_418_689,
    ("diffusers_unet", "flowers"): 1_992_147,
}
SUBJECTS = {
    "ours": {"tensorflow"},
    "keras_ddim": {"tensorflow"},
    "ddp": {"torch"},
    "diffusers_unet": {"torch"},
}


def stop_at(last):
    """A should_stop that notes its steps."""
    steps = []

    def should_stop(step):
        steps.append(step)
        return step >= last

    return should_stop, steps


@pytest.fixture
def images(tmp_path):
    """A few made-up flowers."""
    data.ensure("flowers", tiny=True, cache=tmp_path)
    return data.load("flowers", "train", tiny=True, cache=tmp_path)[0]


# Subjects -------------------------------------------------------------------------------


@pytest.mark.parametrize("name, variant", [("ours", "float32"), ("keras_ddim", "mixed_bfloat16")])
def test_a_keras_subject_trains_samples_and_loads(name, variant, images, tmp_path):
    one = subjects.make(name, "flowers", variant, tiny=True)
    should_stop, steps = stop_at(2)
    one.train(images, 32, should_stop)
    assert steps == [1, 2]
    with one_sampler():
        drawn = one.sample(subjects.SAMPLE_BATCH + 1, 2, seed=3)
        assert drawn.shape == (subjects.SAMPLE_BATCH + 1, 16, 16, 3) and drawn.dtype == np.uint8
        assert np.asarray(one.call(2)).shape == (2, 16, 16, 3)
        one.save(tmp_path / "weights")
        other = subjects.make(name, "flowers", variant, tiny=True)
        other.load(tmp_path / "weights")
        np.testing.assert_array_equal(other.sample(2, 2, seed=3), one.sample(2, 2, seed=3))


@pytest.mark.parametrize("name", ["ddp", "diffusers_unet"])
def test_a_torch_subject_trains(name, tmp_path):
    for package in ("torch", "denoising_diffusion_pytorch", "diffusers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"no {package}; benchmarks/requirements.txt has it")
    data.ensure("mnist", tiny=True, cache=tmp_path)
    found = runs.in_fresh_process(
        "training.rate", task="mnist", name=name, variant="float32", cache=str(tmp_path), tiny=True
    )
    assert found["images_per_second"] > 0 and found["parameters"] > 1000
    assert found["peak_mib"] == max(found["memory"].values()) and found["flops"] > 1000


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="ours has no variant 'float8'"):
        subjects.make("ours", "mnist", "float8")


def test_networks_that_are_compared_are_of_equal_size():
    example = subjects.make("keras_ddim", "flowers", "float32")
    published = example.parameters
    assert round(published / 1e6, 2) == 1.95 and 0.5e9 < example.flops < 5e9
    peers = {**PEER_PARAMETERS, ("keras_ddim", "flowers"): published}
    for task in subjects.TASKS:
        ours = subjects.make("ours", task, "float32").parameters
        of_task = {name: count for (name, which), count in peers.items() if which == task}
        assert all(abs(ours / count - 1) < 0.05 for count in of_task.values()), of_task


@pytest.mark.parametrize("name, task", PEER_PARAMETERS)
def test_networks_in_torch_have_the_parameters_that_are_told_here(name, task):
    pytest.importorskip("diffusers")
    assert subjects.make(name, task, "float32").parameters == PEER_PARAMETERS[name, task]


@pytest.mark.parametrize("name", SUBJECTS)
def test_subjects_load_one_framework(name):
    """By its source: torch's subjects import no TensorFlow, and the other way round."""
    wrong = {"tensorflow", "keras", "keras_diffusion", "torch"} - SUBJECTS[name]
    if "tensorflow" in SUBJECTS[name]:
        wrong -= {"keras", "keras_diffusion"}
    tree = ast.parse((runs.FOLDER / "subjects" / f"{name}.py").read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert not imported & wrong


# Images and processes -------------------------------------------------------------------


def test_made_up_images_are_the_same_every_time(tmp_path):
    for cache in (tmp_path / "one", tmp_path / "other"):
        data.ensure("mnist", tiny=True, cache=cache)
    for part in data.PARTS:
        one, other = (data.load("mnist", part, True, tmp_path / c) for c in ("one", "other"))
        for before, after in zip(one, other, strict=True):
            np.testing.assert_array_equal(before, after)
    assert one[0].shape == (128, 8, 8, 1) and one[0].dtype == np.uint8
    assert set(one[1]) == set(range(data.TINY_CLASSES))


def test_a_fresh_process_answers_or_says_why_not():
    found = runs.in_fresh_process("machine.describe")
    assert found["cores"] == machine.describe()["cores"]
    assert 1 < found["peak_mib"] < 200  # no framework in it
    with pytest.raises(runs.RunFailed, match="^ModuleNotFoundError: .*benchmarks.nothing"):
        runs.in_fresh_process("nothing.here")
    with pytest.raises(runs.RunFailed, match="given up after"):
        runs.in_fresh_process("machine.describe", 0.001)


def test_contenders_take_turns_and_one_that_fails_stops():
    seen = []

    def measure(name):
        seen.append(name)
        if name == "b":
            raise runs.RunFailed("no compiler")
        return {"value": len(seen)}

    first, second = runs.in_turns(measure, ["a", "b"], rounds=2)
    assert seen == ["a", "b", "a"]
    assert first == {"runs": [{"value": 1}, {"value": 3}]}
    assert second == {"failed": "no compiler"}


def test_the_clock_times_enough_after_the_warm_up(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(training.time, "monotonic", lambda: 2.0 * next(now))
    clock = training.Clock(warm_up=3, least_steps=5, least_seconds=14.0)
    stopped = next(step for step in range(1, 50) if clock(step))
    assert stopped == 10  # 7 steps of 2 seconds
    assert clock.rate == pytest.approx(0.5)


def test_the_first_step_is_seen_in_keras_progress_bar():
    assert startup.FIRST_STEP.search(b"Epoch 1\n\r\x1b[1m  1/468\x1b[0m \x1b[32m")
    assert startup.FIRST_STEP.search(b"Epoch 1\n1/468 [====]")
    assert not startup.FIRST_STEP.search(b"splits 11/12, 1 x 128 images\nEpoch 1\n")
    assert startup.pipeline_rate("digits", None, tiny=True)["images_per_second"] > 0


# Figures and reports --------------------------------------------------------------------


def test_figures_are_short():
    told = [runs.figure(x) for x in (None, 0, 0.01234, 1.234, 56.78, 12345.6)]
    assert told == ["-", "0", "0.0123", "1.23", "56.8", "12,346"]
    assert runs.summary([3, 1, 2]) == {"median": 2, "low": 1, "high": 3}
    assert runs.verdict(5, 5) == "met" and runs.verdict(5, 4, most=True) == "missed"


def rates(*rows):
    """Made-up results of a task: (subject, variant, images per second, MiB)."""
    return [
        {"subject": name, "variant": variant, "runs": [
            {"images_per_second": rate, "peak_mib": peak, "parameters": 3_430_000}
        ]}
        for name, variant, rate, peak in rows
    ]  # fmt: skip


def made_up_training():
    failed = {"subject": "ddp", "variant": "bfloat16 autocast, compiled", "failed": "no compiler"}
    return {
        "tiny": False,
        "mnist": [
            *rates(("ours", "default", 300.0, 1000), ("ddp", "float32", 50.0, 2000)),
            *rates(("diffusers_unet", "float32", 60.0, 900)),
            *rates(("diffusers_unet", "bfloat16 autocast", 150.0, 1100)),
            failed,
        ],
        "flowers": rates(("ours", "default", 90.0, 1000), ("keras_ddim", "float32", 30.0, 990)),
    }


def test_the_report_of_training_tells_ratios_and_goals():
    text = training.report(made_up_training())
    assert "| **50.0** | 50.0 - 50.0 | 6.00x | 5x: met |" in text
    assert "| **150** | 150 - 150 | 2.00x | 3x: missed |" in text  # against the best variant
    assert "| 60.0 - 60.0 | 5.00x |  |" in text
    assert "no compiler" in text
    assert "| - | - | - | - | **990** | 990 - 990 | 0.99x | no more than it: missed |" in text
    assert training.images_per_second(made_up_training(), "flowers") == 90.0
    assert training.images_per_second(None, "flowers") is None


def of_steps(fewest):
    """What the section on quality found of MNIST."""
    reference = {"sampler": "ddim", "num_steps": 250, "distance": 2.5}
    return {"fewest": fewest, "distance": fewest and 2.4, "reference": reference, "noise": 0.1,
            "floor": 0.5}  # fmt: skip


def test_the_report_of_sampling_scales_what_was_measured_on_fewer_steps():
    def row(name, variant, steps, measured, seconds, call):
        run = {"num": 64, "seconds": seconds, "seconds_per_call": call, "parameters": 3_430_000}
        return {"subject": name, "variant": variant, "steps": steps, "measured": measured,
                "runs": [run]}  # fmt: skip

    ours = row("ours", "default", 10, 10, 1.0, 0.1)
    found = {
        "quality": {"mnist": of_steps(10), "flowers": None},
        "mnist": [ours, row("ddp", "float32", 250, 50, 20.0, 0.4)],
        "flowers": [row("ours", "default", 20, 20, 2.0, 0.1)],
        "flat": {"num_steps": 2, "peaks": [
            {"images": 640, "peak_mib": 900.0, "result_mib": 0.5},
            {"images": 10_000, "peak_mib": 920.0, "result_mib": 7.5},
        ]},
    }  # fmt: skip
    text = sampling.report(found)
    said = "| 250 * | **0.640** | 0.640 - 0.640 | 100x | 400 | 4.00x | 60x: met; per call 3x: met |"
    assert said in text
    assert "in 10 steps of dpmpp_2m: the fewest" in text and "still to be run" in text
    assert "(2.40) than the 2.50 of 250 steps of ddim (± 0.100; real pictures 0.500)" in text
    found["quality"]["flowers"] = of_steps(None)
    assert "no number of steps that was tried scores as well" in sampling.report(found)
    assert re.search(r"900 MiB after 640 digits and 920 MiB after 10,000 .*: flat", text)


def test_sampling_takes_the_steps_that_quality_found(tmp_path):
    options = runs.Options(results=tmp_path)
    assert sampling._quality("mnist", options) is None
    found = {
        "minutes": 20.0,
        "curve": [
            {"sampler": "dpmpp_2m", "num_steps": 7, "distances": [2.4]},
            {"sampler": "ddim", "num_steps": 250, "distances": [2.5]},
        ],
        "curve_floor": {"mean": 0.5, "std": 0.1},
    }
    options.save("quality_mnist", found, 1.0)
    assert sampling._quality("mnist", options) == of_steps(7)
    options.save("quality_mnist", {**found, "minutes": 1.0}, 1.0)  # a trial
    assert sampling._quality("mnist", options) is None


def test_latents_are_measured_and_told():
    measured = {kind: latents.training("cifar10", kind, tiny=True) for kind in latents.KINDS}
    measured["latents"].update(latents.drawing("cifar10", "latents", tiny=True))
    assert all(found["images_per_second"] > 0 for found in measured.values())
    assert measured["latents"]["decode"] > 0
    made_up = {"parameters": 2_000_000, "flops": 5e8, "peak_mib": 900.0}
    made_up = {**made_up, "encode": 1e-3, "decode": 2e-3}
    rows = {
        "pixels": {"runs": [{**made_up, "images_per_second": 100.0, "draw": 0.3}]},
        "latents": {"runs": [{**made_up, "images_per_second": 400.0, "draw": 0.1}]},
        "autoencoder": {"failed": "out of memory"},
    }
    text = latents.report({"tiny": False, "cifar10": rows})
    assert "| latents | 2.00 M | 0.50 | **2.50** | 4.00x | 900 | **100** | 3.00x |" in text
    assert "encoded in 1.00 ms" in text and "out of memory" in text and "Flowers" not in text


MADE_UP_STARTUP = {"times": {"help": {"runs": [{"seconds": 0.1}]}}, "pipelines": {}}


# The command ----------------------------------------------------------------------------


def test_the_report_is_made_of_what_is_there(tmp_path, capsys):
    options = runs.Options(results=tmp_path / "results")
    options.save("training", made_up_training(), 61.0)
    assert bench.main(["--only", "report", "--out", str(tmp_path / "R.md")]) == 0
    text = (tmp_path / "R.md").read_text()
    assert text.startswith("# Results") and "## Training, MNIST 28x28, batch 128" in text
    assert "## Sampling" not in text and "/tmp" not in text
    record = json.loads((tmp_path / "results" / "training.json").read_text())
    assert f"{record['machine']['cores']} cores" in text and "different machines" not in text


def test_the_report_says_which_section_is_of_which_machine(tmp_path, capsys):
    options = runs.Options(results=tmp_path / "results")
    for name, found in (("training", made_up_training()), ("startup", MADE_UP_STARTUP)):
        options.save(name, found, 61.0)
    path = tmp_path / "results" / "startup.json"
    record = json.loads(path.read_text())
    record["machine"].update(cpu="Another", instruction_sets=["amx_bf16"])
    path.write_text(json.dumps(record))
    assert bench.main(["--only", "report", "--out", str(tmp_path / "R.md")]) == 0
    text = (tmp_path / "R.md").read_text()
    assert "measured on different machines" in text
    assert text.rstrip().splitlines()[-1].startswith("<sub>")
    assert ", Another (amx_bf16), revision " in text.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments, pattern",
    [
        ("--only nothing", "--only: invalid choice: 'nothing'"),
        ("--rounds 0", "--rounds: '0' is not a number from 1"),
        ("--rounds many", "--rounds: 'many'"),
        ("--data-dir nowhere", "--data-dir: 'nowhere' is not a folder"),
        ("--only report --out .", "--out: .* is a folder"),
    ],
)
def test_bad_input_is_told_in_one_line(arguments, pattern, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        bench.main(arguments.split())
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert re.search(pattern, line), line
    assert not list(tmp_path.iterdir())


def test_the_harness_runs_at_toy_size(tmp_path, monkeypatch, capsys):
    few = {
        "mnist": (("ours", "default"), ("ddp", "float32")),
        "flowers": (("keras_ddim", "float32"),),
    }
    monkeypatch.setattr(training, "VARIANTS", few)
    out = tmp_path / "toy" / "R.md"
    assert bench.main(["--tiny", "--only", "training", "--out", str(out)]) == 0
    text = out.read_text()
    assert "these figures mean nothing" in text
    assert text.count("| keras_diffusion |") == 2  # speed and memory
    assert text.count("| keras.io DDIM example |") == 2
    assert (tmp_path / "toy" / "results" / "training.json").exists()


def test_a_section_that_is_missing_stops_no_other(tmp_path, monkeypatch, capsys):
    sections = {"gone": ("not_written", {}), "training": ("training", {})}
    monkeypatch.setattr(bench, "SECTIONS", sections)
    monkeypatch.setattr(training, "run", lambda options: made_up_training())
    assert bench.main(["--out", str(tmp_path / "R.md")]) == 1
    assert (
        "gone: ModuleNotFoundError: No module named 'benchmarks.not_written'"
        in capsys.readouterr().err
    )
    assert "## Training" in (tmp_path / "R.md").read_text()


def test_tables_of_the_pages_are_those_of_the_results(tmp_path):
    found = {
        path.stem: json.loads(path.read_text())["result"]
        for path in (bench.ROOT / "benchmarks" / "results").glob("*.json")
    }
    names = ("README.md",)
    for name in names:
        shutil.copy(bench.ROOT / name, tmp_path / name)
    pages.write(found, tmp_path)
    for name in names:
        assert (tmp_path / name).read_text() == (bench.ROOT / name).read_text(), name
    row = next(line for line in pages.overview(found).splitlines() if "training, MNIST" in line)
    rate = training.images_per_second(found["training"], "mnist")
    assert row.split("|")[2].strip() == f"**{runs.figure(rate)}**"


def test_the_overview_tells_what_users_get_and_the_best_and_how_far_ours_is_ahead():
    scores = [("keras_diffusion", 0.5), ("denoising-diffusion-pytorch", 4.0)]
    rows = [{"subject": title, "score": {"distance": value}} for title, value in scores]
    quality = {"minutes": 20.0, "floor": {"mean": 0.1}, "rows": [*rows, {**rows[1], "score": None}]}
    found = {"training": made_up_training(), "quality_mnist": quality}
    digits, flowers, distance = pages.overview(found).splitlines()[2:]
    assert "| **300** | 50.0: 6.00x | 60.0 (150): 5.00x (2.00x) |  |" in digits
    assert "| **90.0** |  |  | 30.0: 3.00x |" in flowers
    assert "| **0.500** | 4.00: 8.00x |  |  |" in distance


def test_a_page_without_its_marks_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("no table here")
    with pytest.raises(ValueError, match="0 places for 'overview'"):
        pages.write({"training": {"mnist": [], "flowers": []}}, tmp_path)
