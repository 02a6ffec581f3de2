"""The study of noise schedules, at toy size; its figures mean nothing here."""

import copy
import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion.diffusion.schedules import SCHEDULES
from keras_diffusion.runtime import precision
from studies import command, scoring
from studies import noise_schedules as study
from studies.figures import MOST_BYTES
from studies.kept import Kept
from studies.noise_schedules import chain, report, training

ONE = ["--tiny", "--schedules", "cosine"]
# Keras 3.15 with numpy 2, in model.save; nothing that we could do.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.shuffle=True. was passed:UserWarning"),
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder of a toy run's results, and what is kept of it."""
    work = tmp_path_factory.mktemp("work")
    policy = keras.config.dtype_policy()  # which the study sets
    assert command.main("noise_schedules", [*ONE, "--work", str(work)]) == 0
    keras.config.set_dtype_policy(policy)
    [settings] = (work / "noise_schedules-tiny").glob("[0-9a-f]*")
    return work / "noise_schedules-tiny" / "results", Kept(settings)


def test_the_page_shows_every_figure(ran):
    out, _ = ran
    text = (out / "README.md").read_text()
    pictures = sorted(out.glob("*.png"))
    assert len(pictures) == 8
    for picture in pictures:
        assert f"({picture.name})" in text and 1000 < picture.stat().st_size <= MOST_BYTES
    assert "not trained: linear, constant, inverse_linear" in text and str(out.parent) not in text
    results = json.loads((out / "results.json").read_text())["results"]
    assert len(results["trainings"]["cosine"]["loss"]) == 2
    assert results["plan"]["epochs"] == 2


def test_a_training_goes_on_exactly_where_it_was(ran, tmp_path):
    out, kept = ran
    keras.config.set_dtype_policy(precision.policy("auto")[0])
    settings = study.settings(SimpleNamespace(**flags(tiny=True, schedules=["cosine"])))
    data = training.Data(scoring.real_images("digits"), settings)
    again = Kept(tmp_path / "study" / "key")
    for part in (1, 2):  # each in a process of its own, so to speak
        found = training.Training("cosine", data, settings, again, steps=11).part(part)
    results = json.loads((out / "results.json").read_text())["results"]["trainings"]["cosine"]
    for name in ("loss", "val_loss"):
        assert found[name] == results[name][1:]
    for stages in (kept, again):
        assert stages.path("cosine-part2", training.MODEL).exists()
        assert not stages.path("cosine-part1", training.MODEL).exists()
    np.testing.assert_array_equal(
        kept.array("cosine-part2", "pictures.npy"), again.array("cosine-part2", "pictures.npy")
    )


def test_a_model_is_kept_until_the_next_one_is(tmp_path, monkeypatch):
    found = iter([{}, {"loss": object()}, {}])  # the second cannot be written down

    def train(self, part, folder):
        (folder / training.MODEL).write_text("weights")
        return next(found)

    monkeypatch.setattr(training.Training, "_train", train)
    kept = Kept(tmp_path / "study" / "key")
    each = training.Training("cosine", None, None, kept, steps=1)
    models = [kept.path(f"cosine-part{part}", training.MODEL) for part in (1, 2)]
    each.part(1)
    with pytest.raises(TypeError):
        each.part(2)
    assert [model.exists() for model in models] == [True, False]
    each.part(2)
    assert [model.exists() for model in models] == [False, True]


def flags(**given):
    names = ("tiny", "schedules", "pictures", "epochs", "minutes")
    return {"seed": 0, **dict.fromkeys(names), **given}


def test_settings_are_those_asked_for():
    made = study.settings(SimpleNamespace(**flags(minutes=30.0, pictures=100)))
    assert (made.minutes, made.epochs, made.chain_pictures) == (30, None, 100)
    assert made.schedules == study.SCHEDULES and set(made.schedules) == set(SCHEDULES)
    assert study.settings(SimpleNamespace(**flags())).epochs == 40


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("--pictures 3", "--pictures: '3' is not a number from 4 to 10000"),
        ("--schedules cubic", "--schedules: invalid choice: 'cubic'"),
    ],
)
def test_bad_flags_are_one_line(wrong, told, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main("noise_schedules", wrong.split())
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert told in line and len(line) < 200


def test_a_pace_is_measured_by_training():
    settings = study.settings(SimpleNamespace(**flags(tiny=True, schedules=["cosine"])))
    data = training.Data(scoring.real_images("digits"), settings)
    pace = training._pace(data, settings)
    assert 0 < pace["step"] < 60 and 0 < pace["picture"] < 10


def test_minutes_become_the_same_steps_for_every_schedule():
    pace = SimpleNamespace(stage=lambda name, make: {"step": 0.3, "picture": 0.001})
    data = SimpleNamespace(steps_per_epoch=468)
    steps = [
        training.steps_of_a_round(data, study.Settings(minutes=m, epochs=None), pace)
        for m in (1, 30, 60)
    ]
    assert steps[0] >= 1 and steps[0] < steps[1] < steps[2]
    assert 0.3 * 5 * 40 * steps[2] < 60 * 60
    assert training.steps_of_a_round(data, study.Settings(), pace) == 468  # a round is an epoch


def standard_gaussian():
    """A model of pixels that are N(0, 1): the best eps is noise_rate x."""

    def network(inputs, training=False):
        return tf.sqrt(tf.sigmoid(-inputs["logsnr"]))[:, None, None, None] * inputs["x"]

    return SimpleNamespace(
        noise_schedule=SCHEDULES["linear"],
        image_shape=(8, 8, 1),
        prediction_type="eps",
        graphs=SimpleNamespace(network=lambda: network),
        codec=SimpleNamespace(decode=lambda x: x),
    )


def test_the_chain_adds_beta(monkeypatch):
    """For N(0, 1) the variance beta is exact in a chain of any length (Ho et al., section 3.2)."""
    monkeypatch.setattr(chain, "BATCH", 48)
    images, frames = chain.draw(standard_gaussian(), 64, num_steps=5, seed=0, num_frames=5)
    assert images.shape == (64, 8, 8, 1) and frames.shape == (6, 48, 8, 8, 1)
    np.testing.assert_array_equal(frames[-1], images[:48])
    assert frames[:-1].std(axis=(1, 2, 3, 4)) == pytest.approx(1.0, abs=0.03)
    again, _ = chain.draw(standard_gaussian(), 64, num_steps=5, seed=0, num_frames=1)
    np.testing.assert_array_equal(images, again)


# What is said of it ---------------------------------------------------------------------------


def published():
    """Results in which all that was published is so."""
    firsts = {"cosine": 906, "linear": 600, "constant": 350, "inverse_linear": 200}
    losses = {"cosine": 0.05, "linear": 0.04, "constant": 0.03, "inverse_linear": 0.02}
    distances = {"cosine": 1.0, "linear": 2.0, "constant": 3.0, "inverse_linear": 4.0}
    frames = {"cosine": 1.0, "linear": 1.5, "constant": 20.0, "inverse_linear": 30.0}
    score = {
        name: {
            "distance": distances[name], "error": 0.2, "frame": frames[name], "images": 128
        }
        for name in firsts
    }  # fmt: skip
    return {
        "plan": {"schedules": list(firsts)},
        "normality": {
            name: {"first": step, "study_firsts": [step - 9, step, step + 3]}
            for name, step in firsts.items()
        },
        "trainings": {name: {"final_val_loss": loss} for name, loss in losses.items()},
        "scores": {
            name: {"chain": dict(each), "final": dict(each)} for name, each in score.items()
        },
        "real_frame": 0.1,
        "classifier": {"feature_width": 64},
    }


def verdicts(results):
    return [claim.holds for claim in report.claims(results)]


def changed(value, *keys):
    results = copy.deepcopy(published())
    place = results
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return results


@pytest.mark.parametrize(
    ("value", "keys", "number", "verdict"),
    [
        ([930, 940, 950], ("normality", "cosine", "study_firsts"), 0, False),
        ([None, 800, None], ("normality", "linear", "study_firsts"), 1, False),
        (None, ("normality", "constant", "first"), 2, False),
        (0.9, ("scores", "linear", "chain", "distance"), 3, None),
        (1.5, ("scores", "linear", "chain", "distance"), 3, None),  # 0.5; sqrt(2) 0.4 is chance
        (127, ("scores", "cosine", "chain", "images"), 3, None),
        (0.4, ("scores", "linear", "chain", "distance"), 3, False),
        (0.4, ("scores", "constant", "final", "distance"), 4, False),
        (2.0, ("scores", "constant", "chain", "frame"), 5, False),
        (11.0, ("scores", "linear", "final", "frame"), 6, False),
        (0.06, ("trainings", "constant", "final_val_loss"), 7, False),
    ],
)
def test_verdicts_follow_the_figures(value, keys, number, verdict):
    assert verdicts(published()) == [True] * 8
    expected = [True] * 8
    expected[number] = verdict
    assert verdicts(changed(value, *keys)) == expected


def test_a_step_that_never_came_is_called_never():
    results = changed([None, 800, None], "normality", "linear", "study_firsts")
    results["normality"]["cosine"]["study_firsts"] = [906, 1000, None]
    results["normality"]["constant"]["first"] = None
    measured = [claim.measured for claim in report.claims(results)]
    assert measured[0] == "step 1,000 (median of 3 tests, 906 - never)"
    assert measured[1].startswith("linear never, constant 350")
    assert "constant never" in measured[2]


def test_what_was_not_trained_is_not_decided():
    results = published()
    results["plan"]["schedules"].remove("linear")
    [claim] = report.claims(results)
    assert claim.holds is None and "linear" in claim.measured


def test_noise_in_the_frame_is_measured_in_grey_levels():
    images = np.zeros((3, 28, 28, 1), "uint8")
    images[:, 5:20, 5:20] = 255
    assert scoring.frame_noise(images) == 0
    images[:, :2], images[:, -2:], images[:, :, :2], images[:, :, -2:] = 10, 10, 10, 10
    assert scoring.frame_noise(images) == pytest.approx(10)
