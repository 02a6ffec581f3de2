"""What all studies share: cached stages, trainings in parts, the command line, figures."""

import dataclasses
import importlib
import shutil
import signal

import keras
import numpy as np
import pytest
from PIL import Image

from keras_diffusion.plotting import figures
from keras_diffusion.plotting.images import save_png
from keras_diffusion.runtime.signals import Interrupted
from studies import command, noise_schedules, one_image
from studies import figures as study_figures
from studies.parts import MODEL, PartedTraining
from studies.stages import Stages, key


def stages_in(folder, **options):
    return Stages(folder / "study" / "key", log=lambda line: None, **options)


def test_a_stage_is_computed_once_whole_or_not_at_all(tmp_path):
    stages, computed = stages_in(tmp_path), []

    def compute(folder, fails=False):
        np.save(folder / "a.npy", np.arange(3))
        if fails:
            raise KeyboardInterrupt
        computed.append(1)
        return {"loss": 0.5, 3: (1, 2)}

    with pytest.raises(KeyboardInterrupt):
        stages.run("one", lambda folder: compute(folder, fails=True))
    assert list(stages.folder.iterdir()) == [] and not stages.has("one")
    for again in (stages, stages_in(tmp_path)):
        assert again.run("one", compute) == {"loss": 0.5, "3": [1, 2]}  # as in JSON
        np.testing.assert_array_equal(again.array("one", "a.npy"), [0, 1, 2])
    assert computed == [1]
    with pytest.raises(FileNotFoundError):
        stages.array("one", "b.npy")


def test_stages_of_another_origin_are_listed(tmp_path):
    def session(revision, *names):
        stages = stages_in(tmp_path, origin={"git_revision": revision})
        for name in names:
            stages.run(name, lambda folder: {})
        return stages.elsewhere

    assert session("abc", "a", "b") == []
    groups = session("def", "a", "b", "c")
    assert groups == [{"made": {"git_revision": "abc"}, "stages": ["a", "b"]}]


class Counting(PartedTraining):
    """A training that adds 1 to a weight in each part; `fails` is the part that fails."""

    fails = None

    def new_model(self):
        return keras.Sequential(
            [keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="zeros")]
        )

    def train(self, model, part, before, folder):
        model.set_weights([weight + 1 for weight in model.get_weights()])
        if part == self.fails:
            raise KeyboardInterrupt
        return {"part": part, "before": len(before)}


def test_a_training_in_parts_resumes_and_keeps_the_last_model(tmp_path):
    training = Counting("a", 3, stages_in(tmp_path))
    training.fails = 2
    with pytest.raises(KeyboardInterrupt):
        training.run()
    kept = [path.parent.name for path in training.stages.folder.rglob(MODEL)]
    assert kept == ["a-part1"]
    training.fails = None
    for again in (training, Counting("a", 3, stages_in(tmp_path))):
        assert again.run() == [{"part": part, "before": part - 1} for part in (1, 2, 3)]
        assert again.model().get_weights()[0] == 3
    kept = [path.parent.name for path in training.stages.folder.rglob(MODEL)]
    assert kept == ["a-part3"]


def test_figures_without_their_images_are_skipped(tmp_path):
    def missing():
        raise FileNotFoundError

    study_figures.save_all(tmp_path, {"a": missing, "b": lambda: figures.subplots()[0]})
    assert [path.name for path in tmp_path.iterdir()] == ["b.png"]


def test_copied_figures_are_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (320, 400, 3), "uint8")
    save_png(tmp_path / "a.png", noise)
    study_figures.copy_png(tmp_path / "a.png", tmp_path / "b.png")
    study_figures.copy_png(tmp_path / "missing.png", tmp_path / "c.png")
    assert (tmp_path / "a.png").stat().st_size > study_figures.MAX_BYTES
    assert (tmp_path / "b.png").stat().st_size <= study_figures.MAX_BYTES
    assert not (tmp_path / "c.png").exists()


def test_row_titles_are_not_cut_off():
    black = np.zeros((12, 8, 8, 1), "uint8")
    figure = study_figures.image_rows([black] * 9, ["20 steps in logSNR, re-estimated"] * 9)
    figure.draw_without_rendering()
    assert min(axes.yaxis.label.get_window_extent().x0 for axes in figure.axes) >= 0


def test_settings_come_from_flags():
    def settings(study, *arguments):
        _, flags = command.parsers("name", study)
        return command.settings_of(study, flags.parse_args(arguments))

    noise = noise_schedules.Settings()
    assert settings(noise_schedules) == noise and noise.epochs == 40
    changed = settings(noise_schedules, "--minutes", "30", "--pictures", "100", "--seed", "3")
    assert changed == dataclasses.replace(
        noise, minutes=30.0, epochs=None, chain_pictures=100, seed=3
    )
    tiny = settings(noise_schedules, "--tiny", "--schedules", "cosine")
    assert tiny.dataset == "digits" and tiny.schedules == ["cosine"]
    assert settings(one_image, "--minutes", "26").minutes == (6.0, 20.0)
    assert settings(one_image, "--epochs", "300").minutes == ()


def test_caches_depend_on_settings_and_on_the_content_of_an_image(tmp_path):
    assert key({"epochs": 3}) != key({"epochs": 4})
    path, keys = tmp_path / "photo.png", []
    _, flags = command.parsers("one_image", one_image)
    for grey in (100, 100, 200):
        Image.fromarray(np.full((20, 20, 3), grey, "uint8")).save(path)
        keys.append(key(one_image.settings(flags.parse_args(["--image", str(path)]))))
    assert keys[0] == keys[1] != keys[2]


# A study from the command line, without its measurement ----------------------------------------


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A folder with the committed figures of a study; its measurement gives committed results."""
    committed = command.ROOT / "studies" / "results" / "latents"
    results = command.read(committed)["results"]

    def measure(settings, stages, data_dir):
        return stages.run("all", lambda folder: {**results, "data_dir": data_dir})

    monkeypatch.setattr(importlib.import_module("studies.latents.measure"), "measure", measure)
    monkeypatch.setattr(importlib.import_module("studies.latents.plots"), "plot", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(committed, tmp_path / "out")


def test_a_study_is_measured_once_and_reported_again(out):
    arguments = ["--epochs", "3", "--out", str(out), "--dataset", "dark flowers", "--data-dir"]
    assert command.main("latents", [*arguments, "here"]) == 0
    text = (out / "README.md").read_text()
    assert "\n    python -m studies.latents --epochs 3 --dataset 'dark flowers'\n" in text
    assert "| 10 of 10 classes at guidance 2 | **holds** |" in text and "| not decided |" in text
    assert "\n![The effect of guidance](guidance.png)\n\n*The effect of guidance*\n" in text
    assert "keras" in text and "toy" not in text and str(out.parent) not in text
    record = command.read(out)
    assert record["results"]["data_dir"] == "here" and record["settings"]["epochs"] == 3
    (out / "README.md").unlink()
    assert command.main("latents", ["--report", "--out", str(out)]) == 0
    assert (out / "README.md").read_text() == text
    for flags, data_dir in (([], "here"), (["--fresh"], "there")):
        assert command.main("latents", [*arguments, "there", *flags]) == 0
        assert command.read(out)["results"]["data_dir"] == data_dir


def test_a_page_without_its_figures_is_not_written(out, capsys):
    with pytest.raises(SystemExit):
        command.main("latents", ["--tiny"])
    assert "guidance.png does not exist" in capsys.readouterr().err
    results = out.parent / "runs" / "studies" / "latents-tiny" / "results"
    assert [path.name for path in results.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["--epochs", "0"], "--epochs"),
        (["--minutes", "nan"], "--minutes"),
        (["--seed", "-1"], "--seed"),
        (["--work", __file__], "--work"),
        (["--epochs", "1", "--minutes", "1"], "--minutes"),
        (["--pictures", "1"], "--pictures"),
        (["--report", "--out", "empty"], "--report"),  # there is no results.json
        (["--report", "--tiny", "--epochs", "3"], "--epochs"),
        (["--report", "--fresh"], "--fresh"),
    ],
)
def test_rejected_flags(out, arguments, flag, capsys, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        command.main("latents", ["--out", str(out), *arguments])
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"python -m studies.latents: error: {flag}: ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_ends_the_study(out, monkeypatch, capsys, signum):
    def measure(*_):
        raise Interrupted(signum)  # as `training.run` does

    monkeypatch.setattr(importlib.import_module("studies.latents.measure"), "measure", measure)
    assert command.main("latents", ["--out", str(out)]) == 128 + signum
    assert "resumes" in capsys.readouterr().err
