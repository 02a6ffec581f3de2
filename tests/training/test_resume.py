"""train.py in a process: interrupted, and started twice; see kills.py for kills."""

import signal
import time

import kills
import pytest
from fixtures_input import rejection

from keras_diffusion.cli import train
from keras_diffusion.saving import checkpoints

DEADLINE = 240  # seconds
RUN = "my run"  # the advice must quote the blank
SMALL = ["--dataset", "digits", "--set", "widths=(8,)", "--set", "num_steps=2"]
SMALL += ["--run-dir", RUN, "--checkpoint-minutes", "0"]  # a checkpoint after every step


@pytest.mark.slow
def test_a_signal_saves_and_says_how_to_resume(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / RUN / "checkpoints"
    process = kills.train(tmp_path, *SMALL, "--epochs", "500")
    try:
        until = time.monotonic() + DEADLINE
        while not checkpoints.list_checkpoints(folder):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        for arguments in (["--resume", RUN], SMALL):
            line = rejection(train.main, [*arguments, "--export-dir", "export"], capsys)[-1]
            assert "error: --run-dir: my run" in line
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 128 + signal.SIGINT
    finally:
        process.kill()
    log = (tmp_path / "log.txt").read_text()
    assert "\n  python train.py --resume 'my run' --export-dir " in log and "Traceback" not in log
    assert not list(tmp_path.rglob(".part-*"))
    path, model, progress = checkpoints.load(folder)
    steps = int(model.optimizer.iterations.numpy())
    assert path.name == f"step-{steps:08d}.keras" and steps == progress.epoch * 11 + progress.step
