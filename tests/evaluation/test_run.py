"""evaluate.py on the export of the session, scored by a toy classifier."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from fixtures_input import contents, rejection
from PIL import Image

from keras_diffusion.cli import evaluate
from keras_diffusion.config.guidance import Guidance
from keras_diffusion.evaluation import classifier, real_images, sampler_settings
from keras_diffusion.evaluation import run as evaluation
from keras_diffusion.evaluation.real_images import RealImages
from keras_diffusion.evaluation.sampler_settings import (
    SamplerSetting,
    TimedGenerator,
    network_calls,
)
from keras_diffusion.saving import export_folder, loading


@pytest.fixture(scope="module")
def folder(export, tmp_path_factory):
    """A folder with the export, saved_models/tiny."""
    root = tmp_path_factory.mktemp("user")
    shutil.copytree(export[1], root / "saved_models/tiny")
    return root


@pytest.fixture(scope="module")
def record(folder):
    """scores.json of an evaluation in that folder."""
    arguments = "--num 40 --samplers ddpm,dpmpp_2m --steps 2,1 --batch-size 16 --out scores"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(classifier, "settings_for", lambda *_: classifier.TINY)
        assert evaluate.main(arguments.split()) == 0
    return json.loads((folder / "scores/scores.json").read_text())


@pytest.fixture(scope="module")
def loaded(export):
    return loading.load(export[1])


@pytest.fixture
def quick(folder, loaded, monkeypatch):
    """The folder is the current one; its export was loaded before."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(loading, "load", lambda path: loaded)
    return folder


# A whole evaluation -------------------------------------------------------------------------


def test_every_setting_is_scored_beside_the_baseline(record):
    cells = [(cell["sampler"], cell["num_steps"]) for cell in record["cells"]]
    assert cells == [("ddpm", 1), ("dpmpp_2m", 1), ("ddpm", 2), ("dpmpp_2m", 2)]
    # Guidance is on between 0.1 and 0.8: not at t = 1, where the first step begins.
    assert [cell["network_calls"] for cell in record["cells"]] == [1, 1, 3, 3]
    for cell in record["cells"]:
        assert cell["num_images"] == 40 and cell["fid"] > 3 * record["baseline"]["fid"] > 0
        assert 0 <= cell["accuracy"] < 0.5 and cell["seconds_per_image"] > 0
        assert cell["kid"] > 3 * cell["kid_error"] > 0
    assert record["baseline"]["num_images"] == 40 and record["left_out"] == []
    assert record["data"]["reference_images"] == 1438
    assert record["data"]["held_out_split"] == "20% of every class"
    assert len(record["extractor"]["hash"]) == 12 and record["extractor"]["resize"] == "none"
    assert record["guidance"] == {
        "guidance_scale": 2.0, "guidance_interval": [0.1, 0.8], "guidance_rescale": 0.0,
    }  # fmt: skip
    memorisation = record["memorisation"]
    assert [memorisation[name] for name in ("sampler", "num_steps", "images")] == [
        "dpmpp_2m",
        2,
        40,
    ]
    assert memorisation["spaces"]["pixels"]["closer"] < 0.5, "noise is far from everything"


def test_everything_is_written(folder, record):
    out = folder / "scores"
    names = {"scores.json", "scores.csv", "scores.md"}
    assert {path.name for path in out.iterdir()} == names | set(evaluation.FIGURES)
    for name in evaluation.FIGURES:
        with Image.open(out / name) as figure:
            assert figure.width > 400 and (out / name).stat().st_size < 300_000
    assert len((out / "scores.csv").read_text().splitlines()) == 5
    page = (out / "scores.md").read_text()
    assert "| real, held out |" in page and "data reference split: 80% of every class" in page
    assert f"extractor hash: {record['extractor']['hash']}" in page
    assert "model: saved_models/tiny, seed: 0, guidance scale: 2.0, " in page
    assert "by pixels, generated images are " in page
    card = (folder / "saved_models/tiny/README.md").read_text()
    assert "| real, held out |" in card and "by pixels, generated images are " in card
    assert "saved_models" not in card.partition("## Scores")[2], "the path is not that of others"


def test_the_card_of_a_shipped_model_is_not_changed(export, tmp_path, capsys):
    path = shutil.copytree(export[1], tmp_path / "tiny")
    export_folder.mark_shipped(path)
    before = contents(tmp_path)
    evaluation.update_card(path, {})
    assert contents(tmp_path) == before and "stays as it is" in capsys.readouterr().out


@pytest.mark.parametrize(("cells", "words"), [([], "no scores are"), ([1], "the scores so far")])
def test_an_interruption_says_what_is_written(quick, monkeypatch, capsys, cells, words):
    def interrupted(self, settings):
        self.record["cells"] += cells
        raise KeyboardInterrupt

    reference = SimpleNamespace(
        train=np.zeros((20, 4)), held_out=np.zeros((20, 4)), baseline=lambda num: {},
        extractor=SimpleNamespace(facts={}),
    )  # fmt: skip
    monkeypatch.setattr(evaluation.references, "prepare", lambda *_, **__: reference)
    monkeypatch.setattr(evaluation.Evaluation, "score_all", interrupted)
    assert evaluate.main(["--out", "other"]) == 130
    assert f"interrupted; {words}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [("--samplers cold", "--samplers: "), ("--folder pets", "--folder: pets has 2 classes")],
)
def test_what_does_not_fit_the_model_is_rejected(quick, arguments, message, capsys):
    for index in range(8):
        path = quick / f"pets/{'cats' if index % 2 else 'dogs'}/{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 30 * index, "uint8")).save(path)
    assert f"error: {message}" in rejection(evaluate.main, arguments.split(), capsys)[-1]


# Time ---------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    for module in (sampler_settings, evaluation):
        monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
    return clock


def test_tracing_is_not_measured(clock):
    def generate(num, *, sampler, num_steps, batch_size, **_):
        clock.now += 0.1 * num_steps * num + (50 if sampler not in traced else 0)
        traced.add(sampler)
        return np.zeros((num, 2, 2, 1), "uint8")

    traced = set()
    options = {"guidance": Guidance(), "seed": 0, "batch_size": 30}
    generator = TimedGenerator(SimpleNamespace(generate=generate), None, num=100, **options)
    setting = SamplerSetting("ddim", 4, 4)
    assert generator.seconds_for(setting) == pytest.approx(40)
    images, seconds = generator.generate(SamplerSetting("heun", 4, 8))
    assert len(images) == 100 and seconds == pytest.approx(40)
    assert generator.seconds_for(setting) == pytest.approx(20), "by the setting before"


def slow_evaluation(clock, out, minutes, seconds_of_extractor=0.0):
    """An evaluation whose settings take as many minutes as they have steps; the own one is 3."""

    def extract(images, progress=None):
        clock.now += seconds_of_extractor * len(images)
        return images, None

    def generate(setting, progress):
        clock.now += 60 * setting.num_steps
        return np.zeros((20, 8, 8, 1), "uint8"), 60 * setting.num_steps

    scores = iter({"num_images": 20, "fid": fid, "kid": 0.0, "kid_error": 0.0} for fid in (3, 1, 2))
    reference = SimpleNamespace(
        extractor=SimpleNamespace(batch=10), extract=extract, score=lambda *_: next(scores)
    )
    generator = SimpleNamespace(
        num=20, labels=None, model=SimpleNamespace(sampler="ddim", num_steps=3), generate=generate,
        seconds_for=lambda setting: 60 * setting.num_steps,
    )  # fmt: skip
    record = {"cells": [], "left_out": [], "baseline": {}, "image_shape": (8, 8, 1)}
    deadline = None if minutes is None else 60 * minutes
    return evaluation.Evaluation(generator, reference, record, out, deadline)


SETTINGS = [SamplerSetting("ddim", steps, steps) for steps in (1, 2, 3)]


@pytest.mark.parametrize(
    ("minutes", "steps", "best"), [(None, [1, 2, 3], 3), (6.5, [1, 2, 3], 3), (5.5, [1, 2], 2)]
)
def test_a_time_limit_leaves_out_whole_settings(tmp_path, clock, minutes, steps, best):
    (tmp_path / "samplers.png").write_text("of an earlier evaluation")
    each = slow_evaluation(clock, tmp_path, minutes)
    each.score_all(SETTINGS)
    assert not (tmp_path / "samplers.png").exists()
    assert [cell["num_steps"] for cell in each.record["cells"]] == steps
    assert each.record["left_out"] == [f"{n} steps of ddim" for n in (1, 2, 3) if n not in steps]
    assert each.best.setting.num_steps == best, "the model's own, or the best"
    assert len(json.loads((tmp_path / "scores.json").read_text())["cells"]) == len(steps)


@pytest.mark.parametrize(
    ("minutes", "began", "extractor", "message"),
    [(0.5, 0.0, 0.0, "take about 60 s"), (2.2, 0.0, 3.0, "take about 2 min"),
     (0.5, 31.0, 0.0, "over before the first image")],
)  # fmt: skip
def test_too_little_time_for_one_setting(tmp_path, clock, minutes, began, extractor, message):
    each = slow_evaluation(clock, tmp_path, minutes, extractor)
    clock.now = began
    with pytest.raises(ValueError, match=f"^--minutes: .*{message}"):
        each.score_all(SETTINGS[:1])
    assert not list(tmp_path.iterdir())


def test_network_calls():
    guided = Guidance(2.0, (0.1, 0.8))
    for sampler, calls, doubled in (("ddim", 20, 8), ("dpmpp_2m", 20, 8), ("heun", 40, 16)):
        assert network_calls(sampler, "cosine", 20) == calls
        assert network_calls(sampler, "cosine", 20, guided) == calls + doubled
        assert network_calls(sampler, "cosine", 20, Guidance(1.0, (0.1, 0.8))) == calls


# Real images --------------------------------------------------------------------------------


def test_labels_are_distributed_as_in_the_training_split():
    real = RealImages(None, {"train_labels": np.repeat([0, 1], [900, 100])}, False)
    labels = real.labels(2000, seed=0)
    assert labels.dtype == "int32" and 0.07 < labels.mean() < 0.13
    np.testing.assert_array_equal(labels, real.labels(2000, seed=0))


@pytest.mark.parametrize(
    ("trained_with", "options", "expected"),
    [
        ({"dataset": "mnist", "limit": 9, "epochs": 3}, {}, {"dataset": "mnist", "limit": 9}),
        ({"dataset": "mnist"}, {"data_dir": "d"}, {"dataset": "mnist", "data_dir": "d"}),
        ({"folder": "old", "limit": 5}, {"dataset": "cifar10"}, {"dataset": "cifar10"}),
        ({"folder": "old", "limit": 5}, {"folder": "new"}, {"folder": "new", "dataset": "digits"}),
        ({"folder": "old", "dataset": "digits", "limit": 5}, {"folder": "moved/old/"},
         {"folder": "moved/old/", "dataset": "digits", "limit": 5}),
        ({"dataset": "mnist", "train_split": "train[:50%]"}, {"dataset": "mnist"},
         {"dataset": "mnist", "train_split": "train[:50%]"}),
        ({}, {"dataset": "mnist"}, {"dataset": "mnist"}),
    ],
)  # fmt: skip
def test_options_of_the_data(trained_with, options, expected):
    assert real_images.data_options(trained_with, options) == expected


@pytest.mark.parametrize("trained_with", [{}, {"dataset": "one_image", "image": "flower"}])
def test_training_data_that_is_unknown_or_one_image(trained_with):
    with pytest.raises(ValueError, match="--dataset: "):
        real_images.data_options(trained_with, {"data_dir": "d"})
