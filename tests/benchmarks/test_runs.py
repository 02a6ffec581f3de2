"""Measurements in fresh processes, timing, and the machine; nothing here is a benchmark."""

import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import data, machine, runs, startup, training


def test_a_fresh_process_returns_a_result_or_the_reason():
    result = runs.in_fresh_process("machine.describe")
    assert result["cores"] == machine.describe()["cores"]
    assert 1 < result["peak_mib"] < 200  # no framework is loaded
    with pytest.raises(runs.RunFailed, match="^ModuleNotFoundError: .*benchmarks.nothing"):
        runs.in_fresh_process("nothing.here")
    with pytest.raises(runs.RunFailed, match="no result after"):
        runs.in_fresh_process("machine.describe", 0.001)


def test_nothing_heavy_is_loaded_before_a_measurement():
    code = (
        "import sys; from benchmarks import bench, latents, roofline, sampling, startup, training\n"
        "from benchmarks.quality import workers\n"
        "print({'tensorflow', 'keras', 'torch', 'matplotlib'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=runs.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["ddp", "diffusers_unet", "torch_parts", "keras_ddim"])
def test_a_library_is_measured_without_the_others(name):
    others = "torch|keras_diffusion" if name == "keras_ddim" else "tensorflow|keras|keras_diffusion"
    source = (runs.FOLDER / "subjects" / f"{name}.py").read_text()
    assert not re.search(rf"^\s*(import|from) ({others})\b", source, re.MULTILINE)


def test_rows_are_measured_in_turns_and_one_that_fails_stops():
    seen = []

    def measure(row):
        seen.append(row["name"])
        if row["name"] == "b":
            raise runs.RunFailed("no compiler")
        return {"value": len(seen)}

    first, second = runs.in_turns(measure, [{"name": "a"}, {"name": "b"}], rounds=2)
    assert seen == ["a", "b", "a"]
    assert first == {"name": "a", "runs": [{"value": 1}, {"value": 3}]}
    assert second == {"name": "b", "failed": "no compiler"}


def test_the_clock_starts_after_the_warm_up(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(training.time, "monotonic", lambda: 2.0 * next(now))
    clock = training.Clock(warm_up=3, min_steps=5, min_seconds=14.0)
    stopped = next(step for step in range(1, 50) if clock(step))
    assert stopped == clock.steps == 10  # 7 steps of 2 seconds
    assert clock.rate == pytest.approx(0.5)


def test_the_clock_of_minutes_starts_with_the_end_of_the_first_step(monkeypatch):
    now = iter([100.0, 101.0, 159.9, 160.0])  # compiling took 100 s
    monkeypatch.setattr(training.time, "monotonic", lambda: next(now))
    clock = training.Clock(warm_up=1, min_steps=0, min_seconds=60)
    assert [clock(step) for step in (1, 2, 3, 4)] == [False, False, False, True]
    assert (clock.steps, clock.seconds) == (4, 60.0)


def test_the_first_step_is_seen_in_the_progress_bar():
    assert startup.FIRST_STEP.search(b"XLA: chains\n\repoch 1/50  1/468 [....]")
    assert startup.FIRST_STEP.search(b"\repoch 1  1/468 [....]")
    assert not startup.FIRST_STEP.search(b"splits 11/12, 1 x 128 images\nepoch 1  loss 0.1\n")


def test_synthetic_images_are_reproducible():
    images, labels = data.load("mnist", "test", tiny=True, cache=None)
    again, _ = data.load("mnist", "test", tiny=True, cache=None)
    np.testing.assert_array_equal(images, again)
    assert images.shape == (128, 8, 8, 1) and images.dtype == np.uint8
    assert set(labels) == set(range(data.TINY_CLASSES))
