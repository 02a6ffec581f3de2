"""The study of morphing: its parts, and all of it at toy size."""

import contextlib
import dataclasses
import functools
import io
import json
import types

import keras
import numpy as np
import pytest

from keras_diffusion import DiffusionModel
from keras_diffusion.diffusion import schedules
from keras_diffusion.networks import convnext_unet
from studies import command
from studies.kept import Kept
from studies.morphing import (
    TINY,
    Settings,
    draw,
    limits,
    measure,
    pace,
    pictures,
    report,
    restoration,
    starts,
    training,
)
from studies.morphing.sampling import UPDATES, Morpher, Way

SETTINGS = Settings(**TINY)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def toys():
    return pictures.load(SETTINGS, None)


# Batches --------------------------------------------------------------------------------------


def taken(batches, count):
    return [{name: value.numpy() for name, value in batch.items()} for batch in batches.take(count)]


def test_a_digit_meets_another_garment_in_each_pass(toys):
    batches = pictures.Batches(*toys, SETTINGS)
    garments = toys[1]["train_images"]
    steps = len(garments) // SETTINGS.batch_size
    seen = taken(batches.training(True, 0), 100)
    partners = {}
    for batch in seen:
        for digit, garment in zip(batch["image"], batch["endpoint"], strict=True):
            partners.setdefault(digit.tobytes(), []).append(garment.tobytes())
    met_twice = [found for found in partners.values() if len(found) > 1]
    assert len(met_twice) > 50
    assert np.mean([len(set(found)) > 1 for found in met_twice]) > 0.9
    known = {garment.tobytes() for garment in garments}
    assert {garment for found in partners.values() for garment in found} <= known

    first = steps + 3  # within the second pass of garments: a later part goes on where one ended
    for late, again in zip(taken(batches.training(True, first), 4), seen[first:], strict=False):
        np.testing.assert_array_equal(late["image"], again["image"])
        np.testing.assert_array_equal(late["endpoint"], again["endpoint"])
    [alone] = taken(batches.training(False, 0), 1)
    np.testing.assert_array_equal(alone["image"], seen[0]["image"])
    assert set(alone) == {"image"}


def test_held_out_digits_keep_their_garments(toys):
    digits, garments = toys
    seen = taken(pictures.Batches(digits, garments, SETTINGS).validation(True), 100)
    for name, kind in (("image", digits), ("endpoint", garments)):
        images = np.concatenate([batch[name] for batch in seen])
        np.testing.assert_array_equal(images, kind["test_images"][: SETTINGS.pictures])


# Sampling, restoration ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    """A model that does not answer zero."""
    keras.utils.set_random_seed(0)
    network = convnext_unet((8, 8, 1), widths=(8,), attention=(False,), embedding_width=16)
    rng = np.random.default_rng(1)
    network.set_weights([w + 0.2 * rng.normal(size=w.shape) for w in network.get_weights()])
    return DiffusionModel(network, prediction_type="x0")


def test_both_updates_are_samplers_of_the_package(model, toys):
    garments, morpher = toys[1]["test_images"][:6], Morpher(model)
    x = morpher.encode(garments)
    np.testing.assert_array_equal(morpher.decode(x), garments)
    drawn = {}
    for update, sampler in zip(UPDATES, ("ddim", "cold"), strict=True):
        drawn[update] = morpher.pictures(x, Way(4, "uniform_logsnr", update)).astype(int)
        expected = model.generate(6, sampler=sampler, num_steps=4, endpoints=garments)
        assert np.abs(drawn[update] - expected).max() <= 1
    assert np.abs(drawn["held"] - drawn["re-estimated"]).max() > 5


def test_a_mixture_is_the_forward_process(model, toys):
    digits, garments = (kind["test_images"][:3] for kind in toys)
    morpher = Morpher(model)
    x0, endpoint = morpher.encode(digits), morpher.encode(garments)
    signal, noise = (float(rate) for rate in schedules.rates(schedules.cosine, 0.3))
    mixed = morpher.mixed(x0, endpoint, 0.3)
    np.testing.assert_allclose(mixed, signal * x0 + noise * endpoint, atol=1e-6)
    assert mixed.dtype == np.float32


class Knowing:
    """A morpher that is right up to t = 0.5 and answers with garments above; its own judge."""

    schedule = staticmethod(schedules.cosine)

    def __init__(self, digits, garments):
        self.digits, self.garments = digits, garments

    def encode(self, images):
        return images

    def decode(self, x):
        return x

    def mixed(self, x0, endpoint, t):
        return endpoint

    def pictures(self, x, way, start, endpoint):
        assert endpoint is self.garments
        return self.digits if start <= 0.5 or way.update == "held" else self.garments

    def classes(self, images):
        return np.where(images.mean(axis=(1, 2, 3)) > 100, 1, 0)


def test_restoration_is_right_as_far_as_it_is_right(tmp_path):
    digits, garments = (np.full((4, 2, 2, 1), grey, "uint8") for grey in (200, 0))
    knowing = Knowing(digits, garments)
    found = restoration.restore(knowing, knowing, digits, np.ones(4), garments, 3, tmp_path)
    until = [restoration.right_until(found, way, 0.9) for way in ("mixed", *restoration.WAYS)]
    assert until == [0, 0.5, 0.5, 1.0]
    assert restoration.TIMES[restoration.hard_time(found)] == 0.5
    assert found["ways"]["direct"]["off"] == [0.0] * 5 + [200.0] * 6
    assert found["signal_rates"] == sorted(found["signal_rates"], reverse=True)
    kept = np.load(tmp_path / "restored.npy")
    assert kept.shape == (4, len(restoration.TIMES), 4, 2, 2, 1)


# Starting points, and what comes of them --------------------------------------------------------


def test_starting_points_are_what_they_are_called():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (6, 4, 4, 1)).astype("float32")
    noisy = starts.noisy(x, 0.1, 50, rng)
    assert noisy.shape == (300, 4, 4, 1) and noisy.dtype == np.float32
    away = noisy.reshape(6, 50, 4, 4, 1) - x[:, None]
    assert away.std() == pytest.approx(0.1, rel=0.05)
    means = starts.averages(x, 6, 3, rng)  # of all there are: the same mean each time
    np.testing.assert_allclose(means, np.repeat(x.mean(axis=0)[None], 3, 0), atol=1e-6)
    assert starts.averages(x, 2, 500, rng).std(axis=0).mean() < x.std(axis=0).mean()
    assert starts.nearest(x, x) == pytest.approx(0, abs=1e-3)
    assert starts.nearest(x + 0.1, x) == pytest.approx(0.1, abs=1e-3)


def test_a_mixture_makes_up_new_garments_of_the_same_kinds():
    rng = np.random.default_rng(0)
    greys = np.where(rng.random(400) < 0.25, -0.5, 0.5)  # two kinds, one of them rarer
    x = greys[:, None, None, None] + 0.05 * rng.standard_normal((400, 4, 4, 1))
    mixture = starts.Mixture(x.astype("float32"), components=2, dimensions=3, seed=0)
    drawn = mixture.draw(1000)
    assert drawn.shape == (1000, 4, 4, 1) and np.abs(drawn).max() <= 1
    found = drawn.mean(axis=(1, 2, 3))
    assert np.abs(np.abs(found) - 0.5).max() < 0.2
    assert (found < 0).mean() == pytest.approx(0.25, abs=0.06)
    assert 0 < (found[:24] < 0).sum() < 24  # the first ones, which are shown, are of both kinds
    assert len(np.unique(drawn.reshape(1000, -1), axis=0)) == 1000
    assert 0.9 < mixture.kept < 1
    np.testing.assert_allclose(mixture.projected(x), x, atol=0.3)


def test_pictures_that_are_alike_count_as_one():
    rng = np.random.default_rng(0)
    images = rng.integers(20, 230, (10, 8, 8, 1), "uint8")
    near = images[:4] + rng.integers(0, 5, (4, 8, 8, 1), "uint8")
    far = images[:4] + np.uint8(20)
    assert limits.different(images) == 10
    assert limits.different(np.concatenate([images, images, near])) == 10
    assert limits.different(np.concatenate([images, far])) == 14


# Claims ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("different", "holds"), [(90, True), (89, False)])
def test_garments_may_give_the_same_digit(different, holds):
    sizes = [{"drawn": 10, "different": 10}, {"drawn": 100, "different": different}]
    claim = report._sets(sizes)
    assert claim.holds is holds and f"{different} of 100" in claim.measured


def noise_row(strength, different, sure):
    return {"strength": strength, "different": different, "sure": sure, "images": 50, "of": 5}


@pytest.mark.parametrize(
    ("rows", "holds", "measured"),
    [
        ([noise_row(0.1, 9, 0.9), noise_row(0.5, 50, 0.2)], False, "9 different of 50"),
        ([noise_row(0.1, 9, 0.9), noise_row(0.3, 20, 0.86)], True, "20 different of 50 with noise"),
        ([noise_row(0.1, 9, 0.5)], False, "sure of fewer"),
    ],
)
def test_noise_is_of_use_only_while_digits_stay_digits(rows, holds, measured):
    claim = report._noise(rows, sure=0.9)
    assert claim.holds is holds and claim.measured.startswith(measured)


# Trainings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("morphing", [True, False], ids=["garments", "noise"])
def test_what_was_chosen_is_scored_from_other_starting_points(toys, morphing):
    batches, garments = pictures.Batches(*toys, SETTINGS), toys[1]["test_images"][:6]
    each = training.Training("cosine", morphing, batches, garments, None, SETTINGS, None, (1,))
    morpher = types.SimpleNamespace(encode=np.array)
    x = [each.starts(morpher), each.starts(morpher, chosen=True)]
    assert len(np.unique(np.concatenate(x).reshape(6, -1), axis=0)) == 6
    if morphing:
        np.testing.assert_array_equal(x, [garments[3:], garments[:3]])


class Blind:
    """A judge who sees nothing."""

    def score(self, images):
        return {"distance": float(images.mean()), "error": 0.0, "sure": 0.0, "images": len(images)}


def one_layer(shape, **_):
    """A network that is quickly traced."""
    inputs = {"x": keras.Input(shape, name="x"), "logsnr": keras.Input((), name="logsnr")}
    return keras.Model(inputs, keras.layers.Conv2D(1, 3, padding="same")(inputs["x"]))


def test_a_stopped_training_goes_on_as_if_it_had_not_been(toys, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "convnext_unet", one_layer)
    batches, starts = pictures.Batches(*toys, SETTINGS), toys[1]["test_images"][:4]
    found = {}
    for name in ("whole", "stopped"):
        kept = Kept(tmp_path / "work" / name, tell=lambda line: None)
        shared = "cosine", True, batches, starts, Blind(), SETTINGS, kept, (1, 2)
        if name == "stopped":
            first = training.Training(*shared)
            kept.stage(f"{first.name}-part1", functools.partial(first._part, 1))
        found[name] = training.Training(*shared).run()
        assert [path.parent.name for path in kept.folder.rglob("model.keras")] == [
            "morphing-cosine-part2"
        ]
    for key in ("loss", "val_loss", "images", "parameters"):
        assert found["stopped"][key] == pytest.approx(found["whole"][key], rel=1e-4), key
    distances = [[score["distance"] for score in each["scores"]] for each in found.values()]
    assert distances[0] == pytest.approx(distances[1], abs=0.1)


def test_a_pace_is_measured_by_training(toys, monkeypatch):
    monkeypatch.setattr(training, "convnext_unet", one_layer)
    found = pace._pace(pictures.Batches(*toys, SETTINGS), SETTINGS)
    assert 0 < found["step"] < 60 and 0 < found["call"] < 10


def test_parts_end_with_the_epochs_that_fit():
    def ends(**options):
        asked = dataclasses.replace(Settings(), **options)
        kept = types.SimpleNamespace(stage=lambda *_: {"step": 0.4, "call": 1e-3})
        return pace.ends(None, asked, kept)

    assert ends(epochs=12) == (5, 10, 12)
    assert ends(epochs=3) == (3,)
    assert ends(epochs=None, minutes=1) == (5,)
    few, many = (ends(epochs=None, minutes=minutes)[-1] for minutes in (60, 120))
    # 60 minutes more, 48 steps of 0.4 s and two seconds of drawing in each epoch of three trainings
    assert many - few == pytest.approx(0.85 * 3600 / (3 * (48 * 0.4 + 2)), abs=5)


def test_titles_of_rows_are_not_cut_off():
    black = np.zeros((12, 8, 8, 1), "uint8")
    figure = draw._rows([black] * 9, ["20 steps in logSNR, re-estimated"] * 9)
    figure.draw_without_rendering()
    assert min(axes.yaxis.label.get_window_extent().x0 for axes in figure.axes) >= 0


# The whole study ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a study at toy size, interrupted once, and what its second sitting told."""
    folder, told, calls = tmp_path_factory.mktemp("study"), io.StringIO(), []
    arguments = ["--tiny", "--work", str(folder / "work"), "--out", str(folder / "out")]
    policy = keras.config.dtype_policy()

    def stop(*_):
        raise KeyboardInterrupt

    draw = Morpher.pictures

    def counted(self, x, way, *arguments):
        calls.append(len(x) * way.num_steps)
        return draw(self, x, way, *arguments)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Morpher, "pictures", counted)
            with pytest.MonkeyPatch.context() as stopping:
                stopping.setattr(limits.Limits, "of_mixture", stop)
                assert command.main("morphing", arguments) == 130
            with contextlib.redirect_stdout(told):
                assert command.main("morphing", arguments) == 0
    finally:
        keras.config.set_dtype_policy(policy)
    return folder / "out", told.getvalue(), sum(calls)


def test_an_interrupted_study_makes_only_what_is_missing(study):
    _, told, _ = study
    assert [line.split(":")[0] for line in told.splitlines() if ": done" in line] == [
        "limits-mixture"
    ]


def test_the_page_shows_every_figure_and_decides_every_claim(study):
    out, _, _ = study
    page = (out / "README.md").read_text()
    assert len(list(out.glob("*.png"))) == 9
    for file in out.glob("*.png"):
        assert f"({file.name})" in page and file.stat().st_size < 300_000
    verdicts = ("**holds**", "**does not hold**", "not decided")
    assert sum(page.count(f"| {verdict} |") for verdict in verdicts) == 12


def test_the_pace_counts_what_is_drawn(study):
    on_the_way = pace.TRAININGS * SETTINGS.epochs * SETTINGS.pictures * SETTINGS.curve_steps
    assert study[2] == on_the_way + pace.calls(SETTINGS)


def test_the_results_have_all_that_was_asked(study):
    results = json.loads((study[0] / "results.json").read_text())["results"]
    names = {"morphing-linear", "morphing-cosine", results["noise"]}
    assert set(results["trainings"]) == names
    assert results["noise"].split("-")[1] == results["morphing"].split("-")[1]
    # The best way is scored from other starting points than those it was chosen with: a garment's
    # are those that limits are drawn from.
    score, again = results["best"][results["morphing"]], results["limits"]["sets"]
    assert all(score[name] == again[name] for name in ("distance", "error", "sure", "images"))
    for name, best in results["best"].items():
        chosen = measure.best_way(results["ways"][name])
        assert all(best[part] == chosen[part] for part in ("num_steps", "grid", "update"))
        assert best["distance"] != chosen["distance"]
    for name, found in results["trainings"].items():
        assert len(found["loss"]) == len(found["scores"]) == 2
        assert len(results["ways"][name]) == (9 if name.startswith("morphing") else 5)
    found = results["limits"]
    assert [each["strength"] for each in found["noise"]] == list(limits.STRENGTHS)
    assert [each["averaged"] for each in found["averages"]] == list(limits.AVERAGED)
    for each in (found["sets"], *found["averages"], found["mixture"]["mixture"]):
        assert sum(each["shares"]) == pytest.approx(1)
    assert np.sum(found["sets"]["table"]) == SETTINGS.pictures
