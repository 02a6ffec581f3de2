"""The tab Watch without a browser: what it says of the files of runs."""

import html
import json
import os
import shutil
import time
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from fixtures_data import save_image

from keras_diffusion.cli.app import runs, watch
from keras_diffusion.cli.app.page import Page
from keras_diffusion.training.run_dir import locked, write_history

STATUS = {"epoch": 3, "epochs": 10, "minutes": None, "seconds": 200.0, "seconds_left": 400,
          "finished": False, "message": "", "warning": ""}  # fmt: skip


def make_run(folder, epochs=3, samples=(1, 3), **status):
    """A run as train.py writes it; `status` replaces values of status.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"config": {"epochs": 10}}))
    rows = [
        {"epoch": n + 1, "skipped": 2 * (n == 1), "loss": 1 / (n + 1), "val_loss": 1.1 / (n + 1),
         "gradient_norm": 1.0}
        for n in range(epochs)
    ]  # fmt: skip
    write_history(rows, folder / "history.csv")
    for epoch in samples:
        save_image(folder / f"samples/epoch-{epoch:04d}.png", seed=epoch)
    (folder / "status.json").write_text(json.dumps({**STATUS, **status}))
    return folder


def touch(folder, seconds):
    """Makes all files of a run older or newer."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() + seconds,) * 2)


# The files ------------------------------------------------------------------------------------


def test_runs_are_listed_by_the_time_of_their_last_file(tmp_path):
    for number, name in enumerate(("old", "new", "middle")):
        touch(make_run(tmp_path / name), seconds=(-30, -10, -20)[number])
    (tmp_path / "not_a_run").mkdir()
    make_run(tmp_path / ".hidden")
    (tmp_path / "file").write_text("")
    assert runs.names(tmp_path) == ["new", "middle", "old"]
    assert runs.names(tmp_path / "nowhere") == []


def test_a_run_that_is_training(tmp_path):
    folder = make_run(tmp_path / "tiny")
    with locked(folder):
        state = runs.read(tmp_path, "tiny")
    assert state.state == runs.TRAINING and state.epochs == 3
    assert state.lines == ["3 of 10 epochs, 3 min", "about 7 min left"]
    assert state.warnings == ["2 steps in epoch 2 were skipped, as a gradient was not finite"]
    assert {n: path.name for n, path in state.samples.items()} == {
        1: "epoch-0001.png", 3: "epoch-0003.png",
    }  # fmt: skip


def test_the_time_left_passes_between_two_updates(tmp_path, monkeypatch):
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now)
    folder = make_run(tmp_path / "tiny", seconds_left=80)
    touch(folder, -30)
    with locked(folder):
        assert runs.read(tmp_path, "tiny").lines[1] == "about 50 s left"
        make_run(folder, seconds_left=None)
        assert "is known after" in runs.read(tmp_path, "tiny").lines[1]
        make_run(folder, finished=True)
        assert "the training is over" in runs.read(tmp_path, "tiny").lines[1]


def test_a_run_that_has_stopped_or_is_finished(tmp_path):
    make_run(tmp_path / "stopped", message="10 steps in a row", warning="it does not learn")
    make_run(tmp_path / "finished", epochs=10, minutes=4, seconds=240, finished=True)
    stopped, finished = (runs.read(tmp_path, name) for name in ("stopped", "finished"))
    assert stopped.state == runs.STOPPED
    assert stopped.lines == ["3 of 10 epochs, 3 min"]
    assert stopped.warnings[:2] == ["it does not learn", "10 steps in a row"]
    assert (finished.state, finished.lines) == (runs.FINISHED, ["10 of 10 epochs, 4 min of 4 min"])


@pytest.mark.parametrize("prog", ["app.py", "keras-diffusion app"])
def test_a_run_with_a_checkpoint_is_resumed_as_the_page_was_called(prog, tmp_path):
    train = {"app.py": "python train.py", "keras-diffusion app": "keras-diffusion train"}[prog]
    for stage in ("a run", "a run/codec"):
        folder = make_run(tmp_path / "a run")
        assert "Resume" not in look(tmp_path, "a run", None, {}, prog)["about"]
        checkpoint = tmp_path / stage / "checkpoints/step-00000003.keras"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_bytes(b"")
        shown = html.unescape(look(tmp_path, "a run", None, {}, prog)["about"])
        assert f"Resume it with: {train} '--resume={folder}'<" in shown
        with locked(folder):
            assert "Resume" not in look(tmp_path, "a run", None, {}, prog)["about"]
        shutil.rmtree(folder)


def test_stage_one_of_a_run_on_latents(tmp_path):
    make_run(tmp_path / "latent/codec", epochs=2, samples=())
    (tmp_path / "latent/config.json").write_text("{}")
    with locked(tmp_path / "latent"):
        state = runs.read(tmp_path, "latent")
    assert state.lines[0].startswith("stage one, the autoencoder: 2 of 10 epochs")
    assert state.history == tmp_path / "latent/codec/history.csv" and state.samples == {}
    make_run(tmp_path / "latent", epochs=1)
    assert runs.read(tmp_path, "latent").lines[0].startswith("1 of 10 epochs")


def test_a_run_of_an_earlier_version(tmp_path):
    folder = make_run(tmp_path / "early")
    (folder / "status.json").unlink()
    assert runs.read(tmp_path, "early").state == runs.STOPPED
    (folder / "health.png").write_bytes(b"")
    assert runs.read(tmp_path, "early").state == runs.FINISHED


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"epochs": "x", "seconds": "y"}'])
def test_damaged_files_do_not_raise(content, tmp_path):
    folder = make_run(tmp_path / "tiny")
    for name in ("config.json", "status.json", "history.csv"):
        (folder / name).write_text(content)
    state = runs.read(tmp_path, "tiny")
    assert state.state == runs.STOPPED
    assert watch._curves(state)[1] == ""


@pytest.mark.parametrize("name", ["../tiny", "/etc", "", None, "tiny/samples", ".", "nowhere"])
def test_only_listed_runs_are_read(name, tmp_path):
    make_run(tmp_path / "runs/tiny")
    make_run(tmp_path / "tiny")
    with pytest.raises(ValueError, match="no run"):
        runs.read(tmp_path / "runs", name)
    assert look(tmp_path / "runs", name, None, {})["choice"]["value"] == "tiny"


# What the page shows --------------------------------------------------------------------------


def look(root, name, number, seen, prog="app.py"):
    """`watch._look` as {name: value}; what is skipped is left out."""
    names = ("choice", "about", "slider", "grid", "caption", "losses", "health", "seen")
    page = Page(models=None, jobs=None, files=None, runs=root, prog=prog)
    values = zip(names, watch._look(page, name, number, seen), strict=True)
    return {name: value for name, value in values if value != gr.skip()}


def test_the_page_follows_a_run_and_skips_what_has_not_changed(tmp_path):
    folder = make_run(tmp_path / "tiny", seconds_left=10**6)
    with locked(folder):
        first = look(tmp_path, None, None, {})
        assert first["choice"]["choices"] == ["tiny"] and first["choice"]["value"] == "tiny"
        assert "training now" in first["about"] and "left" in first["about"]
        assert first["slider"]["maximum"] == first["slider"]["value"] == 3
        assert "epoch 3" in first["caption"]
        assert first["losses"].count("<svg") == 1 and first["health"].count("<svg") == 2
        assert list(look(tmp_path, "tiny", 3, first["seen"])) == ["seen"]
        make_run(folder, epochs=4, samples=(1, 3, 4))
        second = look(tmp_path, "tiny", 3, first["seen"])
        assert second["slider"]["value"] == 4 and "epoch 4" in second["caption"]
        assert "choice" not in second and second["losses"] != first["losses"]
        make_run(folder, epochs=5, samples=(1, 3, 4, 5))
        third = look(tmp_path, "tiny", 1, second["seen"])  # the visitor looks at an older one
        assert third["slider"]["value"] == 1 and third["slider"]["maximum"] == 5
    assert "stopped" in look(tmp_path, "tiny", 1, third["seen"])["about"]


def test_an_epoch_without_a_grid_shows_the_one_before(tmp_path):
    make_run(tmp_path / "tiny", samples=(2, 6))
    assert "epoch 2," in watch._grid(tmp_path, "tiny", 5)[1]
    value = watch._grid(tmp_path, "tiny", 6)[0]["value"]
    np.testing.assert_array_equal(np.asarray(value), save_image(tmp_path / "again.png", seed=6))
    assert "epoch 2," in watch._grid(tmp_path, "tiny", 1)[1]
    assert watch._grid(tmp_path, "other", 1) == watch.NO_GRID


@pytest.mark.parametrize("number", [80, -1, None, "", "3", [3], {}, float("nan")])
def test_any_number_that_a_browser_sends_shows_a_grid(number, tmp_path):
    make_run(tmp_path / "tiny")
    seen = look(tmp_path, "tiny", number, {})["seen"]
    assert list(look(tmp_path, ["tiny"], number, seen)) == ["seen"]
    assert "epoch" in watch._grid(tmp_path, "tiny", number)[1]


def test_curves_are_drawn_once_for_all_visitors(tmp_path, monkeypatch):
    folder, drawn = make_run(tmp_path / "tiny"), []
    monkeypatch.setattr(watch, "_panels", lambda *_: drawn.append(1) or "<svg>")
    for _ in range(3):
        assert watch._curves(runs.read(tmp_path, "tiny")) == ("<svg>", "<svg>")
    assert len(drawn) == 2, "losses and health"
    touch(folder, -5)
    watch._curves(runs.read(tmp_path, "tiny"))
    assert len(drawn) == 4


def test_a_run_that_is_deleted_meanwhile(tmp_path, monkeypatch):
    make_run(tmp_path / "other"), make_run(tmp_path / "tiny")
    touch(tmp_path / "other", -9)
    seen = look(tmp_path, "tiny", None, {})["seen"]
    shutil.rmtree(tmp_path / "tiny")
    assert look(tmp_path, "tiny", None, seen)["choice"]["value"] == "other"
    shutil.rmtree(tmp_path / "other")
    empty = look(tmp_path, "other", None, seen)
    assert "There are no runs" in empty["about"] and empty["choice"]["choices"] == []
    assert "about" not in look(tmp_path, None, None, empty["seen"])
    make_run(tmp_path / "tiny")
    names = runs.names(tmp_path)
    shutil.rmtree(tmp_path / "tiny")
    monkeypatch.setattr(runs, "names", lambda root: names)  # deleted after it was listed
    assert look(tmp_path, "tiny", None, {})["about"]


def test_text_of_a_run_is_no_html(tmp_path):
    make_run(tmp_path / "tiny", warning="<script>")
    assert "&lt;script&gt;" in look(tmp_path, "tiny", None, {})["about"]
    assert "<script>" not in look(Path("<script>"), "tiny", None, {})["about"]
