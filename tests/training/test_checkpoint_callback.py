"""What a run keeps of itself, when, and how it takes trouble."""

import csv
from itertools import pairwise
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_runs import (
    BATCH,
    STEPS,
    assert_same_state,
    tiny_config,
    tiny_data,
    tiny_images,
    tiny_model,
)

from keras_diffusion.runtime import distribution
from keras_diffusion.runtime.signals import Pending
from keras_diffusion.saving import checkpoints
from keras_diffusion.saving.checkpoints import Progress
from keras_diffusion.training import checkpoint_callback, fit
from keras_diffusion.training.callbacks import Faults, TrainingStopped
from keras_diffusion.training.checkpoint_callback import Recorder, write_history

VOTES = distribution.Votes(distribution.make_strategy("single"))


@pytest.fixture(scope="module")
def data():
    return tiny_data()


@pytest.fixture
def watched(monkeypatch):
    """Replaces those who watch a run by the callbacks in a list; all epochs are saved."""
    used = []
    monkeypatch.setattr(checkpoint_callback, "DEAREST_SHARE", float("inf"))
    monkeypatch.setattr(fit, "_shown", lambda *_: used)
    return used


def rows_of(folder):
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


# history.csv


def test_history_is_a_table(tmp_path):
    rows = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-12}]
    write_history(rows, tmp_path / "history.csv")
    read = rows_of(tmp_path)
    assert [int(row["epoch"]) for row in read] == [1, 2]
    assert [float(row["loss"]) for row in read] == [0.1 + 0.2, 1e-12], "every bit"
    write_history([], tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text() == "epoch\n"


def test_a_run_writes_down_each_epoch(data, tmp_path, watched):
    model, progress = tiny_model(), Progress()
    fit.fit(model, data, tiny_config(), tmp_path, progress, VOTES)
    rows = rows_of(tmp_path)
    assert list(rows[0])[:3] == ["epoch", "learning_rate", "skipped"]
    assert {"loss", "zero_loss", "val_loss", "val_zero_loss", "loss_t0-25"} <= set(rows[0])
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["skipped"] for row in rows] == ["0"] * 3
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates[0] > rates[1] > rates[2] == float(model.optimizer.learning_rate) > 0
    assert rows == [{k: str(v) for k, v in row.items()} for row in progress.history]
    assert (progress.epoch, progress.step, progress.means) == (3, 0, None)


# When it saves


class Model(SimpleNamespace):
    """Enough of a model for a Recorder."""

    def __init__(self):
        optimizer = SimpleNamespace(learning_rate=tf.Variable(0.5))
        means = [tf.Variable(0.25), tf.Variable(4.0)]
        super().__init__(optimizer=optimizer, skipped_steps=tf.Variable(0), metrics_variables=means)


@pytest.fixture
def clock(monkeypatch):
    """A clock for recording.py, and what its saves cost: `clock.now`, `clock.cost`, `.saved`."""
    clock = SimpleNamespace(now=1000.0, cost=0.0, saved=[])

    def save(model, progress, directory, batches, keep):
        clock.now += clock.cost
        clock.saved.append((batches, progress.means))

    monkeypatch.setattr(checkpoint_callback, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(checkpoint_callback.checkpoints, "save", save)
    return clock


def recorder_of(folder, progress=None, minutes=10.0):
    recorder = Recorder(
        folder,
        progress or Progress(),
        budget=SimpleNamespace(seconds=77.0),
        steps_per_epoch=100,
        pending=Pending(),
        votes=VOTES,
        minutes=minutes,
    )
    recorder.set_model(Model())
    return recorder


def epoch(recorder, clock, seconds, val_loss=0.5):
    """One epoch of 100 batches; returns the batches at which it saved."""
    clock.saved.clear()
    recorder.on_epoch_begin(0)
    for batch in range(100):
        clock.now += seconds / 100
        recorder.on_train_batch_end(batch)
    recorder.on_test_begin()
    recorder.on_test_batch_end(0)
    recorder.on_epoch_end(0, {"loss": 1.0, "val_loss": val_loss})
    return [batches for batches, _ in clock.saved]


def test_long_epochs_save_every_few_minutes_too(tmp_path, clock):
    recorder = recorder_of(tmp_path, minutes=10.0)
    assert epoch(recorder, clock, seconds=2000) == [30, 60, 90, 100]
    assert [means for _, means in clock.saved] == [[0.25, 4.0]] * 3 + [None]
    assert recorder.progress.means is None
    assert epoch(recorder, clock, seconds=599) == [200]
    assert recorder.progress.seconds == 77


def test_the_end_of_an_epoch_is_not_saved_twice(tmp_path, clock):
    recorder = recorder_of(tmp_path, minutes=0.0)  # after every batch
    assert epoch(recorder, clock, seconds=1) == list(range(1, 101))
    recorder.on_train_end()
    assert len(clock.saved) == 100


@pytest.mark.parametrize(("seconds", "cost"), [(1.0, 0.5), (1.0, 0.2), (3.0, 0.1), (0.1, 2.0)])
def test_short_epochs_do_not_spend_their_time_on_saves(tmp_path, clock, seconds, cost):
    recorder = recorder_of(tmp_path)
    clock.cost = cost
    began, spent = clock.now, 0
    for _ in range(400):
        spent += cost * len(epoch(recorder, clock, seconds))
    share = spent / (clock.now - began)
    assert 0.03 < share <= 0.05 + cost / (clock.now - began)
    clock.saved.clear()
    recorder.on_train_end()
    unsaved = recorder._saved != recorder.batches
    assert not unsaved, "the end is always saved"
    assert len(rows_of(tmp_path)) == 400


def test_the_best_epoch_is_remembered(tmp_path, clock):
    recorder = recorder_of(tmp_path)
    best = []
    for val_loss in (float("nan"), 0.5, 0.3, 0.4, 0.3, float("nan"), 0.2):
        epoch(recorder, clock, 60, val_loss)
        best.append((recorder.progress.best or {}).get("batches"))
    assert best == [None, 200, 300, 300, 300, 300, 700]
    assert recorder.progress.best == {"val_loss": 0.2, "batches": 700}


def test_the_end_of_a_long_epoch_is_saved_however_short_after_another(tmp_path, clock):
    recorder = recorder_of(tmp_path, minutes=10.0)
    clock.cost = 5.0
    assert epoch(recorder, clock, seconds=1250)[-2:] == [96, 100]
    assert recorder.progress.best == {"val_loss": 0.5, "batches": 100}
    assert epoch(recorder, clock, seconds=1250)[-1] == 200


def test_a_checkpoint_within_an_epoch_is_not_the_best(tmp_path, clock):
    recorder = recorder_of(tmp_path, Progress(history=[{"val_loss": 0.1}], epoch=1))
    for batch in range(50):
        clock.now += 60
        recorder.on_train_batch_end(batch)
    assert len(clock.saved) == 5
    assert recorder.progress.best is None


def test_the_running_means_of_a_begun_epoch_go_on(tmp_path, clock):
    recorder = recorder_of(tmp_path, Progress(step=3, means=[1.5, 7.0]))
    recorder.on_epoch_begin(0)
    assert [float(v) for v in recorder.model.metrics_variables] == [1.5, 7.0]
    assert recorder.progress.means is None
    recorder.model.metrics_variables[0].assign(9.0)
    recorder.on_epoch_begin(1)
    assert float(recorder.model.metrics_variables[0]) == 9.0


def test_the_best_checkpoint_stays(data, tmp_path, watched):
    class Worse(keras.callbacks.Callback):
        """Spoils the average after the first epoch: the learning rate could not."""

        def on_test_begin(self, logs=None):
            if len(progress.history) >= 1:
                weights = self.model.ema_network.weights
                weights[0].assign(weights[0] + 30.0)

    progress = Progress()
    watched.append(Worse())
    config = tiny_config(epochs=5, keep_checkpoints=2)
    fit.fit(tiny_model(), data, config, tmp_path, progress, VOTES)
    assert progress.best["batches"] == STEPS
    assert progress.best["val_loss"] == min(row["val_loss"] for row in progress.history)
    names = [path.name for path in checkpoints.list_checkpoints(tmp_path / "checkpoints")]
    assert names == ["step-00000005.keras", "step-00000020.keras", "step-00000025.keras"]


# Faults


def learned(model):
    """{name: array} of weights, EMA and optimizer, but for the learning rate: Budget sets it."""
    variables = model.network.weights + model.ema_network.weights
    variables += [v for v in model.optimizer.variables if v.name != "learning_rate"]
    return {f"{number} {v.name}": v.numpy() for number, v in enumerate(variables)}


class Poison(keras.callbacks.Callback):
    """Makes the loss of chosen steps nan; keeps the states before and after each step."""

    def __init__(self, model, steps):
        super().__init__()
        self.steps = steps
        self.dose = tf.Variable(1.0)
        self.number = 0
        model.optimizer.build(model.network.trainable_variables)
        self.states = [learned(model)]
        errors = model._errors

        def poisoned(network, noised, training=False):
            measured = errors(network, noised, training)
            if training:
                measured = {**measured, "loss": measured["loss"] * self.dose}
            return measured

        model._errors = poisoned

    def on_train_batch_begin(self, batch, logs=None):
        self.dose.assign(self.steps.get(self.number, 1.0))

    def on_train_batch_end(self, batch, logs=None):
        self.number += 1
        self.states.append(learned(self.model))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_with_a_gradient_that_is_not_finite_are_skipped(data, tmp_path, watched, accumulate):
    model, progress = tiny_model(accumulate=accumulate), Progress()
    doses = {0: np.nan, 3: np.inf, 7: np.nan, 8: -np.inf}
    watched.append(poison := Poison(model, doses))
    fit.fit(model, data, tiny_config(), tmp_path, progress, VOTES)
    assert int(model.skipped_steps) == 4
    assert int(model.optimizer.iterations) == 3 * STEPS - 4
    for step, (before, after) in enumerate(pairwise(poison.states)):
        if step in doses:
            assert_same_state(before, after)
        else:
            changed = [name for name in before if (before[name] != after[name]).any()]
            assert len(changed) > len(before) / 2, step
    assert [row["skipped"] for row in progress.history] == [2, 2, 0]
    assert [row["skipped"] for row in rows_of(tmp_path)] == ["2", "2", "0"]
    assert all(np.isfinite(list(row.values())).all() for row in progress.history)
    assert 0.3 < progress.history[0]["loss"] < 1.5, "a mean over the steps that counted"
    assert progress.skipped_in_a_row == 0


def test_a_training_that_only_skips_is_stopped(data, tmp_path, watched):
    model, progress = tiny_model(), Progress()
    watched.append(poison := Poison(model, dict.fromkeys(range(7, 99), np.nan)))
    with pytest.raises(TrainingStopped, match="10 steps in a row"):
        fit.fit(model, data, tiny_config(epochs=9), tmp_path, progress, VOTES)
    assert poison.number == 16  # its own end of the last batch is not called any more
    _, loaded, read = checkpoints.load(tmp_path / "checkpoints")
    assert read.epoch == 3 and read.skipped_in_a_row == 8
    assert [row["skipped"] for row in read.history] == [0, 3, 5]
    for one, other in zip(learned(loaded).values(), poison.states[7].values(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("learning_rate", "warnings"), [(1e-9, 1), (1e-2, 0)])
def test_a_network_that_learns_nothing_is_warned_of(capsys, learning_rate, warnings):
    model = tiny_model(learning_rate=learning_rate)
    model.network.get_layer("out").set_weights(
        [np.zeros_like(w) for w in model.network.get_layer("out").get_weights()]
    )
    images, labels = tiny_images(80)
    model.fit(images, labels, batch_size=BATCH, epochs=4, verbose=0, callbacks=[Faults(Progress())])
    assert capsys.readouterr().out.count("warning: for two epochs the loss") == warnings


def test_epochs_of_skipped_steps_are_not_taken_for_a_network_that_answers_zero(capsys):
    faults = Faults(Progress())
    for epoch in range(3):
        faults.on_epoch_end(epoch, {"loss": 0.0, "zero_loss": 0.0})
    assert capsys.readouterr().out == ""
