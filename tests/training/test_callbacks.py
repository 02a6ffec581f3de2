import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.util import event_pb2

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
    """Generates gray images; a call takes `cost` seconds."""

    def __init__(self, num_classes=0, clock=None, cost=0.0):
        self.num_classes, self.clock, self.cost = num_classes, clock, cost
        self.calls = []

    def generate(self, num_images, **options):
        self.calls.append((num_images, options))
        if self.clock:
            self.clock.now += self.cost
        return np.full((num_images, 600, 600, 1), 50 * len(self.calls) % 256, np.uint8)


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def logged_images(log_dir):
    """Images in TensorBoard's event files, {step: array}."""
    images = {}
    for file in sorted(log_dir.glob("events.*")):
        for record in tf.data.TFRecordDataset([str(file)]).as_numpy_iterator():
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                assert "samples" in value.tag
                _, _, png = tf.make_ndarray(value.tensor)
                images[event.step] = tf.io.decode_png(png).numpy()
    return images


def test_grids_of_every_few_epochs_and_the_last_one_as_files_and_in_tensorboard(tmp_path):
    options = {"sampler": "ddim", "num_steps": 7}
    grid = SampleGrid(tmp_path, num_images=2, every=3, log_dir=tmp_path / "logs", **options)
    grid.set_model(FakeModel())
    grid.on_train_begin()
    for epoch in range(7):
        grid.on_epoch_end(epoch)
    grid.on_train_end()
    names = ["epoch-0003.png", "epoch-0006.png", "epoch-0007.png"]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == names
    assert grid.model.calls == [(2, options)] * 3
    logged = logged_images(tmp_path / "logs")
    assert sorted(logged) == [2, 5, 6]
    for name, step in zip(names, sorted(logged), strict=True):
        np.testing.assert_array_equal(read(tmp_path / name), logged[step][..., 0])


@pytest.mark.parametrize(
    ("num_classes", "num_images", "columns"), [(0, 9, 3), (3, 6, 3), (5, 4, 2), (102, 4, 2)]
)
def test_few_classes_are_columns(tmp_path, num_classes, num_images, columns):
    grid = SampleGrid(tmp_path, num_images=num_images)
    grid.set_model(FakeModel(num_classes))
    assert read(grid.save(0)).shape[1] // 600 == columns


def test_max_share_limits_the_time_of_grids(tmp_path, clock):
    fake = FakeModel(clock=clock, cost=10.0)
    grid = SampleGrid(tmp_path, num_images=1, max_share=0.1)
    grid.set_model(fake)
    grid.on_train_begin()
    started = clock.now
    for epoch in range(100):
        clock.now += 20.0
        grid.on_epoch_end(epoch)
    assert (tmp_path / "epoch-0001.png").exists(), "the first one is always written"
    count, elapsed = len(fake.calls), clock.now - started
    assert 0.05 * elapsed < 10.0 * count <= 0.1 * elapsed + 10.0


# Budget --------------------------------------------------------------------------------------


def budget_of(iterations=0, **options):
    budget = Budget(0.5, **options)
    optimizer = SimpleNamespace(iterations=tf.Variable(iterations), learning_rate=None)
    budget.set_model(SimpleNamespace(optimizer=optimizer, stop_training=False))
    return budget


def test_the_learning_rate_rises_to_its_peak_and_falls_to_a_hundredth():
    budget = budget_of(total_steps=100, warmup=0.2)
    corners = {0.0: 0.01, 0.05: 0.25, 0.1: 0.5, 0.2: 1.0, 0.6: 0.505, 1.0: 0.01}
    for progress, factor in corners.items():
        assert budget.factor(progress) == pytest.approx(factor), progress
    curve = [budget.factor(p) for p in np.linspace(0, 1, 1001)]
    assert np.abs(np.diff(curve)).max() < 0.01, "a jump"
    assert (np.diff(curve[:201]) >= 0).all()
    assert (np.diff(curve[200:]) < 0).all()
    assert budget_of(total_steps=100, warmup=0.0).factor(0.0) == 1


def test_steps_are_those_of_the_optimizer():
    for iterations, progress, rate in ((0, 0, 0.005), (20, 0.2, 0.5), (100, 1, 0.005)):
        budget = budget_of(iterations, total_steps=100, warmup=0.2)
        assert budget.progress == pytest.approx(progress)
        budget.on_train_begin()
        budget.on_train_batch_begin(0)
        assert budget.model.optimizer.learning_rate == pytest.approx(rate)
        budget.on_train_batch_end(0)
        assert not budget.model.stop_training, "fit counts epochs itself"
    assert budget_of(150, total_steps=100).progress == 1


def test_minutes_are_those_of_the_clock_over_all_sessions(clock):
    budget = budget_of(minutes=10, seconds=60.0)
    assert budget.seconds == 60
    for _ in range(2):  # the rest of a begun epoch is a `fit` of its own
        budget.on_train_begin()
    for seconds, progress in ((0, 0.1), (240, 0.5), (300, 1.0)):
        clock.now += seconds
        assert budget.progress == pytest.approx(progress)
        budget.on_train_batch_end(0)
        assert budget.model.stop_training is (progress == 1)
    assert budget.seconds == 600


@pytest.mark.parametrize(("iterations", "rates"), [(0, (0.005, 0.25)), (5, (0.5, 0.5))])
def test_the_warmup_starts_with_the_first_of_all_steps(clock, iterations, rates):
    budget = budget_of(iterations, minutes=10, seconds=60.0, warmup=0.1)
    budget.on_train_begin()
    for rate in rates:
        budget.on_train_batch_begin(0)
        assert budget.model.optimizer.learning_rate == pytest.approx(rate, rel=0.01)
        clock.now += 30


def test_minutes_end_a_fit_within_an_epoch(model, clock):
    ticking, budget = Ticking(clock, seconds=12), Budget(1e-3, minutes=1)
    fit(model, ticking, budget, epochs=callbacks.UNLIMITED_EPOCHS)
    assert ticking.batches == 5
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3 * budget.factor(0.8))


@pytest.mark.parametrize("lengths", [{}, {"minutes": 1, "total_steps": 1}])
def test_a_budget_is_of_minutes_or_of_steps(lengths):
    with pytest.raises(ValueError, match="total_steps or minutes"):
        Budget(1e-3, **lengths)


def test_workers_use_the_clock_of_the_chief(clock):
    ahead = SimpleNamespace(of_chief=lambda values: [value + 90 for value in values])
    budget = budget_of(minutes=2, votes=ahead)
    budget.on_train_begin()
    for seconds, progress in ((0, 0.75), (29, 0.991667), (2, 1.0)):
        clock.now += seconds
        assert budget.progress == pytest.approx(progress, abs=1e-6)
        budget.on_train_batch_end(0)
        assert budget.model.stop_training is (progress == 1)
    assert budget.seconds == 31, "its own time"


# Faults --------------------------------------------------------------------------------------


def faults_of(skipped=0, **options):
    progress = Progress(**options)
    faults = Faults(progress)
    faults.set_model(SimpleNamespace(skipped_steps=tf.Variable(skipped)))
    faults.on_train_begin()
    return faults, progress


def step(faults, skipped):
    faults.model.skipped_steps.assign_add(int(skipped))
    faults.on_train_batch_end(0)


def test_ten_skipped_steps_in_a_row_end_the_training():
    faults, progress = faults_of(skipped=7)
    for skipped in [True] * 9 + [False] + [True] * 9:
        step(faults, skipped)
    assert progress.skipped_in_a_row == 9
    with pytest.raises(TrainingStopped, match="10 steps in a row"):
        step(faults, skipped=True)


def test_skipped_steps_in_a_row_are_counted_over_a_resume():
    faults, _ = faults_of(skipped=8, skipped_in_a_row=8)
    step(faults, skipped=True)
    with pytest.raises(TrainingStopped, match="10 steps"):
        step(faults, skipped=True)
    faults, progress = faults_of(skipped=8, skipped_in_a_row=8)
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
    ],
)
def test_a_loss_like_that_of_the_output_zero_gives_a_warning(capsys, losses, warned):
    faults, _ = faults_of()
    epochs = []
    for epoch, loss in enumerate(losses):
        faults.on_epoch_end(epoch, {"loss": loss, "zero_loss": 0.8})
        if "warning: for two epochs the loss" in capsys.readouterr().out:
            epochs.append(epoch)
    assert epochs == warned


def test_epochs_of_skipped_steps_give_no_warning(capsys):
    faults, _ = faults_of()
    for epoch in range(3):
        faults.on_epoch_end(epoch, {"loss": 0.0, "zero_loss": 0.0})
    assert capsys.readouterr().out == ""


# Plateau and ProgressBar ---------------------------------------------------------------------


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
    assert Plateau(progress, 2, "val_x").is_reached, "so has a resumed run"


def test_the_progress_bar_shows_losses_and_speed_only(model, capsys, clock, monkeypatch):
    monkeypatch.setattr(callbacks, "is_watched", lambda: True)
    data = np.ones((16, 1))
    options = {"validation_data": (data, data), "verbose": 1}
    fit(model, Ticking(clock, 0.5), ProgressBar(batch_size=8), epochs=2, **options)
    printed = capsys.readouterr().out
    assert "Epoch 2/2" in printed
    assert set(re.findall(r"- (\S+):", printed)) == {"loss", "val_loss", "images/s"}
    last = printed.rstrip().splitlines()[-1]
    assert float(re.search(r"images/s: (\S+)", last)[1]) == pytest.approx(16)


def test_the_epochs_of_a_run_of_minutes_are_not_counted_down(model, capsys, clock, monkeypatch):
    monkeypatch.setattr(callbacks, "is_watched", lambda: True)
    used = Ticking(clock, 15), Budget(1e-3, minutes=1), ProgressBar(batch_size=8)
    fit(model, *used, epochs=callbacks.UNLIMITED_EPOCHS, verbose=1)
    assert re.findall(r"Epoch .*", capsys.readouterr().out) == ["Epoch 1", "Epoch 2"]


def test_a_file_gets_one_line_per_epoch(model, capsys, monkeypatch):
    lines = {}
    for watched in (True, False):
        monkeypatch.setattr(callbacks, "is_watched", lambda watched=watched: watched)
        fit(model, ProgressBar(batch_size=8), epochs=2, verbose=1)
        printed = re.split(r"[\r\n]", capsys.readouterr().out)
        lines[watched] = [line for line in printed if "loss" in line]
    assert len(lines[False]) == 2 < len(lines[True])
    assert "\b" not in "".join(lines[False])
