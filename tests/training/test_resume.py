"""train.py killed, interrupted, started twice, out of disk; the long form is tests/kills.py."""

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import kills
import pytest
from fixtures_input import refusal

import train
from keras_diffusion.saving import checkpoints

DEADLINE = 240  # seconds, for anything that waits for a process
RUN = "my run"  # a blank, which the advice has to quote
SMALL = ["--dataset", "digits", "--set", "widths=(8,)", "--set", "num_steps=2"]
SMALL += ["--run-dir", RUN, "--checkpoint-minutes", "0"]  # a checkpoint after every step
# As `kills.OPTIONS`, in less time.
DIFFICULT = ["--dataset", "digits", "--horizontal-flip", "--deterministic", "--seed", "3"]
DIFFICULT += ["--set", "widths=(8,)", "--set", "dropout=0.1", "--checkpoint-minutes", "0"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def wait_until(condition, process):
    until = time.monotonic() + DEADLINE
    while not condition():
        assert process.poll() is None, "ended too soon"
        assert time.monotonic() < until
        time.sleep(0.02)


def batches(run_dir):
    """The number of the last checkpoint's batch."""
    found = checkpoints.list_checkpoints(run_dir / "checkpoints")
    return int(found[-1].stem.removeprefix("step-")) if found else 0


def test_killed_and_resumed_is_undisturbed_in_every_bit(tmp_path, monkeypatch):
    quick = Path(__file__).parents[1] / "support/quick.py"
    monkeypatch.setattr(kills, "TRAIN", [sys.executable, str(quick)])
    options = [*DIFFICULT, "--epochs", "3"]
    kills.train_through(tmp_path / "whole", options)
    killed = tmp_path / "killed"

    def wait(process):
        wait_until(lambda: batches(killed / "run") >= 14, process)  # within the second epoch

    assert len(kills.train_with_kills(killed, options, 1, wait)) == 1
    assert (killed / "log.txt").read_text().count("resuming run/checkpoints/step-") == 1
    assert kills.differences(tmp_path / "whole", killed) == []


def test_a_signal_saves_and_says_how_to_go_on(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    def refused(*options):
        return refusal(train.main, [*options, "--export-dir", "export"], capsys)[-1]

    process = kills.train(folder, *SMALL, "--epochs", "500")
    try:
        wait_until(lambda: batches(folder / RUN) > 3, process)
        assert "my run is in use by another run" in refused("--resume", RUN)
        assert "holds a run already; --resume goes on with it" in refused(*SMALL)
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 128 + signal.SIGINT
    finally:
        process.kill()
    told = (folder / "log.txt").read_text()
    assert "everything is saved. Resume with:\n  python train.py --resume 'my run'\n" in told
    assert "Traceback" not in told
    assert not list(folder.rglob(".part-*"))
    _, model, progress = checkpoints.load(folder / RUN / "checkpoints")
    steps = int(model.optimizer.iterations.numpy())
    assert steps == batches(folder / RUN) == progress.epoch * 11 + progress.step
    line = refused("--resume", RUN, "--batch-size", "64")
    assert "--batch-size: 64 contradicts 128" in line
    line = refused("--resume", RUN, "--set", "train_split=train")
    assert "--train-split: 'train' contradicts None" in line


def test_no_space_left(folder):
    # 300 kB for each file: less than a checkpoint, more than all that comes before
    command = [*kills.TRAIN, *SMALL, "--epochs", "1", "--export-dir", "export"]
    ended = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
    )
    assert ended.returncode == 2
    assert "File too large: 'my run/checkpoints/step-" in ended.stderr.splitlines()[-1]
    assert "there is no checkpoint" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert list((folder / RUN / "checkpoints").iterdir()) == []
    assert not (folder / "export").exists()
