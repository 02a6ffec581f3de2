"""`fit`: order of the callbacks, exact resume at any step, faults."""

import csv
import os
import signal
from itertools import pairwise

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_runs import (
    STEPS,
    assert_same_state,
    state_of,
    tiny_data,
    tiny_model,
    tiny_run,
)

from keras_diffusion.models import metrics
from keras_diffusion.runtime import signals
from keras_diffusion.runtime.distribution import WorkerLost
from keras_diffusion.runtime.signals import Interrupted
from keras_diffusion.saving import checkpoints
from keras_diffusion.saving.checkpoints import Progress
from keras_diffusion.training import checkpoint_callback
from keras_diffusion.training.callbacks import Evaluator, Plateau, TrainingStopped
from keras_diffusion.training.fit import fit, naming_last_checkpoint


@pytest.fixture(autouse=True, scope="module")
def settings():
    """Saves every epoch; keeps TensorFlow from ordering sums anew in every trace."""
    before = tf.config.optimizer.get_experimental_options().get("arithmetic_optimization", True)
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_callback, "MAX_SHARE", float("inf"))
        yield
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": before})


@pytest.fixture(scope="module")
def data():
    return tiny_data()


def rows_of(folder):
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def saved(folder):
    return [path.name for path in checkpoints.list_checkpoints(folder / "checkpoints")]


def load(folder):
    _, model, progress = checkpoints.load(folder / "checkpoints", warn=pytest.fail)
    return model, progress


# Interrupted and resumed ---------------------------------------------------------------------


class SignalAt(keras.callbacks.Callback):
    """Sends this process a signal at (moment, epoch, batch) of a training."""

    def __init__(self, moment, signum):
        super().__init__()
        self.moment, self.signum, self.epoch = moment, signum, None

    def on_train_begin(self, logs=None):
        self._send("start", 0)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self._send("batch", batch)

    def on_test_batch_begin(self, batch, logs=None):
        self._send("validation", batch)

    def on_epoch_end(self, epoch, logs=None):
        self._send("preview", 0)  # after the checkpoint, like SampleGrid

    def _send(self, name, batch):
        if (name, self.epoch, batch) == self.moment:
            os.kill(os.getpid(), self.signum)


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """(state, history, history.csv) at the end of an uninterrupted run."""
    run = tiny_run(tmp_path_factory.mktemp("whole"), data)
    model, progress = tiny_model(), Progress()
    fit(run, model, progress)
    assert [row["epoch"] for row in progress.history] == [1, 2, 3]
    assert int(model.optimizer.iterations) == 3 * STEPS
    return state_of(model), progress.history, (run.dir / "history.csv").read_bytes()


def test_a_run_that_is_interrupted_again_and_again_ends_with_the_same_bits(
    data, tmp_path, uninterrupted
):
    """At each moment in turn; (epoch, steps in it) is where the run then stands."""
    moments = [  # the batches of a resumed epoch are counted from where it resumes
        (("start", None, 0), (0, 0)),
        (("batch", 0, 0), (0, 1)),
        (("batch", 0, 1), (0, 3)),
        (("batch", 0, 1), (0, STEPS)),
        (("validation", 0, 0), (0, STEPS)),
        (("preview", 0, 0), (1, 0)),
        (("validation", 1, 1), (1, STEPS)),
        (("batch", 2, STEPS - 1), (2, STEPS)),
    ]
    run, model, progress = tiny_run(tmp_path, data), tiny_model(), Progress()
    handlers = [signal.getsignal(number) for number in signals.NAMES]
    for number, (moment, stands) in enumerate(moments):
        signum = (signal.SIGTERM, signal.SIGINT)[number % 2]
        with pytest.raises(Interrupted) as stop:
            fit(run, model, progress, [SignalAt(moment, signum)])
        assert stop.value.signum == signum
        assert [signal.getsignal(number) for number in signals.NAMES] == handlers
        assert (progress.epoch, progress.step) == stands, number
        assert saved(run.dir)[-1] == f"step-{STEPS * stands[0] + stands[1]:08d}.keras"
        before = state_of(model)
        model, progress = load(run.dir)
        assert (progress.epoch, progress.step) == stands
        assert_same_state(state_of(model), before)
    fit(run, model, progress)
    assert_same_state(state_of(model), uninterrupted[0])
    assert progress.history == uninterrupted[1]
    assert (run.dir / "history.csv").read_bytes() == uninterrupted[2]
    assert saved(run.dir)[-1] == f"step-{3 * STEPS:08d}.keras"


# Callbacks -----------------------------------------------------------------------------------


class Score(Evaluator):
    def on_epoch_end(self, epoch, logs=None):
        logs["fid"] = 9.0 - epoch


def events_of(progress):
    """(callback, calls): its calls, and the number of epochs in the history at their ends."""
    calls = []

    def note(call):
        return lambda *_, **__: calls.append(call)

    events = keras.callbacks.LambdaCallback(
        on_train_begin=note("train begin"),
        on_epoch_begin=lambda epoch, logs: calls.append(f"epoch {epoch}"),
        on_train_batch_end=note("batch"),
        on_test_end=note("validation"),
        on_epoch_end=lambda epoch, logs: calls.append(f"{len(progress.history)} in history"),
        on_train_end=note("train end"),
    )
    return events, calls


def test_evaluators_come_before_the_checkpoint_and_all_others_after_it(data, tmp_path):
    progress = Progress()
    events, calls = events_of(progress)
    run = tiny_run(tmp_path, data, epochs=2, score_every=1)
    fit(run, tiny_model(), progress, [events, Score()])  # whatever their order
    epochs = [
        [f"epoch {epoch}", *["batch"] * STEPS, "validation", f"{epoch + 1} in history"]
        for epoch in (0, 1)
    ]
    assert calls == ["train begin", *epochs[0], *epochs[1], "train end"]
    rows = rows_of(tmp_path)
    assert list(rows[0])[:3] == ["epoch", "learning_rate", "skipped"]
    assert {"loss", "zero_loss", "val_loss", "val_zero_loss", "loss_t0-25"} <= set(rows[0])
    assert [row["fid"] for row in rows] == ["9.0", "8.0"]
    assert rows == [{k: str(v) for k, v in row.items()} for row in progress.history]
    assert progress.best == {"fid": 8.0, "batches": 2 * STEPS}
    assert float(rows[0]["learning_rate"]) > float(rows[1]["learning_rate"]) > 0
    for row in progress.history:
        assert row["gradient_norm"] > 0 and row["val_raw_excess"] != 0
        assert "raw_excess" not in row and "val_gradient_norm" not in row


def test_an_epoch_without_its_end_is_ended_with_all_callbacks(data, tmp_path):
    # means as they were before the last metric was added
    progress = Progress(step=STEPS, means=[1.0] * 2 * len(metrics.METRICS))
    events, calls = events_of(progress)
    plateau = Plateau(progress, patience=0)
    run = tiny_run(tmp_path, data, epochs=9, score_every=1)
    fit(run, tiny_model(), progress, [plateau, events, Score()])
    expected = ["train begin", "epoch 0", "validation", "1 in history", "train end"]
    assert calls == expected, "the plateau has ended the training"
    [row] = rows_of(tmp_path)
    assert row["fid"] == "9.0" and row["loss"] == "1.0"
    assert "gradient_norm" not in row and "val_raw_excess" in row
    assert saved(tmp_path) == [f"step-{STEPS:08d}.keras"]


# Faults --------------------------------------------------------------------------------------


def trained_state(model):
    """{name: array} of weights, EMA and optimizer, except the learning rate, set by Budget."""
    variables = model.network.weights + model.ema_network.weights
    variables += [v for v in model.optimizer.variables if v.name != "learning_rate"]
    return {f"{number} {v.name}": v.numpy() for number, v in enumerate(variables)}


class Poison(keras.callbacks.Callback):
    """Multiplies the loss of chosen steps with nan or inf; keeps the states around each step."""

    def __init__(self, model, factors):
        super().__init__()
        self.factors, self.factor = factors, tf.Variable(1.0)
        model.optimizer.build(model.network.trainable_variables)
        self.states = [trained_state(model)]
        errors = model._errors

        def poisoned(network, noised, training=False):
            result = errors(network, noised, training)
            return {**result, "loss": result["loss"] * self.factor} if training else result

        model._errors = poisoned

    def on_train_batch_begin(self, batch, logs=None):
        self.factor.assign(self.factors.get(len(self.states) - 1, 1.0))

    def on_train_batch_end(self, batch, logs=None):
        self.states.append(trained_state(self.model))


def test_steps_with_a_gradient_that_is_not_finite_are_skipped(data, tmp_path):
    model, progress = tiny_model(accumulate=2), Progress()
    factors = {0: np.nan, 3: np.inf, 7: np.nan, 8: -np.inf}
    poison = Poison(model, factors)
    fit(tiny_run(tmp_path, data), model, progress, [poison])
    assert int(model.skipped_steps) == 4
    assert int(model.optimizer.iterations) == 3 * STEPS - 4
    for step, (before, after) in enumerate(pairwise(poison.states)):
        if step in factors:
            assert_same_state(before, after)
        else:
            changed = [name for name in before if (before[name] != after[name]).any()]
            assert len(changed) > len(before) / 2, step
    assert [row["skipped"] for row in rows_of(tmp_path)] == ["2", "2", "0"]
    assert all(np.isfinite(list(row.values())).all() for row in progress.history)
    assert 0.3 < progress.history[0]["loss"] < 1.5, "a mean over the steps that counted"
    assert progress.skipped_in_a_row == 0


def test_a_training_that_only_skips_is_stopped(data, tmp_path):
    model, progress = tiny_model(), Progress()
    poison = Poison(model, dict.fromkeys(range(7, 99), np.nan))
    message = "10 steps in a row.*the last good checkpoint is .*step-00000015.keras"
    with pytest.raises(TrainingStopped, match=message), naming_last_checkpoint(tmp_path):
        fit(tiny_run(tmp_path, data, epochs=9), model, progress, [poison])
    assert len(poison.states) == 17  # the end of the last batch is not called any more
    loaded, progress = load(tmp_path)
    assert progress.epoch == 3 and progress.skipped_in_a_row == 8
    assert [row["skipped"] for row in progress.history] == [0, 3, 5]
    one, other = (list(state.values()) for state in (trained_state(loaded), poison.states[7]))
    assert all(map(np.array_equal, one, other))


@pytest.mark.parametrize(
    ("error", "kind"),
    [(OSError("full"), OSError), (WorkerLost("gone"), TrainingStopped)],
)
def test_errors_that_end_a_training_name_the_last_checkpoint(tmp_path, error, kind):
    with pytest.raises(kind, match=f"{error}.*no checkpoint"), naming_last_checkpoint(tmp_path):
        raise error
