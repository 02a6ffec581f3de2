import json
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.util import event_pb2

from keras_diffusion import DiffusionModel, callbacks
from keras_diffusion.callbacks import Budget, Checkpoint, Progress, SampleGrid, newest_checkpoint
from keras_diffusion.networks import unet

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
    optimizer = SimpleNamespace(iterations=iterations, learning_rate=None)
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
    budget = budget_of(minutes=10, elapsed=60.0)
    assert budget.elapsed == 60
    budget.on_train_begin()
    for seconds, progress in ((0, 0.1), (240, 0.5), (300, 1.0)):
        clock.now += seconds
        assert budget.progress == pytest.approx(progress)
        budget.on_train_batch_end(0)
        assert budget.model.stop_training is (progress == 1)
    assert budget.elapsed == 600


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


# Checkpoint


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def checkpoint_of(model, folder, **options):
    return Checkpoint(folder, Budget(1e-3, total_steps=100), minutes=0, **options)


def test_the_last_few_are_kept(model, tmp_path):
    fit(model, checkpoint_of(model, tmp_path, keep=2), epochs=4)
    assert names_in(tmp_path) == [
        "epoch-0003.json",
        "epoch-0003.keras",
        "epoch-0004.json",
        "epoch-0004.keras",
    ]
    path, state = newest_checkpoint(tmp_path)
    assert path == tmp_path / "epoch-0004.keras"
    assert state["epochs"] == 4
    loaded = keras.models.load_model(path)
    assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations)
    for one, other in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_short_epochs_are_not_all_saved_but_the_last_is(model, tmp_path, clock):
    budget = Budget(1e-3, total_steps=100)
    checkpoint = Checkpoint(tmp_path, budget, keep=9, minutes=1)
    ticking = Ticking(clock, seconds=10)  # two batches, 20 seconds, an epoch
    fit(model, ticking, budget, checkpoint, epochs=7)
    assert names_in(tmp_path)[1::2] == [f"epoch-000{n}.keras" for n in (3, 6, 7)]
    assert [json.loads(p.read_text())["elapsed"] for p in sorted(tmp_path.glob("*.json"))] == [
        60,
        120,
        140,
    ]


class Saved:
    """A model whose saves are quick, and fail on request."""

    fail = False

    def save(self, path):
        with open(path, "w") as file:
            file.write("half" if self.fail else "whole")
        if self.fail:
            raise OSError("No space left on device")


@pytest.fixture
def saved(tmp_path):
    """Two checkpoints in a folder, and their callback."""
    checkpoint = Checkpoint(tmp_path, Budget(1e-3, total_steps=1), keep=2, minutes=0)
    checkpoint.set_model(Saved())
    for epoch in (0, 1):
        checkpoint.on_epoch_end(epoch)
    return checkpoint


def test_a_failed_save_leaves_the_old_ones(saved, tmp_path):
    saved.model.fail = True
    with pytest.raises(OSError, match="No space left"):
        saved.on_epoch_end(2)
    kept = [path.name for path in sorted(tmp_path.glob("epoch-*.keras"))]
    assert kept == ["epoch-0001.keras", "epoch-0002.keras"]
    path, state = newest_checkpoint(tmp_path)
    assert (path.name, path.read_text(), state["epochs"]) == ("epoch-0002.keras", "whole", 2)
    saved.model.fail = False
    saved.on_epoch_end(3)
    assert newest_checkpoint(tmp_path)[1]["epochs"] == 4
    assert not (tmp_path / "part.keras").exists()


def test_a_save_that_stops_before_its_last_move_is_no_checkpoint(saved, tmp_path, monkeypatch):
    def stop(*paths):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(callbacks.os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            saved.on_epoch_end(2)
    assert newest_checkpoint(tmp_path)[0].name == "epoch-0002.keras"


def test_nothing_is_saved_twice_or_without_an_epoch(saved, tmp_path):
    before = (tmp_path / "epoch-0002.keras").stat().st_mtime_ns
    saved.on_train_end()
    assert (tmp_path / "epoch-0002.keras").stat().st_mtime_ns == before
    Checkpoint(tmp_path / "other", saved.budget).on_train_end()
    assert not (tmp_path / "other").exists()


def test_epochs_are_ordered_as_numbers(saved, tmp_path):
    for epoch in (9997, 9998, 9999, 10000):
        saved.on_epoch_end(epoch)
    assert newest_checkpoint(tmp_path)[1]["epochs"] == 10001
    assert {path.name for path in tmp_path.glob("*.keras")} == {
        "epoch-10000.keras",
        "epoch-10001.keras",
    }


def test_no_checkpoint(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / "missing") is None
    (tmp_path / "epoch-0001.keras").write_text("of somebody else")
    assert newest_checkpoint(tmp_path) is None


def test_a_resumed_run_goes_on_where_it_stopped(model, tmp_path, clock):
    def sitting(model, epochs, state):
        budget = Budget(1e-3, total_steps=100, elapsed=state["elapsed"])
        used = Ticking(clock, 5), budget, Checkpoint(tmp_path, budget, minutes=0)
        history = fit(model, *used, initial_epoch=state["epochs"], epochs=epochs)
        return history.epoch

    before = int(model.optimizer.iterations)
    assert sitting(model, 2, {"epochs": 0, "elapsed": 0.0}) == [0, 1]
    clock.now += 1e6  # a night
    path, state = newest_checkpoint(tmp_path)
    assert state == {"epochs": 2, "elapsed": 20.0}
    resumed = keras.models.load_model(path)
    assert sitting(resumed, 3, state) == [2]
    path, state = newest_checkpoint(tmp_path)
    assert (path.name, state) == ("epoch-0003.keras", {"epochs": 3, "elapsed": 30.0})
    assert int(resumed.optimizer.iterations) == before + 6


# Progress


def test_progress_shows_losses_and_speed_alone(model, capsys, clock):
    options = {"validation_data": (IMAGES,), "validation_batch_size": 8, "verbose": 1}
    fit(model, Ticking(clock, 0.5), Progress(batch_size=8), epochs=2, **options)
    shown = capsys.readouterr().out
    assert "Epoch 2/2" in shown
    assert set(re.findall(r"- (\S+):", shown)) == {"loss", "val_loss", "images/s"}
    last = shown.rstrip().splitlines()[-1]
    assert float(re.search(r"images/s: (\S+)", last)[1]) == pytest.approx(16)


def test_progress_of_a_run_without_a_last_epoch(model, capsys, clock):
    used = Ticking(clock, 15), Budget(1e-3, minutes=1), Progress(batch_size=8)
    fit(model, *used, epochs=callbacks.UNLIMITED_EPOCHS, verbose=1)
    shown = capsys.readouterr().out
    assert re.findall(r"Epoch .*", shown) == ["Epoch 1", "Epoch 2"]


def test_progress_with_a_coarse_clock(capsys, clock):
    # Batches of a small network are quicker than Windows' monotonic clock ticks.
    progress = Progress(batch_size=8)
    progress.set_params({"verbose": 1, "epochs": 1, "steps": 2})
    progress.on_train_begin()
    progress.on_epoch_begin(0)
    progress.on_train_batch_end(0, {"loss": 1.0})
    assert "loss" in capsys.readouterr().out
