"""Callbacks for `fit`: previews, learning rate and time budget, faults, progress bar.

In a run, `training.fit` calls the callbacks of an epoch in this order: `Budget`, `Faults`, every
`Evaluator`, `checkpoint_callback.CheckpointCallback`, all others.
"""

import contextlib
import math
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_diffusion.plotting import images as plotting
from keras_diffusion.runtime.console import StatusLine, duration, number

ZERO_LOSS_TOLERANCE = 0.002  # relative; a network that learns leaves it within some 50 steps
BAR_WIDTH = 20  # characters
UNLIMITED_EPOCHS = 2**31  # for `fit(epochs=...)` if a Budget of minutes ends the training


class Evaluator(keras.callbacks.Callback):
    """Base class of callbacks that add values to the logs of an epoch.

    `training.fit` calls them before the checkpoint is written, so that their values are in
    history.csv and can decide which checkpoint is the best.
    """


class CostLimit:
    """Limits the time of previews or scores to a share of the training time.

    Args:
        max_share: None, or the largest share.
    """

    def __init__(self, max_share=None):
        self.max_share = max_share
        self._spent = 0.0  # seconds, without the first time, which includes tracing
        self._last = None  # seconds of the last time; None before the first
        self.start()

    def start(self):
        """Measures the training time from now on."""
        self._started = time.monotonic()

    def allows_one_more(self):
        """bool: the share is kept if the next time takes as long as the last."""
        if self.max_share is None or self._last is None:
            return True
        elapsed = time.monotonic() - self._started
        return self._spent + self._last <= self.max_share * elapsed

    @contextlib.contextmanager
    def measure(self):
        """Measures the time of a with-block."""
        started = time.monotonic()
        yield
        self._last = 0.0 if self._last is None else time.monotonic() - started
        self._spent += self._last


class SampleGrid(keras.callbacks.Callback):
    """Writes a grid of samples from the same noise at the end of epochs, as `epoch-*.png`.

    Args:
        directory: folder of the PNGs.
        num_images: samples in the grid; a model with classes shows its classes in turn.
        every: epochs between grids.
        max_share: None, or the largest share of the time that grids may take; a grid that
            would take more is postponed to a later epoch.
        log_dir: None, or a TensorBoard folder to write the grids to as well.
        frames: int, of each clip; a row of the grid is a clip. 1: images.
        options: sampler, num_steps, guidance_scale, guidance_interval, guidance_rescale,
            seed of `DiffusionModel.generate`.
    """

    def __init__(
        self,
        directory,
        num_images=36,
        every=1,
        max_share=None,
        log_dir=None,
        frames=1,
        **options,
    ):
        super().__init__()
        self.directory = Path(directory)
        self.num_images = num_images
        self.every = every
        self.log_dir = log_dir
        self.frames = frames
        self.options = options
        self._cost = CostLimit(max_share)
        self._writer = None
        self._skipped = None  # the last epoch, if it has no grid: the very last one gets one

    def on_train_begin(self, logs=None):
        self._cost.start()

    def on_epoch_end(self, epoch, logs=None):
        self._skipped = epoch
        if (epoch + 1) % self.every == 0 and self._cost.allows_one_more():
            self.save(epoch)

    def on_train_end(self, logs=None):
        if self._skipped is not None:
            self.save(self._skipped)
        if self._writer:
            self._writer.close()
            self._writer = None

    def save(self, epoch):
        """Writes a grid of the current weights; returns its path."""
        self._skipped = None
        with self._cost.measure():
            images = self.model.generate(self.num_images, **self.options)
            grid = plotting.grid(plotting.strips(images, self.frames), self._columns())
            path = self.directory / f"epoch-{epoch + 1:04d}.png"
            plotting.save_png(path, grid)
            if self.log_dir:
                self._writer = self._writer or tf.summary.create_file_writer(str(self.log_dir))
                with self._writer.as_default():
                    tf.summary.image("samples", np.atleast_3d(grid)[None], step=epoch)
        return path

    def _columns(self):
        classes = self.model.num_classes
        if self.frames > 1:
            return 1
        return classes if 1 < classes <= 12 and self.num_images >= classes else None


class Budget(keras.callbacks.Callback):
    """Sets the learning rate by the progress of the training, and stops it when time is up.

    The learning rate rises linearly over the first `warmup` of the training, then falls as a
    half cosine to 1% of its peak; progress is measured in minutes or steps. The minutes of each
    session begin after its first step, in which TensorFlow traces the training.

    Args:
        learning_rate: the peak.
        warmup: share of the training with a rising learning rate.
        total_steps: length of the training in steps, or None.
        minutes: length of the training in minutes, or None.
        seconds: already spent: by earlier sessions of a resumed run, or on a first stage.
        votes: None, or `distribution.Votes`: all workers use the chief's clock.

    Raises:
        ValueError: not exactly one of total_steps and minutes.
    """

    def __init__(
        self,
        learning_rate,
        *,
        warmup=0.03,
        total_steps=None,
        minutes=None,
        seconds=0.0,
        votes=None,
    ):
        super().__init__()
        if (total_steps is None) == (minutes is None):
            raise ValueError("give total_steps or minutes, one of the two.")
        self.learning_rate = learning_rate
        self.warmup = warmup
        self.total_steps = total_steps
        self.minutes = minutes
        self.votes = votes
        self._before = seconds
        self._started = None
        self._first_step = None  # steps taken when the clock of this session started
        self._warmup_start = 0.0  # progress at the first of all steps

    @property
    def seconds_left(self):
        """Seconds to the end of the training, by the clock of this process; None: not known yet."""
        if self._started is None:
            return None
        if self.minutes:
            return max(0.0, 60 * self.minutes - self.seconds)
        step = self._step
        if step == self._first_step:
            return None
        per_step = (time.monotonic() - self._started) / (step - self._first_step)
        return max(0, self.total_steps - step) * per_step

    @property
    def seconds(self):
        """Seconds trained, including earlier sessions of a resumed run."""
        return self._before + (time.monotonic() - self._started if self._started else 0.0)

    @property
    def progress(self):
        """Share of the training that is done, in [0, 1]."""
        if not self.minutes:
            return min(1.0, self._step / self.total_steps)
        seconds = self.votes.of_chief([self.seconds])[0] if self.votes else self.seconds
        return min(1.0, seconds / (60 * self.minutes))

    @property
    def _step(self):
        """Steps taken, counted by the model, or by the optimizer of a plain Keras model."""
        own = getattr(self.model, "step", None)
        return int((self.model.optimizer.iterations if own is None else own).numpy())

    def on_train_begin(self, logs=None):
        if self._step == 0:
            self._warmup_start = self.progress

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = self.learning_rate * self.factor(self.progress)

    def on_train_batch_end(self, batch, logs=None):
        if self._started is None:
            self._started, self._first_step = time.monotonic(), self._step
        self._stop_if_over()

    def on_epoch_end(self, epoch, logs=None):
        # Time may have run out in the validation: the next epoch would have a single batch.
        self._stop_if_over()

    def _stop_if_over(self):
        if self.minutes and self.progress >= 1:
            self.model.stop_training = True

    def factor(self, progress):
        """Returns the share of the peak learning rate at this progress."""
        if progress - self._warmup_start < self.warmup:
            return max((progress - self._warmup_start) / self.warmup, 0.01)
        decay = (progress - self.warmup) / (1 - self.warmup)
        return 0.01 + 0.99 * (1 + math.cos(math.pi * decay)) / 2


class TrainingStopped(Exception):
    """Ends a training that has failed."""


class Faults(keras.callbacks.Callback):
    """Detects trainings that fail.

    The model skips a step whose gradient is not finite; ten in a row end the training. A loss that
    stays for two epochs at that of a network whose output is zero gives a warning.

    Args:
        progress: `checkpoints.Progress` of the run, which counts the skipped steps.
        max_skipped: steps in a row that end the training.

    Attributes:
        warning: the text of the warning, or "".

    Raises:
        TrainingStopped: from `fit`.
    """

    def __init__(self, progress, max_skipped=10):
        super().__init__()
        self.progress = progress
        self.max_skipped = max_skipped
        self.warning = ""
        self._skipped = None
        self._epochs_at_zero = 0

    def on_train_begin(self, logs=None):
        self._skipped = int(self.model.skipped_steps.numpy())

    def on_train_batch_end(self, batch, logs=None):
        skipped = int(self.model.skipped_steps.numpy())
        in_a_row = self.progress.skipped_in_a_row + 1 if skipped > self._skipped else 0
        self.progress.skipped_in_a_row, self._skipped = in_a_row, skipped
        if in_a_row >= self.max_skipped:
            raise TrainingStopped(
                f"{in_a_row} steps in a row had a gradient that is not finite; try a lower "
                "learning rate, or --precision float32."
            )

    def on_epoch_end(self, epoch, logs=None):
        zero_loss = logs.get("zero_loss", 0.0)  # 0 if all steps were skipped
        near = abs(logs["loss"] - zero_loss) <= ZERO_LOSS_TOLERANCE * zero_loss
        at_zero = near and zero_loss > 0
        self._epochs_at_zero = self._epochs_at_zero + 1 if at_zero else 0
        if self._epochs_at_zero == 2:
            self.warning = (
                f"for two epochs the loss, {logs['loss']:.4f}, has been that of a network whose "
                "output is zero: it does not learn. The learning rate may be too low or far too "
                "high, or the data may not be images."
            )
            print(f"\nwarning: {self.warning}", flush=True)


class Plateau(keras.callbacks.Callback):
    """Ends a training whose validation no longer improves.

    It reads the history of the run, so a resumed run ends where an uninterrupted one does.

    Args:
        progress: `checkpoints.Progress` of the run.
        patience: epochs without a better value.
        name: of a column of the history; lower is better.
    """

    def __init__(self, progress, patience=3, name="val_loss"):
        super().__init__()
        self.progress = progress
        self.patience = patience
        self.name = name

    @property
    def is_reached(self):
        """bool: the history ends on a plateau; it may, before a resumed run trains at all."""
        values = [row[self.name] for row in self.progress.history if self.name in row]
        return bool(values) and len(values) - 1 - values.index(min(values)) >= self.patience

    def on_epoch_end(self, epoch, logs=None):
        if self.is_reached:
            print(f"\n{self.name} has not improved for {self.patience} epochs", flush=True)
            self.model.stop_training = True


class ProgressBar(keras.callbacks.ProgbarLogger):
    """Shows losses, the score if there is one, images per second and the time left.

    On a terminal and in a notebook a line is kept up to date. Each epoch ends with a line of its
    own, the only one when stdout is a file or a pipe. It takes the place of Keras' bar.

    Args:
        batch_size: images in a batch.
        budget: `Budget` of the training, which knows the time left; None: it is not shown.
        all_epochs: of the whole training, where `fit` runs a part of it; None: those of `fit`.
        done_before: batches of the first epoch that were done before it was resumed.
    """

    def __init__(self, batch_size, budget=None, all_epochs=None, done_before=0):
        super().__init__()
        self.batch_size = batch_size
        self.budget = budget
        self.all_epochs = all_epochs
        self.done_before = done_before
        self._line = StatusLine()
        self._timed_from = None  # (time, batches of the epoch); without the first batch of a `fit`
        self._rate = None

    def on_epoch_begin(self, epoch, logs=None):
        epochs = self.all_epochs or self.epochs
        known = 1 < epochs < UNLIMITED_EPOCHS
        self._title = f"epoch {epoch + 1}/{epochs}" if known else f"epoch {epoch + 1}"
        if self._timed_from is not None:
            self._timed_from = time.monotonic(), 0

    def on_train_batch_end(self, batch, logs=None):
        done, now = batch + 1, time.monotonic()
        if self._timed_from is None:  # TensorFlow has traced the step
            self._timed_from = now, done
        began, before = self._timed_from
        if done > before:  # coarse clocks give 0 seconds
            self._rate = (done - before) * self.batch_size / max(now - began, 1e-3)
        if self.verbose:
            self._line.show(lambda: "  ".join([self._bar(done), *self._values(logs)]))

    def on_epoch_end(self, epoch, logs=None):
        self._line.clear()
        self.done_before = 0
        if self.verbose:
            print("  ".join([self._title, *self._values(logs)]), flush=True)

    def _bar(self, done):
        done += self.done_before
        if not self.target:
            return f"{self._title}  {done}"
        target = self.target + self.done_before
        full = BAR_WIDTH * done // target
        bar = "=" * full + "." * (BAR_WIDTH - full)
        return f"{self._title}  {done}/{target} [{bar}]"

    def _values(self, logs):
        names = ("loss", "val_loss", "val_psnr", "fid")
        values = [f"{name} {number(logs[name], 4)}" for name in names if name in (logs or {})]
        if self._rate is not None:
            values.append(f"{number(self._rate)} images/s")
        left = self.budget and self.budget.seconds_left
        if left is not None:
            values.append(f"{duration(left)} left")
        return values

    def on_train_begin(self, logs=None):
        self._timed_from = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Clears the line, for the message of whatever has ended the training."""
        self._line.clear()

    def _nothing(self, *_, **__):
        """Validation and prediction have no bar."""

    on_test_begin = on_test_batch_end = on_test_end = _nothing
    on_predict_begin = on_predict_batch_end = on_predict_end = _nothing


def curves(run):
    """Returns the callback that writes the losses of a `run.Run` for TensorBoard."""
    return keras.callbacks.TensorBoard(run.dir / "logs", write_graph=False)
