"""The MNIST benchmark, at toy size; its figures mean nothing here."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

from keras_diffusion.config.options import Config
from keras_diffusion.diffusion.time_grids import uniform_logsnr
from studies import command
from studies import mnist_benchmark as study
from studies.figures import MOST_BYTES
from studies.kept import Kept
from studies.mnist_benchmark import loops, report, training

# Keras 3.15 with numpy 2, in model.save; nothing that we could do.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder of a toy run."""
    work = tmp_path_factory.mktemp("work")
    policy = keras.config.dtype_policy()  # which the study sets
    assert command.main("mnist_benchmark", ["--tiny", "--work", str(work)]) == 0
    keras.config.set_dtype_policy(policy)
    return work / "mnist_benchmark-tiny"


def test_the_page_shows_every_figure(ran):
    text = (ran / "results" / "README.md").read_text()
    pictures = [path for path in (ran / "results").iterdir() if path.suffix in (".png", ".gif")]
    assert len(pictures) == 6
    for picture in pictures:
        assert f"({picture.name})" in text and 1000 < picture.stat().st_size <= MOST_BYTES
    with Image.open(ran / "results" / "evolving.gif") as moving:
        assert moving.n_frames == 2
    assert (
        text.count("| **holds** |")
        + text.count("| **does not hold** |")
        + text.count("| not decided |")
        == 6
    )
    assert str(ran) not in text


def test_both_are_trained_for_the_same_time_and_watched(ran):
    results = json.loads((ran / "results" / "results.json").read_text())["results"]
    for name in study.NAMES:
        rows = results["trainings"][name]["rows"]
        seconds = [row["seconds"] for row in rows]
        assert seconds == sorted(seconds) and seconds[-1] >= 60 * 0.02
        steps = [row["steps"] for row in rows]
        assert steps == sorted(steps) and len(results["scores"][name]["curve"]) == 2
        [logs] = ran.glob(f"[0-9a-f]*/logs/{name}")
        assert list(logs.glob("samples/events*")) and list(logs.glob("train/events*"))
        assert sorted(path.name for path in logs.glob("grids/*")) == [
            "epoch-0001.png",
            "epoch-0002.png",
        ]


def test_a_model_is_kept_until_the_next_one_is(tmp_path, monkeypatch):
    found = iter([{"rows": []}, {"rows": object()}, {"rows": []}])  # the second is not JSON

    def train(self, part, folder):
        (folder / training.MODEL).write_text("weights")
        return next(found)

    monkeypatch.setattr(training.Training, "_train", train)
    monkeypatch.setattr(training.build, "load_data", lambda config: None)
    kept = Kept(tmp_path / "study" / "key")
    each = training.Training("default", study.Settings(**study.TINY), kept, None, 1.0)
    models = [kept.path(f"default-part{part}", training.MODEL) for part in (1, 2)]
    with pytest.raises(TypeError):
        each.run()
    assert [model.exists() for model in models] == [True, False]
    each.run()
    assert [model.exists() for model in models] == [False, True]


@pytest.fixture
def clock(monkeypatch):
    """A `Clock` of ten seconds on a model of nothing, and how to let time pass."""
    now = [100.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])

    def pass_by(seconds):
        now[0] += seconds

    def make(**options):
        options = {"minutes": 1.0, "until": 10.0, **options}
        made = training.Clock(Config(learning_rate=0.5, warmup=0.0), {}, **options)
        made.set_model(SimpleNamespace(stop_training=False))
        made.on_train_begin()
        return made

    return make, pass_by


def test_the_clock_counts_neither_tracing_nor_validation(clock):
    make, pass_by = clock
    made = make()
    pass_by(50)  # tracing
    made.on_train_batch_end(0)
    pass_by(9)
    made.on_train_batch_end(1)
    assert made.seconds == 9 and not made.model.stop_training
    made.on_test_begin()
    pass_by(30)
    made.on_test_end()
    made.on_epoch_end(0, {"loss": 2.0, "val_loss": 3.0})
    pass_by(1)
    made.on_train_batch_end(2)
    assert made.model.stop_training
    assert made.rows == [{"steps": 2, "seconds": 9.0, "loss": 2.0, "val_loss": 3.0}]


def test_the_clock_may_count_steps_instead_and_goes_on(clock):
    make, pass_by = clock
    made = make(steps=2, until=float("inf"), minutes=float("inf"), constant=True)
    made.on_train_batch_end(0)
    pass_by(1000)
    assert made.factor(made.progress) == 1.0 and not made.model.stop_training
    made.on_train_batch_end(1)
    assert made.model.stop_training
    row = {"steps": 70, "seconds": 31.0}
    made = training.Clock(Config(), row, minutes=1.0, until=60.0)
    assert (made.steps, made.seconds) == (70, 31.0)
    assert made.factor(0.5) < 0.6  # a half cosine


def test_configurations_are_the_published_one_and_the_preset():
    settings = study.Settings()
    published, default = (training.configuration(name, settings, "there") for name in study.NAMES)
    assert (published.widths, published.learning_rate) == ((32, 64, 160), 4e-4)
    assert (published.schedule, published.num_steps) == ("linear", 250)
    assert published.unconditional and not default.unconditional
    assert default.prediction_type == "v" and default.data_dir == "there"


def test_three_ways_draw_the_same_pictures():
    config = Config(**{**study.PUBLISHED, **study.TOY})
    model = training.build.model(config, (8, 8, 1), 0)
    rng = np.random.default_rng(0)
    weights = [w + 0.1 * rng.normal(size=w.shape) for w in model.ema_network.get_weights()]
    model.ema_network.set_weights(weights)
    times = uniform_logsnr(model.noise_schedule, 4)
    compiled, *others = (draw(times).numpy() for draw in loops.ways(model, 3, seed=1).values())
    assert compiled.shape == (3, 8, 8, 1) and np.ptp(compiled) > 0.5
    for other in others:
        np.testing.assert_allclose(other, compiled, atol=1e-4)


# What is said of it ---------------------------------------------------------------------------


def made_up(ours=(2.0, 1.0), theirs=(6.0, 3.0), plain=1.0, last=40.0):
    """Results: distances after both parts, and seconds of sampling."""
    scores = {
        name: {
            "curve": [{"distance": each} for each in distances],
            "final": {"distance": distances[-1], "error": 0.1},
        }
        for name, distances in (("default", ours), ("published", theirs))
    }
    return {
        "scores": scores,
        "plan": {"minutes": 10.0, "parts": 2, "curve_steps": 20},
        "trainings": {"default": {"sample_seconds": 0.1}, "published": {"sample_seconds": 1.0}},
        "loops": {
            "compiled": {"1": 0.04, "10": 0.4, "1000": last},
            "calls": {"1": 0.05, "10": 0.5, "1000": 50.0},
            "plain": {"1": 0.1, "10": plain},
        },
    }


@pytest.mark.parametrize(
    ("options", "number", "verdict"),
    [
        ({}, 0, True),
        ({"ours": (2.0, 2.75)}, 0, None),  # sqrt(2) 0.2 is chance
        ({"ours": (2.0, 3.5)}, 0, False),
        ({"ours": (3.1, 1.0)}, 1, False),
        ({"last": 60.0}, 3, False),
        ({"plain": 0.41}, 5, False),
    ],
)
def test_verdicts_follow_the_figures(options, number, verdict):
    found = [claim.holds for claim in report.claims(made_up(**options))]
    expected = [True] * 6
    expected[number] = verdict
    if "last" in options:  # calls are then no slower than the compiled loop
        expected[4] = False
    assert found == expected


def test_classes_of_what_is_scored_come_as_often_as_in_the_data(tmp_path):
    settings = study.Settings(**study.TINY)
    published, default = (
        training.Training(name, settings, Kept(tmp_path / "a" / "b"), None, 0.01).scored()
        for name in study.NAMES
    )
    assert "labels" not in published and published["num_images"] == settings.pictures
    counts = np.bincount(default["labels"], minlength=10)
    assert counts.sum() == settings.pictures and counts.std() > 1  # not ten of each
