import io
import re
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.util import event_pb2

from keras_diffusion import DiffusionModel
from keras_diffusion.networks import unet
from keras_diffusion.saving.checkpoints import Progress
from keras_diffusion.training import callbacks
from keras_diffusion.training.callbacks import (
    Budget,
    Faults,
    ProgressBar,
    SampleGrid,
    TrainingStopped,
)

SHAPE = (4, 4, 1)
IMAGES = np.random.default_rng(0).integers(0, 256, (16, *SHAPE), np.uint8)


@pytest.fixture(scope="module")
def model():
    """Trained on by the tests of this file, two batches an epoch."""
    keras.utils.set_random_seed(0)
    network = unet(SHAPE, widths=(4,), attention=(False,), embedding_width=8)
    model = DiffusionModel(network)
    model.compile(keras.optimizers.Adam(1e-3))
    return model


def fit(model, *used, **options):
    return model.fit(IMAGES, **{"batch_size": 8, "verbose": 0, "callbacks": list(used), **options})


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture
def clock(monkeypatch):
    """A clock for callbacks.py that stands still until it is told to `clock.now += 1`."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


class Ticking(keras.callbacks.Callback):
    """Lets every batch take some seconds."""

    def __init__(self, clock, seconds):
        super().__init__()
        self.clock = clock
        self.seconds = seconds
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.clock.now += self.seconds
        self.batches += 1


# SampleGrid


def images_of(log_dir):
    """Pictures in TensorBoard's event files, {(tag, step): array}."""
    found = {}
    for file in sorted(log_dir.glob("events.*")):
        for record in tf.data.TFRecordDataset([str(file)]).as_numpy_iterator():
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                _, _, png = tf.make_ndarray(value.tensor)
                found[value.tag, event.step] = tf.io.decode_png(png).numpy()
    return found


def test_a_grid_each_epoch_as_file_and_in_tensorboard(model, tmp_path):
    grid = SampleGrid(tmp_path / "samples", num_images=4, log_dir=tmp_path / "logs", num_steps=2)
    fit(model, grid, epochs=3)
    files = sorted((tmp_path / "samples").iterdir())
    assert [f.name for f in files] == ["epoch-0001.png", "epoch-0002.png", "epoch-0003.png"]
    logged = images_of(tmp_path / "logs")
    assert sorted(step for _, step in logged) == [0, 1, 2]
    assert all("samples" in tag for tag, _ in logged)
    for (_, step), picture in logged.items():
        np.testing.assert_array_equal(read(files[step]), picture[..., 0])


def test_the_same_noise_each_time(model, tmp_path):
    grid = SampleGrid(tmp_path, num_images=4, num_steps=2)
    grid.set_model(model)
    first, second = (read(grid.draw(epoch)) for epoch in (0, 1))
    np.testing.assert_array_equal(first, second)
    other = SampleGrid(tmp_path, num_images=4, num_steps=2, seed=1)
    other.set_model(model)
    assert (read(other.draw(2)) != first).any()


class FakeModel:
    """Draws white pictures; one takes `cost` seconds."""

    def __init__(self, num_classes=0, clock=None, cost=0.0):
        self.num_classes = num_classes
        self.clock = clock
        self.cost = cost
        self.calls = []

    def generate(self, num_images, **options):
        self.calls.append((num_images, options))
        if self.clock:
            self.clock.now += self.cost
        return np.zeros((num_images, 600, 600, 1), np.uint8)


def test_every_few_epochs_with_the_options_of_generate(tmp_path):
    fake = FakeModel()
    grid = SampleGrid(tmp_path, num_images=2, every=3, sampler="ddim", num_steps=7)
    grid.set_model(fake)
    grid.on_train_begin()
    for epoch in range(7):
        grid.on_epoch_end(epoch)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["epoch-0003.png", "epoch-0006.png"]
    assert fake.calls == [(2, {"sampler": "ddim", "num_steps": 7})] * 2


@pytest.mark.parametrize(
    ("num_classes", "num_images", "columns"),
    [(0, 9, 3), (3, 6, 3), (5, 10, 5), (5, 4, 2), (1, 4, 2), (102, 4, 2)],
)
def test_few_classes_are_columns(tmp_path, num_classes, num_images, columns):
    grid = SampleGrid(tmp_path, num_images=num_images)
    grid.set_model(FakeModel(num_classes))
    assert read(grid.draw(0)).shape[1] == columns * (600 + 37) + 37


def test_max_share_bounds_the_time_of_grids(tmp_path, clock):
    fake = FakeModel(clock=clock, cost=10.0)
    grid = SampleGrid(tmp_path, num_images=1, max_share=0.1)
    grid.set_model(fake)
    grid.on_train_begin()
    began = clock.now
    for epoch in range(100):
        clock.now += 20.0
        grid.on_epoch_end(epoch)
    assert (tmp_path / "epoch-0001.png").exists(), "the first grid is always drawn"
    count, elapsed = len(fake.calls), clock.now - began
    assert 0.05 * elapsed < 10.0 * count <= 0.1 * elapsed + 10.0


# Budget


def budget_of(iterations=0, **options):
    budget = Budget(0.5, **options)
    optimizer = SimpleNamespace(iterations=tf.Variable(iterations), learning_rate=None)
    budget.set_model(SimpleNamespace(optimizer=optimizer, stop_training=False))
    return budget


def test_learning_rate_rises_to_its_peak_and_falls_to_a_hundredth():
    budget = budget_of(total_steps=100, warmup=0.2)
    corners = {0.0: 0.01, 0.05: 0.25, 0.1: 0.5, 0.2: 1.0, 0.6: 0.505, 1.0: 0.01}
    for progress, factor in corners.items():
        assert budget.factor(progress) == pytest.approx(factor), progress
    curve = [budget.factor(p) for p in np.linspace(0, 1, 1001)]
    assert np.abs(np.diff(curve)).max() < 0.01, "a jump"
    assert (np.diff(curve[:201]) >= 0).all()
    assert (np.diff(curve[200:]) < 0).all()
    assert budget_of(total_steps=100, warmup=0.0).factor(0.0) == 1


def test_steps_are_counted_by_the_optimizer():
    for iterations, progress, rate in ((0, 0, 0.005), (20, 0.2, 0.5), (100, 1, 0.005)):
        budget = budget_of(iterations, total_steps=100, warmup=0.2)
        assert budget.progress == pytest.approx(progress)
        budget.on_train_begin()
        budget.on_train_batch_begin(0)
        assert budget.model.optimizer.learning_rate == pytest.approx(rate)
        budget.on_train_batch_end(0)
        assert not budget.model.stop_training, "fit counts epochs itself"
    assert budget_of(150, total_steps=100).progress == 1


def test_minutes_are_counted_by_the_clock(clock):
    budget = budget_of(minutes=10, seconds=60.0)
    assert budget.seconds == 60
    budget.on_train_begin()
    for seconds, progress in ((0, 0.1), (240, 0.5), (300, 1.0)):
        clock.now += seconds
        assert budget.progress == pytest.approx(progress)
        budget.on_train_batch_end(0)
        assert budget.model.stop_training is (progress == 1)
    assert budget.seconds == 600


@pytest.mark.parametrize("iterations, rates", [(0, (0.005, 0.25)), (5, (0.5, 0.5))])
def test_the_warm_up_begins_with_the_first_step_of_all(clock, iterations, rates):
    budget = budget_of(iterations, minutes=10, seconds=60.0, warmup=0.1)
    budget.on_train_begin()
    for rate in rates:
        budget.on_train_batch_begin(0)
        assert budget.model.optimizer.learning_rate == pytest.approx(rate, rel=0.01)
        clock.now += 30


def test_minutes_end_a_fit_in_the_middle_of_an_epoch(model, clock):
    ticking = Ticking(clock, seconds=12)
    budget = Budget(1e-3, minutes=1)
    fit(model, ticking, budget, epochs=callbacks.UNLIMITED_EPOCHS)
    assert ticking.batches == 5
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3 * budget.factor(0.8))


@pytest.mark.parametrize("lengths", [{}, {"minutes": 1, "total_steps": 1}])
def test_a_budget_is_of_minutes_or_of_steps(lengths):
    with pytest.raises(ValueError, match="total_steps or minutes"):
        Budget(1e-3, **lengths)


class ChiefsVotes:
    """As another worker hears the chief, whose clock is 90 seconds ahead."""

    def of_chief(self, values):
        return [value + 90 for value in values]


def test_workers_go_by_the_clock_of_the_chief(clock):
    budget = budget_of(minutes=2, votes=ChiefsVotes())
    budget.on_train_begin()
    for seconds, progress in ((0, 0.75), (29, 0.991667), (2, 1.0)):
        clock.now += seconds
        assert budget.progress == pytest.approx(progress, abs=1e-6)
        budget.on_train_batch_end(0)
        assert budget.model.stop_training is (progress == 1)
    assert budget.seconds == 31, "what it has trained itself"


def test_a_second_fit_goes_on_with_the_same_time(clock):
    # The rest of a begun epoch is a `fit` of its own.
    budget = budget_of(minutes=1, seconds=5.0)
    for _ in range(2):
        budget.on_train_begin()
        clock.now += 10
    assert budget.seconds == 25


# Faults


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
    message = "10 steps in a row had a gradient that is not finite; .*learning rate"
    with pytest.raises(TrainingStopped, match=message):
        step(faults, skipped=True)


def test_skipped_steps_in_a_row_are_counted_over_a_resume():
    faults, _ = faults_of(skipped=8, skipped_in_a_row=8)
    step(faults, skipped=True)
    with pytest.raises(TrainingStopped, match="10 steps"):
        step(faults, skipped=True)
    faults, progress = faults_of(skipped=8, skipped_in_a_row=8)
    step(faults, skipped=False)
    assert progress.skipped_in_a_row == 0


def warned(capsys, losses, zero_loss=0.8):
    """Ends epochs with these losses; returns in which of them there was a warning."""
    faults, _ = faults_of()
    epochs = []
    for epoch, loss in enumerate(losses):
        faults.on_epoch_end(epoch, {"loss": loss, "zero_loss": zero_loss})
        printed = capsys.readouterr().out
        if printed:
            assert re.search(r"warning: for two epochs the loss, 0\.(80|79)", printed)
            epochs.append(epoch)
    return epochs


@pytest.mark.parametrize(
    ("losses", "epochs"),
    [
        ([0.8, 0.8, 0.8, 0.8], [1]),  # once
        ([0.801, 0.7989], [1]),  # to within rounding of what the network answers
        ([0.8, 0.79, 0.8, 0.79], []),
        ([0.5, 0.8, 0.8], [2]),
        ([0.8, 0.8, 0.5, 0.8, 0.8], [1, 4]),
        ([0.803, 0.803, 0.797, 0.797], []),
    ],
)
def test_a_loss_as_of_the_answer_zero_is_warned_of(capsys, losses, epochs):
    assert warned(capsys, losses) == epochs


# ProgressBar


def test_it_is_watched_in_terminals_and_notebooks(monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    for stream, watched in ((io.StringIO(), False), (object(), False), (None, False)):
        monkeypatch.setattr(sys, "stdout", stream)
        assert callbacks.is_watched() == watched
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
    assert callbacks.is_watched()
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
    assert callbacks.is_watched()


def test_progress_shows_losses_and_speed_alone(model, capsys, clock, monkeypatch):
    monkeypatch.setattr(callbacks, "is_watched", lambda: True)
    options = {"validation_data": (IMAGES,), "validation_batch_size": 8, "verbose": 1}
    fit(model, Ticking(clock, 0.5), ProgressBar(batch_size=8), epochs=2, **options)
    shown = capsys.readouterr().out
    assert "Epoch 2/2" in shown
    assert set(re.findall(r"- (\S+):", shown)) == {"loss", "val_loss", "images/s"}
    last = shown.rstrip().splitlines()[-1]
    assert float(re.search(r"images/s: (\S+)", last)[1]) == pytest.approx(16)


def test_progress_of_a_run_without_a_last_epoch(model, capsys, clock, monkeypatch):
    monkeypatch.setattr(callbacks, "is_watched", lambda: True)
    used = Ticking(clock, 15), Budget(1e-3, minutes=1), ProgressBar(batch_size=8)
    fit(model, *used, epochs=callbacks.UNLIMITED_EPOCHS, verbose=1)
    shown = capsys.readouterr().out
    assert re.findall(r"Epoch .*", shown) == ["Epoch 1", "Epoch 2"]


def test_progress_in_a_file_is_a_line_for_each_epoch(model, capsys, monkeypatch):
    lines = {}
    for watched in (True, False):
        monkeypatch.setattr(callbacks, "is_watched", lambda watched=watched: watched)
        fit(model, ProgressBar(batch_size=8), epochs=2, verbose=1)
        shown = capsys.readouterr().out
        lines[watched] = [line for line in re.split(r"[\r\n]", shown) if "loss" in line]
    assert len(lines[False]) == 2 < len(lines[True])
    assert "\b" not in "".join(lines[False])


def test_progress_with_a_coarse_clock(capsys, clock, monkeypatch):
    # Batches of a small network are quicker than Windows' monotonic clock ticks.
    monkeypatch.setattr(callbacks, "is_watched", lambda: True)
    progress = ProgressBar(batch_size=8)
    progress.set_params({"verbose": 1, "epochs": 1, "steps": 2})
    progress.on_train_begin()
    progress.on_epoch_begin(0)
    progress.on_train_batch_end(0, {"loss": 1.0})
    assert "loss" in capsys.readouterr().out


def test_a_plateau_ends_the_training():
    progress = Progress()
    plateau = callbacks.Plateau(progress, patience=2, name="val_x")
    plateau.set_model(keras.Sequential())
    stopped = []
    for value in (5.0, 4.0, 4.5, 3.0, 3.0, 3.5):
        progress.history.append({"val_x": value} if value != 4.5 else {})
        plateau.model.stop_training = False
        plateau.on_epoch_end(len(stopped))
        stopped.append(plateau.model.stop_training)
    assert stopped == [False] * 5 + [True]
