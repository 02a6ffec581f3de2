"""benchmarks/quality and its parts, at toy size; the figures mean nothing here."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks import quality, runs
from benchmarks.quality import making, plans, stages, tables
from keras_diffusion.evaluation.classifier import TrainedClassifier
from keras_diffusion.evaluation.distances import Gaussian

FLOOR = {"mean": 1.0, "min": 0.9, "max": 1.1, "std": 0.05, "subsets": 10, "size": 1000}


def scored(distance, accuracy=0.9):
    score = {"distance": distance, "sure": 0.8, "confidence": 0.9}
    return score if accuracy is None else {**score, "accuracy": accuracy}


# Stages ---------------------------------------------------------------------------------------


def test_drawing_goes_on_where_it_was_stopped(tmp_path):
    out, asked = tmp_path / "pictures.npy", []

    def draw(first, count, broken_at=None):
        if first == broken_at:
            raise KeyboardInterrupt
        asked.append(first)
        numbers = np.arange(first, first + count) % 256
        return numbers.astype("uint8")[:, None, None, None] * np.ones((1, 2, 2, 1), "uint8")

    with pytest.raises(KeyboardInterrupt):
        stages.draw_parts(out, 300, lambda *part: draw(*part, broken_at=256), "test")
    assert asked == [0, 128] and not out.exists()
    stages.draw_parts(out, 300, draw, "test")
    stages.draw_parts(out, 300, draw, "test")
    assert asked == [0, 128, 256]
    np.testing.assert_array_equal(np.load(out)[:, 0, 0, 0], np.arange(300) % 256)
    assert [path.name for path in tmp_path.iterdir()] == ["pictures.npy"]


def test_the_peers_time_begins_with_the_end_of_its_first_step(monkeypatch):
    now = iter([100.0, 101.0, 159.9, 160.0])  # it took 100 s to compile
    monkeypatch.setattr(stages.time, "monotonic", lambda: next(now))
    clock = stages._Clock(60, None, "peer")
    assert [clock(step) for step in (1, 2, 3, 4)] == [False, False, False, True]
    assert (clock.steps, clock.seconds) == (4, 60.0)


def test_a_fingerprint_is_of_code_and_not_of_words(tmp_path):
    path = tmp_path / "code.py"

    def name(text, *settings):
        path.write_text(text)
        return making.fingerprint([path], *settings)

    plain = name("def f():\n    return 1\n")
    assert name('"""Doc."""\ndef f():  # why\n    """Doc."""\n    return (1)\n') == plain
    assert name("def f():\n    return 2\n") != plain
    assert name("def f():\n    return 1\n", {"minutes": 2}) != plain


def test_a_picture_shows_both_sets(tmp_path):
    from PIL import Image

    for name, channels in (("gray", 1), ("rgb", 3)):
        np.save(tmp_path / f"{name}.npy", np.full((70, 8, 8, channels), 90, "uint8"))
        out = tmp_path / f"{name}.png"
        files = [str(tmp_path / f"{name}.npy")] * 2
        stages.picture(*files, ["ours\na", "the peer\nb"], "under both", str(out))
        with Image.open(out) as drawn:
            assert min(drawn.size) > 400
    sheet = stages._sheet(np.full((9, 8, 8, 1), 90, "uint8"), 8)
    assert sheet.shape == (2 * 9, 8 * 9) and (sheet[9:, 9:] == 255).all()


def test_a_failed_stage_says_why(tmp_path):
    with pytest.raises(runs.RunFailed, match="missing.npy"):
        making.shown("quality.stages.picture", left=str(tmp_path / "missing.npy"),
                             right="", titles=["", ""], caption="", out="")  # fmt: skip


def test_scores_of_sure_and_right_pictures():
    probabilities = np.array([[0.95, 0.05], [0.08, 0.92], [0.2, 0.8], [0.3, 0.7]])
    features = np.random.default_rng(0).normal(size=(4, 3))
    eyes = TrainedClassifier(None, Gaussian.of(features), np.array([0.5, 0.5]), {}, features)
    found = stages.scored(eyes, features, probabilities, labels=[0, 1, 1, 0])
    assert found["sure"] == 0.5
    assert found["confidence"] == pytest.approx((0.95 + 0.92 + 0.8 + 0.7) / 4)
    assert found["class_shares"] == [0.25, 0.75]
    assert found["class_distance"] == pytest.approx(0.25)
    assert found["accuracy"] == 0.75
    assert found["distance"] == pytest.approx(0, abs=1e-9)
    assert "accuracy" not in stages.scored(eyes, features, probabilities)


# What is made of the scores -------------------------------------------------------------------


def curve(distances):
    """Sets of two seeds: {(sampler, steps): (distance, distance)}."""
    return [
        {"sampler": sampler, "num_steps": num_steps, "seed": seed, "score": scored(distance)}
        for (sampler, num_steps), pair in distances.items()
        for seed, distance in enumerate(pair)
    ]


def test_the_fewest_steps_that_are_no_worse_than_the_most_of_ddim():
    points = tables.curve(
        curve(
            {
                ("dpmpp_2m", 3): (9.0, 3.0),  # coarse, and not counted for the noise
                ("dpmpp_2m", 5): (1.6, 2.3),  # worse with both seeds, by less than seeds differ
                ("dpmpp_2m", 8): (1.52, 2.2),
                ("dpmpp_2m", 20): (1.5, 2.25),
                ("ddim", 50): (1.9, 2.1),
                ("ddim", 250): (1.5, 2.2),
            }
        )
    )
    assert [point["num_steps"] for point in points] == [3, 5, 8, 20, 50, 250]
    found = tables.fewest_steps({"curve": points, "curve_floor": FLOOR})
    assert found["fewest"] == 8 and found["distance"] == pytest.approx(1.86)
    assert found["reference"] == {"sampler": "ddim", "num_steps": 250, "distance": 1.85}
    variances = (0.0, 0.02**2 / 2, 0.05**2 / 2)  # of 5, 8 and 20 steps less 250
    assert found["noise"] == pytest.approx((np.mean(variances) / 2) ** 0.5)
    json.dumps(found)


def test_steps_of_one_seed_take_the_noise_of_the_floor_and_may_all_be_worse():
    one = [each for each in curve({("dpmpp_2m", 9): (2, 0), ("ddim", 9): (1, 0)})
           if each["seed"] == 0]  # fmt: skip
    found = tables.fewest_steps({"curve": tables.curve(one), "curve_floor": FLOOR})
    assert found["noise"] == FLOOR["std"]
    assert found["fewest"] is None and found["distance"] is None


@pytest.mark.parametrize(
    ("task", "ours", "peer", "value", "met"),
    [
        ("mnist", 2.0, 62.0, 31, True),
        ("mnist", 2.0, 58.0, 29, False),
        ("flowers", 3.0, 5.0, 0.5, True),
        ("flowers", 3.1, 5.0, 0.525, False),
        ("flowers", 0.9, 5.0, 0.0, True),
        ("flowers", 0.9, 0.9, None, False),
    ],
)
def test_goals(task, ours, peer, value, met):
    rows = [{"score": scored(ours)}, {"score": scored(7)}, {"score": scored(peer, None)}]
    found = tables.goal(task, rows, FLOOR)
    assert found["met"] is met
    assert found["value"] == (value if value is None else pytest.approx(value))


# All of it ------------------------------------------------------------------------------------


def all_of_it(task, tmp_path):
    folders = dict.fromkeys(("results", "images", "cache"), tmp_path)
    options = runs.Options(rounds=1, tiny=True, **folders)
    figures = quality.run(options, task)
    json.dumps(figures)
    assert (tmp_path / figures["picture"]).exists()
    assert [row["variant"] for row in figures["rows"]][:2] == ["preset", "guidance off"]
    assert all(np.isfinite(row["score"]["distance"]) for row in figures["rows"])
    assert all(row["images_seen"] > 0 for row in figures["rows"])
    assert tables.fewest_steps(figures)["noise"] > 0
    assert len(figures["curve"]) == sum(map(len, plans.TINY_STEPS.values()))
    text = quality.report(figures)
    assert "/tmp" not in text and all(row["subject"] in text for row in figures["rows"])
    return options, figures


def here(name, **arguments):
    """`making.shown` in this process, which has loaded TensorFlow already."""
    module, _, function = name.rpartition(".")
    assert module == "quality.stages"
    result = getattr(stages, function)(**json.loads(json.dumps(arguments)))
    return json.loads(json.dumps({**result}))  # a worker adds its memory to the dict


def test_every_stage_runs_and_is_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(making, "shown", here)
    options, figures = all_of_it("flowers", tmp_path)
    monkeypatch.setattr(making, "shown", None)
    monkeypatch.setattr(making, "_run_train", None)
    plan = plans.make("flowers", options)
    assert making.train_ours(plan)["images_seen"] == figures["rows"][0]["images_seen"]
    peer = making.train_peer(plan, plan.peer.variant)
    making.draw_peer(plan, peer)
    assert peer["images_seen"] == figures["rows"][-1]["images_seen"]
    with pytest.raises(TypeError):  # other minutes are another training
        making.train_ours(dataclasses.replace(plan, minutes=1))


def test_a_peer_may_be_trained_by_images_instead_of_minutes():
    clock = stages._Clock(limit=0.0, last=3, name="peer")
    assert [clock(step) for step in (1, 2, 3)] == [False, False, True]
    clock = stages._Clock(limit=0.0, last=None, name="peer")
    assert clock(1) and clock.steps == 1


def test_the_torch_peer_too(tmp_path):
    pytest.importorskip("denoising_diffusion_pytorch")
    all_of_it("mnist", tmp_path)


def test_a_plan_takes_what_is_asked_for_and_else_the_published_settings():
    plan = plans.make("mnist", runs.Options(data_dir="there"))
    assert (plan.minutes, plan.seeds, plan.num, plan.data_dir) == (20, 3, 1000, "there")
    asked = plans.Options(minutes=2.5, autocast=True, peer_images=700)
    plan = plans.make("flowers", asked)
    assert plan.peer_images == 700
    assert (plan.minutes, plan.seeds, plan.autocast, plan.fresh) == (2.5, 1, True, False)
    assert (plan.num, plan.curve_num) == (1000, 500)
    assert plans.make("flowers", plans.Options(num=200)).curve_num == 200


@pytest.mark.parametrize("wrong", [["cifar10"], ["mnist", "--minutes", "0"],
                                   ["mnist", "--seeds", "x"]])  # fmt: skip
def test_bad_flags_are_one_line(wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        quality.main(wrong)
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
