"""Callbacks for `fit`: previews, the learning rate and time budgets, faults, the progress bar."""

import contextlib
import math
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_diffusion.plotting import images as pictures
from keras_diffusion.runtime.console import is_watched

ZERO_LOSS_TOLERANCE = 0.002  # relative; a network that learns leaves it within some 50 steps
UNLIMITED_EPOCHS = 2**31  # for `fit(epochs=...)` when a Budget of minutes ends it


class CostLimit:
    """Keeps what is done beside the training within a share of the time.

    Args:
        max_share: None, or the largest share.
    """

    def __init__(self, max_share=None):
        self.max_share = max_share
        self._spent = 0.0  # seconds, without the first time, as tracing is paid once
        self._last = None  # seconds of the last time; None before the first
        self.begin()

    def begin(self):
        """Counts the time from now on."""
        self._began = time.monotonic()

    def allows_one_more(self):
        """bool: as much again as the last time would still be within the share."""
        if self.max_share is None or self._last is None:
            return True
        elapsed = time.monotonic() - self._began
        return self._spent + self._last <= self.max_share * elapsed

    @contextlib.contextmanager
    def spending(self):
        """Counts what is done within."""
        began = time.monotonic()
        yield
        self._last = 0.0 if self._last is None else time.monotonic() - began
        self._spent += self._last


class SampleGrid(keras.callbacks.Callback):
    """Draws the same noise into pictures at the end of epochs, into `epoch-*.png`.

    Args:
        directory: folder of the PNGs.
        num_images: pictures in the grid; a labelled model shows its classes in turn.
        every: epochs between grids.
        max_share: None, or the largest share of the time that grids may take; a grid that
            would take more waits for a later epoch.
        log_dir: None, or a TensorBoard folder that gets the grids as well.
        options: sampler, num_steps, guidance_scale, guidance_interval, guidance_rescale,
            seed of `DiffusionModel.generate`.
    """

    def __init__(self, directory, num_images=36, every=1, max_share=None, log_dir=None, **options):
        super().__init__()
        self.directory = Path(directory)
        self.num_images = num_images
        self.every = every
        self.log_dir = log_dir
        self.options = options
        self._cost = CostLimit(max_share)
        self._writer = None
        self._undrawn = None  # the last epoch that has no grid; the last of all gets one

    def on_train_begin(self, logs=None):
        self._cost.begin()

    def on_epoch_end(self, epoch, logs=None):
        self._undrawn = epoch
        if (epoch + 1) % self.every == 0 and self._cost.allows_one_more():
            self.draw(epoch)

    def on_train_end(self, logs=None):
        if self._undrawn is not None:
            self.draw(self._undrawn)
        if self._writer:
            self._writer.close()
            self._writer = None

    def draw(self, epoch):
        """Writes the grid of this moment; returns its path."""
        self._undrawn = None
        with self._cost.spending():
            images = self.model.generate(self.num_images, **self.options)
            sheet = pictures.grid(images, self._columns())
            path = self.directory / f"epoch-{epoch + 1:04d}.png"
            pictures.save_png(path, sheet)
            if self.log_dir:
                self._writer = self._writer or tf.summary.create_file_writer(str(self.log_dir))
                with self._writer.as_default():
                    tf.summary.image("samples", np.atleast_3d(sheet)[None], step=epoch)
        return path

    def _columns(self):
        classes = self.model.num_classes
        return classes if 1 < classes <= 12 and self.num_images >= classes else None


class Budget(keras.callbacks.Callback):
    """Sets the learning rate by the progress of the training, and ends it when time is up.

    The learning rate rises linearly over the first `warmup` of the training and falls as a
    half cosine to 1% of its peak over the rest; progress counts minutes or steps.

    Args:
        learning_rate: the peak.
        warmup: share of the training that the rise takes.
        total_steps: length of the training in steps; None: given in minutes.
        minutes: length of the training in minutes; None: given in steps.
        seconds: that were spent before: by a resumed run, or on what a training needs.
        votes: None, or `distribution.Votes`: all workers go by the chief's clock.
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
        self._warm_from = 0.0  # progress at the first step of all

    @property
    def seconds(self):
        """Seconds trained, earlier sittings of a resumed run included."""
        return self._before + (time.monotonic() - self._started if self._started else 0.0)

    @property
    def progress(self):
        """Share of the training that is done, in [0, 1]."""
        if not self.minutes:
            return min(1.0, int(self.model.optimizer.iterations.numpy()) / self.total_steps)
        seconds = self.votes.of_chief([self.seconds])[0] if self.votes else self.seconds
        return min(1.0, seconds / (60 * self.minutes))

    def on_train_begin(self, logs=None):
        self._started = self._started or time.monotonic()
        if int(self.model.optimizer.iterations.numpy()) == 0:
            self._warm_from = self.progress

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = self.learning_rate * self.factor(self.progress)

    def on_train_batch_end(self, batch, logs=None):
        if self.minutes and self.progress >= 1:
            self.model.stop_training = True

    def factor(self, progress):
        """Returns the share of the peak learning rate at this progress."""
        if progress - self._warm_from < self.warmup:
            return max((progress - self._warm_from) / self.warmup, 0.01)
        falling = (progress - self.warmup) / (1 - self.warmup)
        return 0.01 + 0.99 * (1 + math.cos(math.pi * falling)) / 2


class TrainingStopped(Exception):
    """Ends a training that cannot go well."""


class Faults(keras.callbacks.Callback):
    """Watches for trainings that have gone wrong.

    A step whose gradient is not finite is skipped by the model; ten in a row end the run. A
    loss that stays at that of a network that answers zero, for two epochs, gives a warning.

    Args:
        progress: the run's `checkpoints.Progress`, which counts the skipped steps.
        most_skipped: steps in a row.

    Raises:
        TrainingStopped: out of `fit`.
    """

    def __init__(self, progress, most_skipped=10):
        super().__init__()
        self.progress = progress
        self.most_skipped = most_skipped
        self._skipped = None
        self._epochs_at_zero = 0

    def on_train_begin(self, logs=None):
        self._skipped = int(self.model.skipped_steps.numpy())

    def on_train_batch_end(self, batch, logs=None):
        skipped = int(self.model.skipped_steps.numpy())
        in_a_row = self.progress.skipped_in_a_row + 1 if skipped > self._skipped else 0
        self.progress.skipped_in_a_row, self._skipped = in_a_row, skipped
        if in_a_row >= self.most_skipped:
            raise TrainingStopped(
                f"{in_a_row} steps in a row had a gradient that is not finite; try a lower "
                "learning rate, or --precision float32."
            )

    def on_epoch_end(self, epoch, logs=None):
        zero_loss = logs.get("zero_loss", 0.0)  # 0, if all steps were skipped
        near = abs(logs["loss"] - zero_loss) <= ZERO_LOSS_TOLERANCE * zero_loss
        at_zero = near and zero_loss > 0
        self._epochs_at_zero = self._epochs_at_zero + 1 if at_zero else 0
        if self._epochs_at_zero == 2:
            print(
                f"\nwarning: for two epochs the loss, {logs['loss']:.4f}, has been that of a "
                "network whose output is zero: nothing is learned. The learning rate may be too "
                "low or far too high, or the data may hold no images.",
                flush=True,
            )


class Plateau(keras.callbacks.Callback):
    """Ends a training whose validation no longer improves; for after the `Recorder`.

    It counts in the run's history, so a resumed run ends where an undisturbed one does.

    Args:
        progress: the run's `checkpoints.Progress`.
        patience: epochs without a better value.
        name: of a column of the history, less is better.
    """

    def __init__(self, progress, patience=3, name="val_loss"):
        super().__init__()
        self.progress = progress
        self.patience = patience
        self.name = name

    @property
    def is_reached(self):
        """bool: the history, which may be that of a resumed run, ends on a plateau."""
        values = [row[self.name] for row in self.progress.history if self.name in row]
        return bool(values) and len(values) - 1 - values.index(min(values)) >= self.patience

    def on_epoch_end(self, epoch, logs=None):
        if self.is_reached:
            print(f"\n{self.name} has not improved for {self.patience} epochs", flush=True)
            self.model.stop_training = True


class ProgressBar(keras.callbacks.ProgbarLogger):
    """Keras' progress bar with losses, the score where there is one, and images per second.

    In a file an epoch is told once it is over.
    """

    def __init__(self, batch_size):
        super().__init__()
        self.batch_size = batch_size

    def set_params(self, params):
        super().set_params(params)
        if self.verbose == 1 and not is_watched():
            self.verbose = 2
        if self.epochs >= UNLIMITED_EPOCHS:
            self.epochs = 1  # Keras' way of not printing "Epoch 1/2147483648"

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        if self.epochs == 1:
            print(f"Epoch {epoch + 1}")
        self._epoch_began = time.monotonic()
        self._rate = 0.0

    def on_train_batch_end(self, batch, logs=None):
        seconds = time.monotonic() - self._epoch_began
        self._rate = (batch + 1) * self.batch_size / max(seconds, 1e-3)  # clocks tick
        super().on_train_batch_end(batch, self._shown(logs))

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, self._shown(logs))

    def _shown(self, logs):
        names = ("loss", "val_loss", "val_psnr", "fid")
        shown = {name: logs[name] for name in names if name in (logs or {})}
        return {**shown, "images/s": self._rate}
