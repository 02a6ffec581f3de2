"""evaluate.py as a user meets it: an export of digits, scored by a toy classifier."""

import dataclasses
import json
import pathlib
import re
import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from fixtures_input import file, refusal
from PIL import Image

from keras_diffusion import DiffusionModel, export_saved_model
from keras_diffusion.cli import evaluate
from keras_diffusion.config.options import Config
from keras_diffusion.evaluation import cells as artist
from keras_diffusion.evaluation import classifier, extractors
from keras_diffusion.evaluation import real_images as real_pictures
from keras_diffusion.evaluation import run as evaluating
from keras_diffusion.networks.layers import LabelEmbedding
from keras_diffusion.sampling.request import GUIDANCE
from keras_diffusion.saving import checkpoints, loading

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = dataclasses.replace(classifier.SETTINGS["mnist"], **classifier.TINY)


def network():
    """A labelled network that is quickly traced."""
    shapes = {"x": (8, 8, 1), "logsnr": (), "label": ()}
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    shift = keras.layers.Reshape((1, 1, 4))(LabelEmbedding(10, 4)(inputs["label"]))
    h = keras.layers.Conv2D(4, 3, padding="same")(inputs["x"])
    outputs = keras.layers.Conv2D(1, 3, padding="same")(keras.layers.Add()([h, shift]))
    return keras.Model(inputs, outputs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with an export, saved_models/tiny, and a run, runs/tiny, of one model."""
    root = tmp_path_factory.mktemp("user")
    keras.utils.set_random_seed(0)
    model = DiffusionModel(network())
    config = dataclasses.asdict(Config(num_steps=2, sampler="ddim", guidance_interval=(0.1, 0.8)))
    names = ("sampler", "num_steps", "guidance_scale", "guidance_interval")
    export_saved_model(
        model,
        root / "saved_models/tiny",
        **{name: config[name] for name in names},
        class_names=[str(i) for i in range(10)],
        training={"config": config},
    )
    checkpoints.save(model, checkpoints.Progress(), root / "runs/tiny/checkpoints", 1)
    (root / "runs/tiny/checkpoints/step-00000002.keras").write_text("cut off")
    (root / "runs/tiny/config.json").write_text(json.dumps({"config": config}))
    return root


def run(folder, arguments):
    """Calls evaluate.py in a folder; returns scores.json."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(classifier, "settings_for", lambda *_: TINY)
        assert evaluate.main(arguments.split()) == 0
    out = re.search(r"--out (\S+)", arguments)
    out = folder / (out[1] if out else "evaluations/tiny")
    return json.loads((out / "scores.json").read_text())


@pytest.fixture(scope="module")
def record(folder):
    return run(folder, "--num 40 --samplers heun,ddim --steps 2,1 --batch-size 16")


def test_the_extractors_have_the_names_of_the_package():
    assert evaluate.EXTRACTORS == extractors.NAMES


def test_every_cell_is_scored_beside_the_floor(folder, record):
    cells = [(cell["sampler"], cell["num_steps"]) for cell in record["cells"]]
    assert cells == [("ddim", 1), ("heun", 1), ("ddim", 2), ("heun", 2)]
    # Guided between 0.1 and 0.8: DDIM is at t = 1, then at 0.43; Heun at both ends of a step.
    assert [cell["network_calls"] for cell in record["cells"]] == [1, 2, 3, 6]
    for cell in record["cells"]:
        assert cell["num_images"] == 40 and cell["fid"] > 10 * record["floor"]["fid"] > 0
        assert 0 <= cell["accuracy"] < 0.5 and cell["seconds_per_image"] > 0
        assert cell["kid"] > 3 * cell["kid_error"] > 0
    assert record["floor"]["num_images"] == 40
    assert record["data"]["reference_images"] == 1438
    assert record["data"]["held_out_split"] == "20% of every class"
    assert len(record["extractor"]["hash"]) == 12 and record["extractor"]["resize"] == "none"
    assert record["left_out"] == []
    guidance = {"guidance_scale": 2.0, "guidance_interval": [0.1, 0.8], "guidance_rescale": 0.0}
    assert record["guidance"] == guidance


def test_all_is_written_down(folder, record):
    out = folder / "evaluations/tiny"
    names = {"scores.json", "scores.csv", "scores.md"}
    pictures = {"samplers.png", "samples.png", "memorisation.png", "closest.png"}
    assert {path.name for path in out.iterdir()} == names | pictures
    for name in pictures:
        with Image.open(out / name) as picture:
            assert picture.width > 400
        assert (out / name).stat().st_size < 300_000
    assert len((out / "scores.csv").read_text().splitlines()) == 5
    told = (out / "scores.md").read_text()
    assert "| real, held out |" in told and "data reference split: 80% of every class" in told
    assert f"extractor hash: {record['extractor']['hash']}" in told
    assert "model: saved_models/tiny, seed: 0, guidance scale: 2.0, " in told
    assert "by pixels, drawn pictures are " in told
    found = record["memorisation"]
    assert (found["sampler"], found["num_steps"], found["images"]) == ("ddim", 2, 40)
    assert found["spaces"]["pixels"]["closer"] < 0.5, "noise is far from everything"


def test_a_run_is_drawn_from_as_its_export_is(folder, record, capsys):
    for name in ("samplers.png", "mine.png"):
        file(folder / "other" / name, "of before")()
    again = run(folder, "--model runs/tiny --num 40 --out other --batch-size 7")
    told = capsys.readouterr().out
    [cell] = again["cells"]
    [same] = [
        each for each in record["cells"] if (each["sampler"], each["num_steps"]) == ("ddim", 2)
    ]
    assert "epoch" not in told, "the classifier is trained once"
    assert "model: runs/tiny\n" in told and "skipping runs/tiny/checkpoints/step-00000002" in told
    for name in ("fid", "kid", "network_calls"):
        assert cell[name] == pytest.approx(same[name], rel=1e-2), name
    assert re.search(r"ddim +2 +3 +\S+ +40 ", told) and "real, held out" in told
    assert not (folder / "other/samplers.png").exists(), "one cell is no curve"
    assert (folder / "other/mine.png").read_text() == "of before"


def test_checkpoints_of_a_later_version_are_said_to_be(folder, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 0)
    with pytest.raises(ValueError, match="step-00000001.keras: was written by a later version"):
        loading.load(folder / "runs/tiny")


def test_labels_come_in_the_shares_of_the_training_pictures():
    labels = np.repeat([0, 1], [900, 100])
    pictures = real_pictures.Real(None, {"train_labels": labels}, False)
    drawn = pictures.labels(2000, seed=0)
    assert drawn.dtype == "int32" and 0.07 < drawn.mean() < 0.13
    np.testing.assert_array_equal(drawn, pictures.labels(2000, seed=0))


def test_time_is_measured_without_tracing_and_told_before(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(artist.time, "monotonic", lambda: clock.now)

    def draw(sampler, rows, *, num_steps, labels, seed, guidance):
        clock.now += 0.1 * num_steps * len(rows) + (50 if sampler not in traced else 0)
        traced.add(sampler)
        return np.zeros((len(rows), 2, 2, 1), "uint8")

    traced = set()
    model = SimpleNamespace(draw=draw)
    drawing = artist.Artist(model, None, num=100, guidance={}, seed=0, batch_size=30)
    cell = artist.Cell("ddim", 4, 4)
    assert drawing.seconds_for(cell) == pytest.approx(40)
    images, seconds = drawing.draw(artist.Cell("heun", 4, 8), lambda done: None)
    assert len(images) == 100 and seconds == pytest.approx(40)
    assert drawing.seconds_for(cell) == pytest.approx(20), "by the cell before"


class Slow:
    """An artist whose cells take as many minutes as they have steps."""

    num, labels = 20, None
    model = SimpleNamespace(defaults={"sampler": "ddim", "num_steps": 3})

    def seconds_for(self, cell):
        return 60 * cell.num_steps

    def draw(self, cell, progress):
        self.clock.now += 60 * cell.num_steps
        return np.zeros((20, 8, 8, 1), "uint8"), 60 * cell.num_steps


@pytest.mark.parametrize(("minutes", "done"), [(None, [1, 2, 3]), (6.5, [1, 2, 3]), (5.5, [1, 2])])
def test_minutes_leave_out_whole_cells(tmp_path, monkeypatch, minutes, done):
    Slow.clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(evaluating.time, "monotonic", lambda: Slow.clock.now)
    judge = SimpleNamespace(
        look=lambda images, progress: (images, None),
        score=lambda *_: {"num_images": 20, "fid": 1.0, "kid": 0.0, "kid_error": 0.0},
    )
    cells = [artist.Cell("ddim", steps, steps) for steps in (1, 2, 3)]
    record = {"cells": [], "left_out": [], "floor": {"num_images": 20}}
    end = minutes and 60 * minutes
    kept = evaluating._score(cells, Slow(), judge, end, record, tmp_path)
    assert [cell["num_steps"] for cell in record["cells"]] == done
    assert record["left_out"] == [f"{n} steps of ddim" for n in (1, 2, 3) if n not in done]
    assert kept["row"]["num_steps"] == (3 if 3 in done else 1), "the model's own, or the best"
    assert len(json.loads((tmp_path / "scores.json").read_text())["cells"]) == len(done)


def test_minutes_for_not_even_one_cell_are_refused(tmp_path, monkeypatch):
    Slow.clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(evaluating.time, "monotonic", lambda: Slow.clock.now)
    with pytest.raises(ValueError, match="--minutes: 1 steps of ddim alone would take about 60 s"):
        evaluating._score([artist.Cell("ddim", 1, 1)], Slow(), None, 30, {}, tmp_path)


def test_what_the_extractor_takes_is_part_of_the_first_cell(tmp_path, monkeypatch):
    Slow.clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(evaluating.time, "monotonic", lambda: Slow.clock.now)
    with pytest.raises(ValueError, match="--minutes: 1 steps of ddim alone would take about 2 min"):
        evaluating._score([artist.Cell("ddim", 1, 1)], Slow(), None, 110, {}, tmp_path, 60.0)


def test_minutes_that_the_real_pictures_took_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluating.time, "monotonic", lambda: 31.0)
    with pytest.raises(ValueError, match="--minutes: over before the first picture"):
        evaluating._score([artist.Cell("ddim", 1, 1)], None, None, 30, {}, tmp_path)


@pytest.mark.parametrize(("cells", "told"), [([], "no scores are"), ([1], "the scores so far are")])
def test_an_interruption_says_what_is_written(folder, monkeypatch, capsys, cells, told):
    monkeypatch.chdir(folder)
    extractor = SimpleNamespace(facts={})
    seen = np.zeros((20, 4))
    judge = SimpleNamespace(train=seen, held_out=seen, extractor=extractor, floor=lambda num: {})
    monkeypatch.setattr(evaluating, "_judge", lambda *_: judge)

    def interrupted(_cells, _artist, _judge, _end, record, *_):
        record["cells"] += cells
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluating, "_score", interrupted)
    assert evaluate.main(["--out", "other"]) == 130
    assert f"interrupted; {told}" in capsys.readouterr().err


def test_an_older_export_is_asked_for_its_own_samplers_only(folder, tmp_path, monkeypatch, capsys):
    shutil.copytree(folder / "saved_models/tiny", tmp_path / "old")
    path = tmp_path / "old/assets.extra/config.json"
    config = json.loads(path.read_text())
    config["samplers"].remove("cold")
    path.write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    errors = refusal(evaluate.main, ["--model", "old", "--samplers", "cold"], capsys)
    assert "--samplers: the model has no 'cold'. Choose from: ddim, ddpm, " in errors[-1]


def test_network_calls_are_counted():
    model = loading.Trained("", (8, 8, 1), 10, (), "cosine", ("ddim",), {}, {}, GUIDANCE, None)
    guided = {"guidance_scale": 2.0, "guidance_interval": (0.1, 0.8)}
    for sampler, calls, doubled in (("ddim", 20, 8), ("dpmpp_2m", 20, 8), ("heun", 40, 16)):
        assert model.network_calls(sampler, 20) == calls
        assert model.network_calls(sampler, 20, guided) == calls + doubled
        assert model.network_calls(sampler, 20, {**guided, "guidance_scale": 1.0}) == calls
    older = dataclasses.replace(model, guidance=GUIDANCE[:1])
    assert older.network_calls("ddim", 20, guided) == 40


def test_other_data_than_the_models_is_refused(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for index in range(8):
        path = folder / f"pets/{'cats' if index % 2 else 'dogs'}/{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 30 * index, "uint8")).save(path)
    errors = refusal(evaluate.main, ["--model", "runs/tiny", "--folder", "pets"], capsys)
    assert "--dataset: pets has 2 classes, the model has 10; give the data" in errors[-1]


@pytest.mark.parametrize(
    ("config", "given", "wanted"),
    [
        ({"dataset": "mnist", "limit": 9, "epochs": 3}, {}, {"dataset": "mnist", "limit": 9}),
        ({"dataset": "mnist"}, {"data_dir": "d"}, {"dataset": "mnist", "data_dir": "d"}),
        ({"folder": "old", "dataset": "digits"}, {"folder": "new"}, {"folder": "new"}),
        ({"folder": "old", "limit": 5}, {"dataset": "cifar10"}, {"dataset": "cifar10"}),
        ({"folder": "old", "limit": 5}, {"folder": "new"}, {"folder": "new"}),
        ({"folder": "old", "dataset": "digits", "limit": 5}, {"folder": "moved/old/"},
         {"folder": "moved/old/", "limit": 5}),
        ({"dataset": "mnist", "train_split": "train[:50%]", "limit": 5}, {"dataset": "mnist"},
         {"dataset": "mnist", "train_split": "train[:50%]", "limit": 5}),
        ({}, {"dataset": "mnist"}, {"dataset": "mnist"}),
    ],
)  # fmt: skip
def test_where_the_real_pictures_are(config, given, wanted):
    found = real_pictures._options(SimpleNamespace(config=config), given)
    assert {name: found.get(name) for name in wanted} == wanted
    assert "epochs" not in found and ("limit" in found) == ("limit" in wanted)
    assert not ("folder" in wanted and found["dataset"] not in ("digits",))


def test_a_model_of_unknown_data_needs_to_be_told(folder):
    with pytest.raises(ValueError, match="--dataset: the model does not say what"):
        real_pictures._options(SimpleNamespace(config={}), {"data_dir": "d"})
    of_one_picture = SimpleNamespace(config={"dataset": "one_image", "image": "flower"})
    with pytest.raises(ValueError, match="--dataset: the model was trained on one picture"):
        real_pictures._options(of_one_picture, {})


def test_guidance_is_for_labelled_models():
    unlabelled = loading.Trained("", (8, 8, 1), 0, (), "cosine", ("ddim",), {}, {}, (), None)
    assert evaluating._guidance(unlabelled, {"guidance_scale": None}) == {}
    with pytest.raises(ValueError, match="--guidance-scale: this model was trained without labels"):
        evaluating._guidance(unlabelled, {"guidance_scale": 2.0})
    defaults = {"guidance_scale": 1.0, "guidance_interval": (0, 1), "guidance_rescale": 0.0}
    labelled = dataclasses.replace(
        unlabelled, num_classes=2, defaults=defaults, guidance=tuple(defaults)
    )
    assert evaluating._guidance(labelled, {}) == defaults
    with pytest.raises(ValueError, match="--guidance-rescale: changes nothing at scale 1"):
        evaluating._guidance(labelled, {"guidance_rescale": 0.5})
    guided = {"guidance_rescale": 0.5, "guidance_scale": 2.0}
    assert evaluating._guidance(labelled, guided) == {**defaults, **guided}
