"""Signals: put off until a step is done, obeyed with everything saved; the second ends at once."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import zipfile

import keras
import pytest
import tensorflow as tf
from fixtures_runs import (
    STEPS,
    assert_same_state,
    state_of,
    tiny_config,
    tiny_data,
    tiny_model,
)

from keras_diffusion.runtime import distribution, signals
from keras_diffusion.runtime.signals import Interrupted
from keras_diffusion.saving import checkpoints
from keras_diffusion.saving.checkpoints import Progress
from keras_diffusion.training import fit as fitting

CONFIG = tiny_config()
MOMENTS = [  # moment, epoch, batch, and where the run then stands: epoch, steps within it
    ("batch", 0, 0, (0, 1)),
    ("batch", 1, 2, (1, 3)),
    ("batch", 1, STEPS - 1, (1, STEPS)),
    ("batch", 2, STEPS - 1, (2, STEPS)),
    ("validation", 0, 0, (0, STEPS)),
    ("validation", 1, 1, (1, STEPS)),
    ("preview", 0, 0, (1, 0)),
]
BOTH_SIGNALS = itertools.cycle([signal.SIGTERM, signal.SIGINT])  # they are obeyed alike


@pytest.fixture(autouse=True, scope="module")
def same_sums():
    """Keeps TensorFlow from ordering sums anew in every trace; else bits differ."""
    before = tf.config.optimizer.get_experimental_options().get("arithmetic_optimization", True)
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    yield
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": before})


class SignalAt(keras.callbacks.Callback):
    """Sends this process a signal at a moment of a training."""

    def __init__(self, moment, signum, epoch, batch=0):
        super().__init__()
        self.moment, self.signum, self.when = moment, signum, (epoch, batch)
        self.epoch = None
        self.done = 0  # batches that were begun

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self.done += 1
        self._send("batch", batch)

    def on_test_batch_begin(self, batch, logs=None):
        self._send("validation", batch)

    def on_epoch_end(self, epoch, logs=None):
        self._send("preview", 0)  # where SampleGrid draws

    def _send(self, moment, batch):
        if (moment, self.epoch, batch) == (self.moment, *self.when):
            os.kill(os.getpid(), self.signum)


@pytest.fixture(scope="module")
def data():
    return tiny_data()


def fit(model, data, run_dir, progress, config=CONFIG):
    fitting.fit(model, data, config, run_dir, progress, distribution.Votes(STRATEGY))


STRATEGY = distribution.make_strategy("single")


@pytest.fixture
def watched(monkeypatch):
    """Replaces those who watch a run by the callbacks in a list."""
    used = []
    monkeypatch.setattr(fitting, "_shown", lambda *_: used)
    return used


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """(state, history, history.csv) at the end of a run that nothing disturbed."""
    folder, model, progress = tmp_path_factory.mktemp("whole"), tiny_model(), Progress()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fitting, "_shown", lambda *_: [])
        fit(model, data, folder, progress)
    assert [row["epoch"] for row in progress.history] == [1, 2, 3]
    assert int(model.optimizer.iterations) == 3 * STEPS
    return state_of(model), progress.history, (folder / "history.csv").read_bytes()


def assert_goes_on_as(undisturbed, data, folder, watched):
    """Resumes a run to its end and compares all that is left of it, bit for bit."""
    watched.clear()
    path, model, progress = checkpoints.load(folder / "checkpoints", warn=pytest.fail)
    fit(model, data, folder, progress)
    assert_same_state(state_of(model), undisturbed[0])
    assert progress.history == undisturbed[1]
    assert (folder / "history.csv").read_bytes() == undisturbed[2]
    newest = checkpoints.list_checkpoints(folder / "checkpoints")[-1]
    assert newest.name == f"step-{3 * STEPS:08d}.keras"


@pytest.mark.parametrize(
    ("signum", "moment", "epoch", "batch", "stands"),
    [(signum, *row) for signum, row in zip(BOTH_SIGNALS, MOMENTS, strict=False)],
)
def test_a_run_goes_on_as_if_nothing_had_been(
    data, tmp_path, watched, undisturbed, signum, moment, epoch, batch, stands
):
    model, progress = tiny_model(), Progress()
    watched.append(sender := SignalAt(moment, signum, epoch, batch))
    handlers = [signal.getsignal(s) for s in signals.NAMES]
    with pytest.raises(Interrupted) as stop:
        fit(model, data, tmp_path, progress)
    assert stop.value.signum == signum
    assert [signal.getsignal(s) for s in signals.NAMES] == handlers
    assert (progress.epoch, progress.step) == stands
    batches = STEPS * stands[0] + stands[1]
    assert sender.done == batches, "it stops at once"
    saved = checkpoints.list_checkpoints(tmp_path / "checkpoints")
    assert saved[-1].name == f"step-{batches:08d}.keras"
    _, loaded, read = checkpoints.load(tmp_path / "checkpoints")
    assert (read.epoch, read.step) == stands
    assert_same_state(state_of(loaded), state_of(model))
    assert_goes_on_as(undisturbed, data, tmp_path, watched)


def test_a_run_interrupted_again_and_again(data, tmp_path, watched, undisturbed):
    model, progress = tiny_model(), Progress()
    moments = [("batch", 0, 1), ("batch", 0, 1), ("validation", 0, 0), ("preview", 1, 0)]
    for moment in [*moments, ("batch", 2, 0)]:
        watched[:] = [SignalAt(moment[0], signal.SIGTERM, *moment[1:])]
        with pytest.raises(Interrupted):
            fit(model, data, tmp_path, progress)
        _, model, progress = checkpoints.load(tmp_path / "checkpoints", warn=pytest.fail)
    assert (progress.epoch, progress.step) == (2, 1)
    assert_goes_on_as(undisturbed, data, tmp_path, watched)


def test_a_validation_interrupted_twice(data, tmp_path, watched, undisturbed, monkeypatch):
    watched.append(SignalAt("validation", signal.SIGTERM, 1, 1))
    with pytest.raises(Interrupted):
        fit(tiny_model(), data, tmp_path, Progress())
    watched.clear()
    _, model, progress = checkpoints.load(tmp_path / "checkpoints", warn=pytest.fail)

    def send(recorder, batch, logs=None):
        os.kill(os.getpid(), signal.SIGINT)
        return ended(recorder, batch, logs)

    ended = fitting.Recorder.on_test_batch_end
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(fitting.Recorder, "on_test_batch_end", send)
        fit(model, data, tmp_path, progress)
    assert (progress.epoch, progress.step) == (1, STEPS)
    assert_goes_on_as(undisturbed, data, tmp_path, watched)


def test_during_a_real_preview(data, tmp_path, monkeypatch, undisturbed):
    model, progress, shown = tiny_model(), Progress(), []
    draw = model.generate

    def generate(*arguments, **options):
        if not shown:
            os.kill(os.getpid(), signal.SIGINT)
        shown.append(arguments)
        return draw(*arguments, **options)

    monkeypatch.setattr(model, "generate", generate)
    with pytest.raises(Interrupted):
        fit(model, data, tmp_path, progress)
    assert len(shown) == 1
    assert (tmp_path / "samples/epoch-0001.png").exists(), "the picture is finished"
    assert (progress.epoch, progress.step) == (1, 0)
    _, loaded, progress = checkpoints.load(tmp_path / "checkpoints")
    fit(loaded, data, tmp_path, progress)
    assert_same_state(state_of(loaded), undisturbed[0])
    assert progress.history == undisturbed[1]


def test_a_budget_of_minutes_obeys_too(data, tmp_path, watched):
    config = tiny_config(minutes=5.0)
    watched.append(SignalAt("batch", signal.SIGINT, 1, 2))
    progress = Progress()
    with pytest.raises(Interrupted):
        fit(tiny_model(), data, tmp_path, progress, config)
    assert (progress.epoch, progress.step) == (1, 3)
    read = checkpoints.load(tmp_path / "checkpoints")[2]
    assert 0 < read.seconds < 300


# `deferred_signals` alone


def test_the_first_signal_is_noted(capfd):
    with signals.deferred_signals() as pending:
        assert pending.signum is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert pending.signum == signal.SIGTERM
    assert "terminated: finishing the step; a second signal exits at once" in capfd.readouterr().err


def test_handlers_are_put_back_after_an_error():
    before = [signal.getsignal(s) for s in signals.NAMES]
    with pytest.raises(OSError), signals.deferred_signals():
        assert [signal.getsignal(s) for s in signals.NAMES] != before
        raise OSError
    assert [signal.getsignal(s) for s in signals.NAMES] == before


def test_other_threads_have_no_handlers():
    before, seen = [signal.getsignal(s) for s in signals.NAMES], []

    def work():
        with signals.deferred_signals() as pending:
            seen.append((pending.signum, [signal.getsignal(s) for s in signals.NAMES]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]


TWICE = """
import os, signal, sys, time
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
sys.path.insert(0, sys.argv[2])
from fixtures_runs import tiny_config, tiny_data, tiny_model
from keras_diffusion.runtime import distribution
from keras_diffusion.saving import checkpoints
from keras_diffusion.training import fit as fitting

model, save = tiny_model(), checkpoints.zipfile.ZipFile.writestr

def slow(file, name, *arguments):  # both signals come while a checkpoint is written
    saved = checkpoints.list_checkpoints(sys.argv[1] + "/checkpoints")
    if name == checkpoints.PROGRESS_FILE and saved:
        os.kill(os.getpid(), getattr(signal, sys.argv[3]))
        os.kill(os.getpid(), getattr(signal, sys.argv[3]))
        time.sleep(60)
        print("still there")
    save(file, name, *arguments)

checkpoints.zipfile.ZipFile.writestr = slow
fitting._shown = lambda *_: []
votes = distribution.Votes(distribution.make_strategy("single"))
fitting.fit(model, tiny_data(), tiny_config(), sys.argv[1], checkpoints.Progress(), votes)
"""


def test_a_second_signal_leaves_at_once_and_damages_nothing(tmp_path):
    signum = signal.SIGTERM
    tests = os.path.join(os.path.dirname(__file__), "..", "support")
    command = [sys.executable, "-c", TWICE, tmp_path, tests, signum.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 128 + signum, done.stderr[-2000:]
    assert "a second signal exits at once" in done.stderr
    assert "still there" not in done.stdout
    [path] = checkpoints.list_checkpoints(tmp_path / "checkpoints")
    assert path.name == f"step-{STEPS:08d}.keras"
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
    assert checkpoints.load(tmp_path / "checkpoints", warn=pytest.fail)[2].epoch == 1
    assert list(tmp_path.rglob(".part-*")), "it was in the middle of the next one"
    checkpoints.clear_parts(tmp_path)
    assert not list(tmp_path.rglob(".part-*"))


def test_a_signal_before_the_first_step_saves_too(tmp_path, monkeypatch):
    pending = signals.Pending()
    pending.signum = signal.SIGTERM
    monkeypatch.setattr(signals, "deferred_signals", lambda: contextlib.nullcontext(pending))
    model, votes = tiny_model(), distribution.Votes(tf.distribute.get_strategy())
    with pytest.raises(Interrupted):
        fitting.fit(model, tiny_data(), CONFIG, tmp_path, Progress(), votes)
    path, loaded, progress = checkpoints.load(tmp_path / "checkpoints")
    assert path.name == "step-00000000.keras"
    assert (progress.epoch, progress.step) == (0, 0)
    assert_same_state(state_of(loaded), state_of(model))
