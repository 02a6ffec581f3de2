"""Scores during the training, the best checkpoint by them, and the health report."""

import csv
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from fixtures_runs import STEPS, tiny_config, tiny_data, tiny_images, tiny_model
from PIL import Image

from keras_diffusion.evaluation import real_images
from keras_diffusion.models import metrics
from keras_diffusion.plotting import figures
from keras_diffusion.runtime import distribution
from keras_diffusion.saving import checkpoints
from keras_diffusion.saving.checkpoints import Progress
from keras_diffusion.training import fit, score_callback, single_image
from keras_diffusion.training.checkpoint_callback import write_history

VOTES = distribution.Votes(distribution.make_strategy("single"))


class Judge:
    """Scores pictures by their number; the distances are given."""

    def __init__(self, *fids):
        self.fids = list(fids)
        self.seen = []

    def look(self, images):
        self.seen.append(images)
        return images, None

    def score(self, features, probabilities, labels):
        found = {"num_images": len(features), "fid": self.fids.pop(0), "kid": 0.5}
        return {**found, "kid_error": 0.1, "precision": 0.9, "recall": 0.8, "labels": len(labels)}


@pytest.fixture(scope="module")
def data():
    return tiny_data()


@pytest.fixture
def judged(monkeypatch):
    """Has runs scored by a `Judge` of the distances that are put into it."""
    judge = Judge()
    pictures = SimpleNamespace(labels=lambda num, seed: np.arange(num) % 2)
    monkeypatch.setattr(real_images, "reference_of_run", lambda *_: (pictures, judge))
    monkeypatch.setattr(fit, "_shown", lambda *_: [])
    return judge


def rows_of(folder):
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_scores_are_in_the_history_and_the_best_is_kept(data, tmp_path, judged):
    judged.fids = [3.0, 9.0, 8.0]
    config = tiny_config(epochs=5, score_every=2, score_num=20, keep_checkpoints=1)
    progress, model = Progress(), tiny_model()
    fit.fit(model, data, config, tmp_path, progress, VOTES)
    rows = rows_of(tmp_path)
    assert [row["fid"] for row in rows] == ["", "3.0", "", "9.0", "8.0"], "and the last epoch"
    assert rows[1]["recall"] == "0.8" and "kid_error" not in rows[1]
    assert progress.best == {"fid": 3.0, "batches": 2 * STEPS}
    left = [path.name for path in checkpoints.list_checkpoints(tmp_path / "checkpoints")]
    assert left == ["step-00000010.keras", "step-00000025.keras"]
    assert [len(images) for images in judged.seen] == [20, 20, 20]
    assert (judged.seen[0] != judged.seen[2]).any(), "the weights have changed"

    _, model, progress = checkpoints.load(tmp_path / "checkpoints")
    judged.fids = [2.0]
    config = tiny_config(epochs=6, score_every=2, score_num=20)
    fit.fit(model, data, config, tmp_path, progress, VOTES)
    assert progress.best == {"fid": 2.0, "batches": 6 * STEPS}
    assert [row["fid"] for row in rows_of(tmp_path)][-2:] == ["8.0", "2.0"]


def test_an_old_checkpoint_is_best_only_until_there_is_a_score(data, tmp_path, judged):
    judged.fids = [70.0]
    progress = Progress(best={"val_loss": 0.1, "batches": 3})
    fit.fit(
        tiny_model(),
        data,
        tiny_config(epochs=1, score_every=5, score_num=20),
        tmp_path,
        progress,
        VOTES,
    )
    assert progress.best == {"fid": 70.0, "batches": STEPS}


def test_an_epoch_that_was_left_at_its_end_is_scored(data, tmp_path, judged):
    judged.fids = [4.0]
    progress = Progress(step=STEPS, means=[1.0] * 2 * len(metrics.METRICS))  # of before the last
    config = tiny_config(epochs=1, score_every=1, score_num=20)
    fit.fit(tiny_model(), data, config, tmp_path, progress, VOTES)
    [row] = rows_of(tmp_path)
    assert row["fid"] == "4.0" and row["loss"] == "1.0"
    assert "gradient_norm" not in row and "val_raw_excess" in row


def test_an_epoch_of_one_picture_that_was_left_at_its_end_has_its_restoration(
    data, tmp_path, monkeypatch
):
    class Told(single_image.Restoration):
        def on_epoch_end(self, epoch, logs=None):
            logs["psnr"] = float(epoch + self.model.num_classes)

    monkeypatch.setattr(fit, "_shown", lambda *_: [])
    monkeypatch.setattr(single_image, "restoration_callback", lambda *_: Told(None, None, None))
    progress = Progress(step=STEPS, means=[1.0] * 2 * len(metrics.METRICS))
    picture = dataclasses.replace(data, picture=np.zeros((4, 4, 1), "uint8"))
    fit.fit(tiny_model(), picture, tiny_config(epochs=1), tmp_path, progress, VOTES)
    [row] = rows_of(tmp_path)
    assert row["psnr"] == "2.0"


def test_scores_take_no_more_than_their_share(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)

    class Model:
        stop_training = False

        def generate(self, num_images, num_steps, labels=None):
            clock.now += num_steps + (0 if traced else 60)
            traced.append(num_images)
            return np.zeros((num_images, 2, 2, 1), "uint8")

    traced = []
    judge = Judge(*range(99))
    scores = score_callback.Scores(judge, 5, np.zeros(5, int), max_share=0.1, num_steps=10)
    scores.set_model(Model())
    scores.on_train_begin()
    scored = []
    for epoch in range(40):
        clock.now += 10
        scored.append({})
        scores.on_epoch_end(epoch, scored[-1])
    count = sum(map(bool, scored))
    assert scored[0], "the first one always"
    assert 30 <= 10 * count <= 0.1 * clock.now, "only tracing is not counted"
    Model.stop_training = True
    scores.on_epoch_end(40, last := {})
    assert "fid" in last, "the last epoch always"


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({}, "--score-every: the classifier learns from labels, and pets has none"),
        ({"score_extractor": "incepton"}, "unknown 'incepton'. Choose from: classifier, inception"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_the_training(options, pattern):
    source = SimpleNamespace(name="pets", num_classes=0)
    real_images.check_scores(tiny_config(), source)  # nothing is asked for
    with pytest.raises(ValueError, match=pattern):
        real_images.check_scores(tiny_config(score_every=1, **options), source)


def test_one_class_is_nothing_to_learn_from():
    source = SimpleNamespace(name="pets", num_classes=1)
    with pytest.raises(ValueError, match="pets has one class; give --set score_extractor"):
        real_images.check_scores(tiny_config(score_every=1), source)


# Health -------------------------------------------------------------------------------------


def test_the_norm_of_the_gradient_and_the_excess_of_the_raw_weights(data, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "_shown", lambda *_: [])
    model, progress = tiny_model(ema_decay=0.5), Progress()
    fit.fit(model, data, tiny_config(epochs=2), tmp_path, progress, VOTES)
    for row in progress.history:
        assert row["gradient_norm"] > 0 and row["val_raw_excess"] != 0
        assert "raw_excess" not in row and "val_gradient_norm" not in row


def test_the_excess_is_of_every_eighth_image_whatever_the_batches():
    model = tiny_model()
    weights = model.ema_network.get_weights()
    model.ema_network.set_weights([weight + 0.1 for weight in weights])
    images, labels = tiny_images(20)

    def evaluated(chosen, batch_size=20):
        data = {"image": images[chosen], "label": labels[chosen], "index": chosen}
        return model.evaluate(data, batch_size=batch_size, verbose=0, return_dict=True)

    everything, eighths = np.arange(20), np.array([0, 8, 16])
    excess = evaluated(everything)["raw_excess"]
    for batch_size in (3, 7):
        order = np.random.default_rng(batch_size).permutation(everything)
        assert evaluated(order, batch_size)["raw_excess"] == pytest.approx(excess, rel=1e-4)
    model.compile(optimizer=model.optimizer, jit_compile=True)  # as on one GPU
    whole = evaluated(everything)["raw_excess"]  # XLA draws other noise
    assert evaluated(order)["raw_excess"] == pytest.approx(whole, rel=1e-3)
    assert len(metrics.raw_loss_rows(tf.range(1, 7), compiled=True)[0]) == 6, (
        "whatever the numbers are"
    )
    model.compile(optimizer=model.optimizer)
    average = evaluated(eighths)["loss"]
    model.ema_network.set_weights(weights)
    assert evaluated(eighths)["loss"] - average == pytest.approx(excess, rel=1e-3)


ROW = {"epoch": 1, "loss": 0.5, "loss_t0-25": 0.9, "loss_t25-50": 0.2, "skipped": 0}
NEW = {"val_loss": 0.4, "val_loss_t0-25": 0.8, "val_raw_excess": 0.03, "gradient_norm": 1.5}


@pytest.mark.parametrize("rows", [[ROW], [ROW, {**ROW, **NEW, "epoch": 2, "fid": 7.0}]])
def test_health_and_losses_are_drawn_of_old_and_new_runs(tmp_path, rows):
    write_history(rows, tmp_path / "history.csv")
    for name, draw in (("health", figures.health), ("loss", figures.loss_curves)):
        draw(tmp_path / "history.csv", tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > 600
