"""train.py as a user meets it: one run in a process of its own, its files, and resuming it."""

import csv
import json
import os
import pathlib
import re
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
from commands import TINY
from fixtures_exports import one_sampler
from fixtures_input import rejection
from PIL import Image

from keras_diffusion.cli import __main__ as console
from keras_diffusion.cli import evaluate, sample, train
from keras_diffusion.runtime.distribution import WorkerLost
from keras_diffusion.runtime.signals import Interrupted
from keras_diffusion.training import run as training
from keras_diffusion.training.callbacks import TrainingStopped
from keras_diffusion.training.run_dir import locked


def history(folder):
    with open(folder / "runs/tiny/history.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def copy(trained, tmp_path, monkeypatch):
    """A copy of the folder of the run `trained`, which is then the current folder."""
    shutil.copytree(trained[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


# The command ----------------------------------------------------------------------------------


def test_the_console_script_runs_the_commands(capsys):
    lines = rejection(console.main, ["train", "--epochs", "many"], capsys)
    assert lines[0].startswith("keras-diffusion train: error: --epochs: ")
    lines = rejection(console.main, ["evaluate", "--model", "nowhere"], capsys)
    assert lines[0].startswith("keras-diffusion evaluate: error: --model: ")
    for arguments in ([], ["dream"]):
        assert rejection(console.main, arguments, capsys)[0].startswith("keras-diffusion: error: ")


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ("--dataset digits", ("digits", None)),
        ("--dataset mnist/3.0.1", ("mnist-3.0.1", None)),
        ("--image photos/rose.jpg", ("rose", None)),
        ("--folder photos/pets/", ("pets", None)),
        ("--dataset digits --run-dir runs/tiny", ("tiny", "tiny")),
        ("--dataset digits --run-dir .", ("here", "here")),
    ],
)
def test_a_run_and_its_export_are_named(data, names, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    calls = []
    monkeypatch.setattr(training, "run", lambda config, *dirs, **_: calls.append(dirs))
    assert train.main(data.split()) == 0
    [(run, export)] = calls
    assert run.absolute().name.startswith(names[0])
    assert export == train.Path("saved_models") / (names[1] or run.name)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (Interrupted(signal.SIGINT), 130, "  python train.py --resume 'my run'"),
        (Interrupted(signal.SIGTERM), 143, "  python train.py --resume 'my run'"),
        (KeyboardInterrupt(), 130, "there is no checkpoint"),
        (TrainingStopped("loss is nan"), 1, "train.py: loss is nan"),
        (WorkerLost("worker 1 is gone"), 1, "train.py: worker 1 is gone"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM"), 2, "--accumulate 2"),
        (tf.errors.ResourceExhaustedError(None, None, "No space left"), 2, "No space left"),
        (
            tf.errors.UnknownError(None, None, "Graph execution error:\n\nOSError: gone\nin x"),
            2,
            "error: OSError: gone",
        ),
        (tf.errors.NotFoundError(None, None, "x.tfrecord; No such file"), 2, "x.tfrecord; No such"),
        (MemoryError(), 2, "--accumulate 2"),
        (OSError("a broken\ndisk"), 2, "train.py: error: a broken disk"),
    ],
)
def test_a_failure_has_an_exit_code_and_a_message(error, code, message, monkeypatch, capsys):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(training, "run", fail)
    arguments = ["--dataset", "digits", "--run-dir", "my run"]
    if code == 2:
        assert message in rejection(train.main, arguments, capsys)[-1]
    else:
        assert train.main(arguments) == code
        assert capsys.readouterr().err.splitlines()[-1].find(message) >= 0


def test_another_backend_is_rejected_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert "error: KERAS_BACKEND: " in rejection(train.main, TINY, capsys)[-1]
    assert not list(tmp_path.iterdir())


def test_an_export_that_fails_is_repeated_by_the_printed_command(monkeypatch, capsys):
    def fail(*_, **__):
        raise training.ExportFailed("disk full.")

    monkeypatch.setattr(training, "run", fail)
    arguments = ["--run-dir", "my  run", "--export-dir=-x"]
    [line] = rejection(train.main, arguments, capsys)
    assert line.endswith("python train.py --resume 'my  run' --export-dir ./-x")


def test_runs_of_one_second_have_different_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "TIME", "now")
    dirs = []

    def nested(config, run_dir, export_dir, **_):
        dirs.append((str(run_dir), str(export_dir)))
        assert len(dirs) == 3 or train.main(["--dataset", "digits"]) == 0

    monkeypatch.setattr(training, "run", nested)
    assert train.main(["--dataset", "digits"]) == 0
    names = ["digits-now", "digits-now-2", "digits-now-3"]
    assert dirs == [(f"runs/{name}", f"saved_models/{name}") for name in names]
    assert not list(tmp_path.iterdir())  # empty folders are removed


@pytest.mark.parametrize(
    ("made", "flag"),
    [("saved_models", "--export-dir"), ("runs/tiny/logs", "--run-dir"), ("runs", "--run-dir")],
)
def test_targets_are_tried_before_the_training(made, flag, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / made).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / made).write_text("a file")
    named = [] if made == "runs" else ["--run-dir", "runs/tiny"]
    monkeypatch.setattr(training, "_prepare", None)
    assert f"error: {flag}: " in rejection(train.main, [*TINY, *named], capsys)[-1]


def test_the_next_commands_are_called_as_this_one(monkeypatch, capsys):
    monkeypatch.setattr(training, "run", lambda *_, **__: True)
    assert console.main(["train", "--run-dir", "my run"]) == 0
    model = "--model 'saved_models/my run'"
    lines = ["next", f"  keras-diffusion sample {model}", f"  keras-diffusion evaluate {model}"]
    assert capsys.readouterr().out.splitlines() == lines
    assert train.main(["--image", "--run-dir", "rose"]) == 0
    assert capsys.readouterr().out == "next\n  python sample.py --model saved_models/rose\n"


def test_a_dry_run_prints_everything_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train.main([*TINY, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for part in ("precision: float32", "validation", "parameters", "GFLOP", "GiB", '"widths"'):
        assert part in printed
    assert not list(tmp_path.iterdir())


# A run ----------------------------------------------------------------------------------------


def test_a_run_leaves_the_files_that_it_names(trained):
    folder, printed = trained
    run, export = folder / "runs/tiny", folder / "saved_models/tiny"
    for name in ("loss.png", "health.png", "forward.png", "backward.png", "samples/epoch-0001.png"):
        with Image.open(run / name) as image:
            assert image.width > 200
    rows = history(folder)
    assert [(row["epoch"], row["skipped"]) for row in rows] == [("1", "0"), ("2", "0")]
    assert 0 < float(rows[1]["learning_rate"]) < 1e-2  # the peak
    assert float(rows[1]["val_loss"]) > 0
    assert 0.5 < float(rows[1]["zero_loss"]) < 2
    checkpoints = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert checkpoints == ["step-00000003.keras", "step-00000004.keras"]
    record = json.loads((run / "config.json").read_text())
    assert record["config"]["widths"] == [8]
    assert record["versions"]["keras"]
    facts = json.loads((export / "assets.extra/config.json").read_text())
    assert facts["guidance_interval"] == record["config"]["guidance_interval"] == [0.1, 0.8]
    assert list((run / "logs").rglob("events*"))
    assert not list(folder.rglob("*part*"))
    assert "\n  python sample.py --model saved_models/tiny\n" in printed
    best = re.search(r"checkpoints/, best by val_loss: (step-0000000\d.keras)", printed)
    assert best[1] in checkpoints


def test_a_resumed_run_ends_like_the_uninterrupted_one(trained, copy, monkeypatch, capsys):
    monkeypatch.setattr(training, "_finish", lambda *_: None)  # figures and export
    (copy / "runs/tiny/checkpoints/step-00000004.keras").write_bytes(b"torn off by a power cut")
    assert train.main(["--resume"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"skipping .*step-00000004.keras", printed)
    assert re.search(r"resuming .*step-00000003.keras: step 3, 1 epochs and 1 batches", printed)
    assert len(history(copy)) == 2
    first, second = history(trained[0])[1], history(copy)[1]
    for name in first:
        assert float(first[name]) == pytest.approx(float(second[name]), rel=1e-4), name


def test_a_finished_run_is_not_trained_again(trained, copy, monkeypatch):
    path = copy / "runs/tiny/config.json"
    record = json.loads(path.read_text())
    del record["config"]["guidance_interval"]  # a run of an earlier version
    path.write_text(json.dumps(record))
    before = {path: path.read_bytes() for path in copy.glob("runs/tiny/checkpoints/*")}
    monkeypatch.setattr(training, "_plot", lambda *_: None)
    exports = []
    monkeypatch.setattr(training, "export_saved_model", lambda *_, **how: exports.append(how))
    assert train.main(["--resume", "runs/tiny", "--set", "guidance_scale=3.5"]) == 0
    assert {path: path.read_bytes() for path in copy.glob("runs/tiny/checkpoints/*")} == before
    assert history(copy) == history(trained[0])
    assert (exports[0]["guidance_scale"], exports[0]["guidance_interval"]) == (3.5, (0.0, 1.0))


def test_a_run_is_not_overwritten_contradicted_or_used_twice(copy, capsys):
    calls = ([*TINY, "--run-dir", "runs/tiny"], ["--resume", "--seed", "5"])
    for arguments, flag in zip(calls, ("--run-dir", "--seed"), strict=True):
        assert f"error: {flag}: " in rejection(train.main, arguments, capsys)[-1]
    with locked("runs/tiny"):
        assert "error: --run-dir: " in rejection(train.main, ["--resume"], capsys)[-1]


@pytest.mark.slow
def test_from_a_folder_of_gifs_to_gifs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in range(10):
        pixels = np.random.default_rng(name).integers(0, 256, (3, 8, 8), np.uint8)
        first, *others = map(Image.fromarray, pixels)
        pathlib.Path("clips").mkdir(exist_ok=True)
        first.save(f"clips/{name}.gif", save_all=True, append_images=others)
    options = TINY[2:-2]  # without the data set, and the guidance of its labels
    clips = ["--folder", "clips", "--frames", "3", "--run-dir", "runs/tiny"]
    with one_sampler():
        assert train.main([*options, *clips]) == 0
    assert "clips of 3 frames of 8x8x1" in capsys.readouterr()[0]
    assert {"forward.png", "backward.png"} <= set(os.listdir("runs/tiny"))
    assert sample.main(["--num", "2", "--out", "a.png"]) == 0
    with Image.open("a.gif") as animation:
        assert animation.n_frames == 3
    for path in ("saved_models/tiny", "runs/tiny"):
        lines = rejection(evaluate.main, ["--model", path], capsys)
        assert "error: --model: " in lines[-1] and "clips" in lines[-1]
