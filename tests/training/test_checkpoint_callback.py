"""When checkpoints are written, and which one is the best; without a training."""

from types import SimpleNamespace

import pytest
import tensorflow as tf
from fixtures_runs import tiny_run

from keras_diffusion.runtime.signals import Pending
from keras_diffusion.saving.checkpoints import Progress
from keras_diffusion.training import checkpoint_callback
from keras_diffusion.training.checkpoint_callback import CheckpointCallback


class Model(SimpleNamespace):
    """As much of a model as the callback uses."""

    def __init__(self):
        optimizer = SimpleNamespace(learning_rate=tf.Variable(0.5))
        means = [tf.Variable(0.25), tf.Variable(4.0)]
        super().__init__(optimizer=optimizer, skipped_steps=tf.Variable(0), metrics_variables=means)


@pytest.fixture
def clock(monkeypatch):
    """A clock, and saves that take `clock.cost` seconds and are noted in `clock.saved`."""
    clock = SimpleNamespace(now=1000.0, cost=0.0, saved=[])

    def save(model, progress, directory, batches, keep):
        clock.now += clock.cost
        clock.saved.append((batches, progress.means))

    monkeypatch.setattr(checkpoint_callback, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(checkpoint_callback.checkpoints, "save", save)
    return clock


def callback_of(folder, progress=None, model=None, **options):
    data = SimpleNamespace(steps_per_epoch=100)
    run = tiny_run(folder, data, checkpoint_minutes=options.pop("minutes", 10.0), **options)
    callback = CheckpointCallback(
        run, progress or Progress(), SimpleNamespace(seconds=77.0), Pending()
    )
    callback.set_model(model or Model())
    return callback


def epoch(callback, clock, seconds, val_loss=0.5, **logs):
    """One epoch of 100 batches; returns the batches at which it saved."""
    clock.saved.clear()
    callback.on_epoch_begin(0)
    for batch in range(100):
        clock.now += seconds / 100
        callback.on_train_batch_end(batch)
    callback.on_test_begin()
    callback.on_test_batch_end(0)
    callback.on_epoch_end(0, {"loss": 1.0, "val_loss": val_loss, **logs})
    return [batches for batches, _ in clock.saved]


def test_long_epochs_save_every_few_minutes_too(tmp_path, clock):
    callback = callback_of(tmp_path, minutes=10.0)
    assert epoch(callback, clock, seconds=2000) == [30, 60, 90, 100]
    assert [means for _, means in clock.saved] == [[0.25, 4.0]] * 3 + [None]
    assert callback.progress.means is None
    assert epoch(callback, clock, seconds=599) == [200]
    assert callback.progress.seconds == 77


@pytest.mark.parametrize(("seconds", "cost"), [(1.0, 0.5), (0.1, 2.0)])
def test_short_epochs_do_not_spend_their_time_on_saves(tmp_path, clock, monkeypatch, seconds, cost):
    monkeypatch.setattr(checkpoint_callback, "write_history", lambda *_: None)
    callback = callback_of(tmp_path)
    clock.cost = cost
    started, spent = clock.now, 0
    for _ in range(400):
        spent += cost * len(epoch(callback, clock, seconds))
    share = spent / (clock.now - started)
    assert 0.03 < share <= 0.05 + cost / (clock.now - started)
    callback.on_train_end()
    assert callback._saved == callback.batches, "the end is always saved"


def test_the_end_of_an_epoch_is_saved_once_however_short_after_another(tmp_path, clock):
    callback = callback_of(tmp_path, minutes=10.0)
    clock.cost = 5.0
    assert epoch(callback, clock, seconds=1250) == [48, 96, 100]
    callback.on_train_end()
    assert len(clock.saved) == 3


def test_the_best_epoch_is_that_of_the_lowest_value(tmp_path, clock):
    callback = callback_of(tmp_path)
    best = []
    for val_loss in (float("nan"), 0.5, 0.3, 0.4, 0.3, float("nan"), 0.2):
        epoch(callback, clock, 60, val_loss)
        best.append((callback.progress.best or {}).get("batches"))
    assert best == [None, 200, 300, 300, 300, 300, 700]
    assert callback.progress.best == {"val_loss": 0.2, "batches": 700}


def test_scores_decide_the_best_epoch_and_are_saved_however_expensive(tmp_path, clock):
    progress = Progress(best={"val_loss": 0.1, "batches": 3})  # of a session without scores
    callback = callback_of(tmp_path, progress, score_every=2)
    clock.cost = 1000.0
    assert epoch(callback, clock, 60) == [100]
    assert epoch(callback, clock, 60) == []
    assert progress.best == {"val_loss": 0.1, "batches": 3}
    assert epoch(callback, clock, 60, fid=70.0) == [300]
    assert progress.best == {"fid": 70.0, "batches": 300}


def test_a_checkpoint_within_an_epoch_is_not_the_best(tmp_path, clock):
    callback = callback_of(tmp_path, Progress(history=[{"val_loss": 0.1}], epoch=1))
    clock.now += 600
    callback.on_train_batch_end(0)
    assert clock.saved and callback.progress.best is None
