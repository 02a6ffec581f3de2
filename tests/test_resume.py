"""train.py killed, interrupted, started twice, out of disk; the long form is tests/kills.py."""

import resource
import signal
import subprocess
import time

import kills
import pytest

from keras_diffusion import checkpoints

DEADLINE = 240  # seconds, for anything that waits for a process
SMALL = ["--dataset", "digits", "--set", "widths=(8,)", "--set", "num_steps=2"]
SMALL += ["--run-dir", "run", "--checkpoint-minutes", "0"]  # a checkpoint after every step


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


def batches(folder):
    """The number of the last checkpoint's batch."""
    found = checkpoints.listed(folder / "run/checkpoints")
    return int(found[-1].stem.removeprefix("step-")) if found else 0


def refused(folder, *options):
    """The one line of a call that ends with exit code 2."""
    command = [*kills.TRAIN, *options, "--export-dir", "export"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE)
    assert ended.returncode == 2, ended.stderr[-2000:]
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]


def test_killed_and_resumed_is_undisturbed_in_every_bit(tmp_path):
    options = [*kills.OPTIONS, "--epochs", "3"]
    kills.train_through(tmp_path / "whole", options)
    killed = tmp_path / "killed"
    marks = iter((3, 14))  # within the first epoch, within the second

    def wait(process):
        mark = next(marks)
        wait_until(lambda: batches(killed) >= mark, process)

    fell = kills.train_with_kills(killed, options, 2, wait)
    assert len(fell) == 2
    assert (killed / "log.txt").read_text().count("resuming run/checkpoints/step-") == 2
    assert kills.differences(tmp_path / "whole", killed) == []


def test_a_signal_saves_and_says_how_to_go_on(folder):
    process = kills.train(folder, *SMALL, "--epochs", "500")
    try:
        wait_until(lambda: batches(folder) > 3, process)
        line = refused(folder, "--resume", "run")
        assert "run is in use by another run" in line
        line = refused(folder, *SMALL)
        assert "holds a run already; --resume goes on with it" in line
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 128 + signal.SIGTERM
    finally:
        process.kill()
    told = (folder / "log.txt").read_text()
    assert "python train.py --resume run" in told
    assert "Traceback" not in told
    _, model, progress = checkpoints.load(folder / "run/checkpoints")
    steps = int(model.optimizer.iterations.numpy())
    assert steps == batches(folder) == progress.epoch * 11 + progress.step
    line = refused(folder, "--resume", "run", "--batch-size", "64")
    assert "--batch-size: 64 contradicts 128" in line
    line = refused(folder, "--resume", "run", "--set", "train_split=train")
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
    assert "File too large: 'run/checkpoints/step-" in ended.stderr.splitlines()[-1]
    assert "there is no checkpoint" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert list((folder / "run/checkpoints").iterdir()) == []
    assert not (folder / "export").exists()
