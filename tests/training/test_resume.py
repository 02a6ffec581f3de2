"""train.py in processes: killed, interrupted, started twice, out of disk; kills.py is longer."""

import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import kills
import pytest
from fixtures_input import refusal

from keras_diffusion.cli import train
from keras_diffusion.saving import checkpoints

pytestmark = pytest.mark.slow
DEADLINE = 240  # seconds, for any process
RUN = "my run"  # the advice must quote the blank
SMALL = ["--dataset", "digits", "--set", "widths=(8,)", "--set", "num_steps=2"]
SMALL += ["--run-dir", RUN, "--checkpoint-minutes", "0"]  # a checkpoint after every step
# Like `kills.OPTIONS`, in less time.
OPTIONS = ["--dataset", "digits", "--horizontal-flip", "--deterministic", "--seed", "3"]
OPTIONS += ["--set", "widths=(8,)", "--set", "dropout=0.1", "--checkpoint-minutes", "0"]


def wait_until(condition, process):
    until = time.monotonic() + DEADLINE
    while not condition():
        assert process.poll() is None, "ended too soon"
        assert time.monotonic() < until
        time.sleep(0.02)


def batches(run_dir):
    """The number of batches in the name of the last checkpoint."""
    paths = checkpoints.list_checkpoints(run_dir / "checkpoints")
    return int(paths[-1].stem.removeprefix("step-")) if paths else 0


def test_a_killed_and_resumed_run_ends_with_the_same_bits(tmp_path, monkeypatch):
    quick = Path(__file__).parents[1] / "support/quick.py"
    monkeypatch.setattr(kills, "TRAIN", [sys.executable, str(quick)])
    options = [*OPTIONS, "--epochs", "3"]
    kills.train_through(tmp_path / "whole", options)
    killed = tmp_path / "killed"

    def wait(process):
        wait_until(lambda: batches(killed / "run") >= 14, process)  # within the second epoch

    assert len(kills.train_with_kills(killed, options, 1, wait)) == 1
    assert (killed / "log.txt").read_text().count("resuming run/checkpoints/step-") == 1
    assert kills.differences(tmp_path / "whole", killed) == []


def test_a_signal_saves_and_says_how_to_resume(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    process = kills.train(tmp_path, *SMALL, "--epochs", "500")
    try:
        wait_until(lambda: batches(tmp_path / RUN) > 3, process)
        for arguments in (["--resume", RUN], SMALL):
            line = refusal(train.main, [*arguments, "--export-dir", "export"], capsys)[-1]
            assert "error: --run-dir: my run" in line
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 128 + signal.SIGINT
    finally:
        process.kill()
    log = (tmp_path / "log.txt").read_text()
    assert "\n  python train.py --resume 'my run'\n" in log
    assert "Traceback" not in log
    assert not list(tmp_path.rglob(".part-*"))
    _, model, progress = checkpoints.load(tmp_path / RUN / "checkpoints")
    steps = int(model.optimizer.iterations.numpy())
    assert steps == batches(tmp_path / RUN) == progress.epoch * 11 + progress.step


TWO_SIGNALS = """
import os, signal, sys, time
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from fixtures_runs import tiny_model, tiny_run
from keras_diffusion.saving import checkpoints
from keras_diffusion.training import fit

folder, save = Path(sys.argv[1]), checkpoints.zipfile.ZipFile.writestr

def slow(file, name, *arguments):  # both signals come while the second checkpoint is written
    if name == checkpoints.PROGRESS_FILE and list(folder.glob("checkpoints/step-*")):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        print("still there")
    save(file, name, *arguments)

checkpoints.zipfile.ZipFile.writestr = slow
fit.fit(tiny_run(folder), tiny_model(), checkpoints.Progress())
"""


def test_a_second_signal_ends_the_process_at_once_and_damages_nothing(tmp_path):
    support = Path(__file__).parents[1] / "support"
    command = [sys.executable, "-c", TWO_SIGNALS, tmp_path, support]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr[-2000:]
    assert "still there" not in done.stdout
    assert batches(tmp_path) == 5
    assert checkpoints.load(tmp_path / "checkpoints", warn=pytest.fail)[2].epoch == 1
    assert list(tmp_path.rglob(".part-*")), "it was writing the next one"
    checkpoints.clear_parts(tmp_path)
    assert not list(tmp_path.rglob(".part-*"))


def test_no_space_left(tmp_path):
    # 300 kB per file: less than a checkpoint, more than all files before it
    ended = subprocess.run(
        [*kills.TRAIN, *SMALL, "--epochs", "1", "--export-dir", "export"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
    )
    assert ended.returncode == 2
    line = ended.stderr.splitlines()[-1]
    assert re.search("File too large: 'my run/checkpoints/step-.*there is no checkpoint", line)
    assert "Traceback" not in ended.stderr
    assert list((tmp_path / RUN / "checkpoints").iterdir()) == []
    assert not (tmp_path / "export").exists()
