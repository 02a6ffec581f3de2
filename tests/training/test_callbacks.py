import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.util import event_pb2

from keras_diffusion.runtime import console
from keras_diffusion.saving.checkpoints import Progress
from keras_diffusion.training import callbacks
from keras_diffusion.training.callbacks import (
    Budget,
    Faults,
    Plateau,
    ProgressBar,
    SampleGrid,
    TrainingStopped,
)


@pytest.fixture
def clock(monkeypatch):
    """A clock for callbacks.py that changes only by `clock.now += 1`."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


class Ticking(keras.callbacks.Callback):
    """Makes every batch take some seconds."""

    def __init__(self, clock, seconds):
        super().__init__()
        self.clock, self.seconds, self.batches = clock, seconds, 0

    def on_train_batch_end(self, batch, logs=None):
        self.clock.now += self.seconds
        self.batches += 1


@pytest.fixture(scope="module")
def model():
    """Any Keras model."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    return model


def fit(model, *used, **options):
    """Two batches per epoch."""
    data, options = np.ones((16, 1)), {"verbose": 0, **options}
    return model.fit(data, data, batch_size=8, callbacks=list(used), **options)


# SampleGrid ----------------------------------------------------------------------------------


class FakeModel:
    """Generates gray images; a call takes `seconds` on a clock."""

    def __init__(self, num_classes=0, clock=None, seconds=0.0):
        self.num_classes, self.clock, self.seconds = num_classes, clock, seconds
        self.calls = []

    def generate(self, num_images, **options):
        self.calls.append((num_images, options))
        self.clock.now += self.seconds
        return np.full((num_images, 600, 600, 1), 50 * len(self.calls), np.uint8)


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_grids_of_every_few_epochs_and_the_last_one_as_files_and_in_tensorboard(tmp_path, clock):
    options = {"sampler": "ddim", "num_steps": 7}
    grid = SampleGrid(tmp_path, 2, every=3, log_dir=tmp_path / "logs", max_share=0.1, **options)
    grid.set_model(FakeModel(0, clock, seconds=40))
    grid.on_train_begin()
    for epoch in range(11):
        clock.now += 50  # in epoch 9 the second grid has taken 40 s, another one is too much
        grid.on_epoch_end(epoch)
    grid.on_train_end()
    names = ["epoch-0003.png", "epoch-0006.png", "epoch-0011.png"]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == names
    assert grid.model.calls == [(2, options)] * 3
    [log] = (tmp_path / "logs").glob("events.*")
    _, *records = tf.data.TFRecordDataset([str(log)]).as_numpy_iterator()
    for name, step, record in zip(names, (2, 5, 10), records, strict=True):
        event = event_pb2.Event.FromString(record)
        _, _, png = tf.make_ndarray(event.summary.value[0].tensor)
        assert event.step == step
        np.testing.assert_array_equal(read(tmp_path / name), tf.io.decode_png(png)[..., 0])


@pytest.mark.parametrize(("num_classes", "columns"), [(0, 2), (3, 3), (5, 2), (102, 2)])
def test_few_classes_are_columns(tmp_path, clock, num_classes, columns):
    grid = SampleGrid(tmp_path, num_images=4)
    grid.set_model(FakeModel(num_classes, clock))
    assert read(grid.save(0)).shape[1] // 600 == columns


# Budget --------------------------------------------------------------------------------------


def budget_of(step=0, **options):
    budget = Budget(0.5, **options)
    optimizer = SimpleNamespace(learning_rate=None)
    model = SimpleNamespace(optimizer=optimizer, step=tf.Variable(step), stop_training=False)
    budget.set_model(model)
    return budget


def test_the_learning_rate_rises_to_its_peak_and_falls_to_a_hundredth():
    budget = budget_of(total_steps=100, warmup=0.2)
    corners = {0.0: 0.01, 0.05: 0.25, 0.1: 0.5, 0.2: 1.0, 0.6: 0.505, 1.0: 0.01}
    for progress, factor in corners.items():
        assert budget.factor(progress) == pytest.approx(factor), progress
    curve = [budget.factor(p) for p in np.linspace(0, 1, 1001)]
    assert np.abs(np.diff(curve)).max() < 0.01, "a jump"
    assert (np.diff(curve[:201]) >= 0).all() and (np.diff(curve[200:]) < 0).all()
    assert budget_of(total_steps=100, warmup=0.0).factor(0.0) == 1
    for lengths in ({}, {"minutes": 1, "total_steps": 1}):
        with pytest.raises(ValueError, match="total_steps or minutes"):
            budget_of(**lengths)


def test_steps_are_those_of_the_model():
    for step, progress, rate in ((0, 0, 0.005), (20, 0.2, 0.5), (150, 1, 0.005)):
        budget = budget_of(step, total_steps=100, warmup=0.2)
        assert budget.progress == pytest.approx(progress)
        budget.on_train_begin()
        budget.on_train_batch_begin(0)
        assert budget.model.optimizer.learning_rate == pytest.approx(rate)
        budget.on_train_batch_end(0)
        assert not budget.model.stop_training, "fit counts epochs itself"


@pytest.mark.parametrize("ahead", [None, 90])
def test_minutes_are_those_of_all_sessions_by_the_clock_of_the_chief(clock, ahead):
    votes = ahead and SimpleNamespace(of_chief=lambda values: [value + ahead for value in values])
    budget = budget_of(minutes=10, seconds=60.0, votes=votes)
    budget.on_train_begin()
    clock.now += 1000  # the first step, which TensorFlow traces
    budget.on_train_batch_end(0)
    budget.on_train_begin()  # the rest of a begun epoch is a `fit` of its own
    for seconds, progress in ((0, 60), (240, 300), (200, 500), (100, 600)):
        clock.now += seconds
        progress = min(1, (progress + (ahead or 0)) / 600)
        assert budget.progress == pytest.approx(progress)
        budget.on_train_batch_end(0)
        assert budget.model.stop_training is (progress == 1)
    assert budget.seconds == 600


@pytest.mark.parametrize(("step", "rates"), [(0, (0.005, 0.25)), (5, (0.5, 0.5))])
def test_the_warmup_starts_with_the_first_of_all_steps(clock, step, rates):
    budget = budget_of(step, minutes=10, seconds=60.0, warmup=0.1)
    budget.on_train_begin()
    for rate in rates:
        budget.on_train_batch_begin(0)
        assert budget.model.optimizer.learning_rate == pytest.approx(rate, rel=0.01)
        budget.on_train_batch_end(0)
        clock.now += 30


# Faults and Plateau --------------------------------------------------------------------------


def faults_of(skipped=0, **options):
    progress = Progress(**options)
    faults = Faults(progress)
    faults.set_model(SimpleNamespace(skipped_steps=tf.Variable(skipped)))
    faults.on_train_begin()
    return faults, progress


def step(faults, skipped):
    faults.model.skipped_steps.assign_add(int(skipped))
    faults.on_train_batch_end(0)


def test_ten_skipped_steps_in_a_row_end_the_training_over_a_resume_too():
    faults, progress = faults_of(skipped=7)
    for skipped in [True] * 9 + [False] + [True] * 8:
        step(faults, skipped)
    assert progress.skipped_in_a_row == 8
    faults, progress = faults_of(skipped=8, skipped_in_a_row=8)
    step(faults, skipped=True)
    with pytest.raises(TrainingStopped, match="10 steps in a row"):
        step(faults, skipped=True)
    step(faults, skipped=False)
    assert progress.skipped_in_a_row == 0


@pytest.mark.parametrize(
    ("losses", "warned"),
    [
        ([0.8, 0.8, 0.8, 0.8], [1]),  # once
        ([0.801, 0.7989], [1]),  # up to rounding of the output
        ([0.8, 0.79, 0.8, 0.79], []),
        ([0.8, 0.8, 0.5, 0.8, 0.8], [1, 4]),
        ([0.803, 0.803, 0.797, 0.797], []),
        ([0.0, 0.0, 0.0], []),  # all steps were skipped
    ],
)
def test_a_loss_like_that_of_the_output_zero_gives_a_warning(capsys, losses, warned):
    faults, _ = faults_of()
    epochs = []
    for epoch, loss in enumerate(losses):
        faults.on_epoch_end(epoch, {"loss": loss, "zero_loss": 0.8 if loss else 0.0})
        if "warning: for two epochs the loss" in capsys.readouterr().out:
            epochs.append(epoch)
    assert epochs == warned


def test_a_plateau_ends_the_training():
    progress = Progress()
    plateau = Plateau(progress, patience=2, name="val_x")
    plateau.set_model(SimpleNamespace(stop_training=False))
    stopped = []
    for value in (5.0, 4.0, None, 3.0, 3.0, 3.5):
        progress.history.append({"val_x": value} if value else {})
        plateau.on_epoch_end(len(stopped))
        stopped.append(plateau.model.stop_training)
    assert stopped == [False] * 5 + [True]


# ProgressBar ---------------------------------------------------------------------------------


def test_the_progress_bar_shows_losses_speed_and_time_left(model, capsys, clock, monkeypatch):
    monkeypatch.setattr(console, "is_watched", lambda: True)
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: clock.now))
    data = np.ones((16, 1))
    model.optimizer.iterations.assign(0)
    budget = Budget(1e-3, total_steps=6)
    used = [Ticking(clock, 0.5), budget, ProgressBar(8, budget)]
    fit(model, *used, epochs=2, validation_data=(data, data), verbose=1)
    lines = re.split(r"[\r\n]+", capsys.readouterr().out)
    first, last = [line.rstrip() for line in lines if line.startswith("epoch ")][0::5][:2]
    assert re.fullmatch(r"epoch 1/2  1/2 \[={10}\.{10}\]  loss \S+", first), "it is traced"
    assert re.fullmatch(r"epoch 2/2  loss \S+  val_loss \S+  16 images/s  1 s left", last), lines


def test_minutes_end_a_fit_within_an_epoch_of_an_unknown_number(model, capsys, clock):
    ticking, budget = Ticking(clock, 12), Budget(1e-3, minutes=1)
    bar = ProgressBar(8, budget)
    fit(model, ticking, budget, bar, epochs=callbacks.UNLIMITED_EPOCHS, verbose=1)
    assert ticking.batches == 6, "the first one is not counted"
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3 * budget.factor(0.8))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1", "epoch 2", "epoch 3"]
    assert lines[0].endswith("  48 s left") and lines[-1].endswith("  0 s left")


def test_no_epoch_begins_if_the_validation_has_used_up_the_time(model, clock):
    class Validation(keras.callbacks.Callback):
        def on_test_end(self, logs=None):
            clock.now += 60

    data, ticking = np.ones((16, 1)), Ticking(clock, 1)
    used = [Validation(), ticking, Budget(1e-3, minutes=1)]
    fit(model, *used, epochs=callbacks.UNLIMITED_EPOCHS, validation_data=(data, data))
    assert ticking.batches == 2


def test_the_bar_of_a_resumed_epoch_is_that_of_the_whole_run(model, capsys, monkeypatch):
    monkeypatch.setattr(console, "is_watched", lambda: True)
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=iter(range(100)).__next__))
    bar = ProgressBar(8, all_epochs=50, done_before=6)
    fit(model, bar, epochs=1, verbose=1)
    fit(model, bar, initial_epoch=1, epochs=2, verbose=1)
    printed = capsys.readouterr().out
    assert "epoch 1/50  7/8 [" in printed and "epoch 1/50  loss" in printed
    assert "epoch 2/50  1/2 [" in printed


def test_a_file_gets_one_line_per_epoch(model, capsys, monkeypatch):
    monkeypatch.setattr(console, "is_watched", lambda: False)
    fit(model, ProgressBar(batch_size=8), epochs=2, verbose=1)
    printed = capsys.readouterr().out
    assert re.fullmatch(r"(epoch \d/2  loss .*\n){2}", printed)
