"""Callbacks for `fit`: previews, the learning rate, time budgets, checkpoints, progress."""

import json
import math
import os
import time
from pathlib import Path

import keras
import tensorflow as tf

from keras_diffusion import images as pictures

UNLIMITED_EPOCHS = 2**31  # for `fit(epochs=...)` when a Budget of minutes ends it


class SampleGrid(keras.callbacks.Callback):
    """Draws the same noise into pictures at the end of epochs, into `epoch-*.png`.

    Args:
        directory: folder of the PNGs.
        num_images: pictures in the grid; a labelled model shows its classes in turn.
        every: epochs between grids.
        max_share: None, or the largest share of the time that grids may take; a grid that
            would take more waits for a later epoch.
        log_dir: None, or a TensorBoard folder that gets the grids as well.
        options: sampler, num_steps, guidance_scale, seed of `DiffusionModel.generate`.
    """

    def __init__(self, directory, num_images=36, every=1, max_share=None, log_dir=None, **options):
        super().__init__()
        self.directory = Path(directory)
        self.num_images = num_images
        self.every = every
        self.max_share = max_share
        self.log_dir = log_dir
        self.options = options
        self._writer = None
        self._spent = 0.0  # seconds in grids after the first, whose tracing is paid once
        self._last = None  # seconds of the last of those; None before the first
        self._undrawn = None  # the last epoch that has no grid; the last of all gets one

    def on_train_begin(self, logs=None):
        self._started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self._undrawn = epoch
        if (epoch + 1) % self.every == 0 and not self._too_dear():
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
        began = time.monotonic()
        images = self.model.generate(self.num_images, **self.options)
        sheet = pictures.grid(images, self._columns())
        path = self.directory / f"epoch-{epoch + 1:04d}.png"
        pictures.save_png(path, sheet)
        if self.log_dir:
            self._writer = self._writer or tf.summary.create_file_writer(str(self.log_dir))
            with self._writer.as_default():
                tf.summary.image("samples", sheet[None], step=epoch)
        self._last = 0.0 if self._last is None else time.monotonic() - began
        self._spent += self._last
        return path

    def _columns(self):
        classes = self.model.num_classes
        return classes if 1 < classes <= 12 and self.num_images >= classes else None

    def _too_dear(self):
        if self.max_share is None or self._last is None:
            return False
        elapsed = time.monotonic() - self._started
        return self._spent + self._last > self.max_share * elapsed


class Budget(keras.callbacks.Callback):
    """Sets the learning rate by the progress of the training, and ends it when time is up.

    The learning rate rises linearly over the first `warmup` of the training and falls as a
    half cosine to 1% of its peak over the rest; progress counts minutes or steps.

    Args:
        learning_rate: the peak.
        warmup: share of the training that the rise takes.
        total_steps: length of the training in steps; None: given in minutes.
        minutes: length of the training in minutes; None: given in steps.
        elapsed: seconds that a resumed run has trained before.
    """

    def __init__(self, learning_rate, *, warmup=0.03, total_steps=None, minutes=None, elapsed=0.0):
        super().__init__()
        if (total_steps is None) == (minutes is None):
            raise ValueError("give total_steps or minutes, one of the two.")
        self.learning_rate = learning_rate
        self.warmup = warmup
        self.total_steps = total_steps
        self.minutes = minutes
        self._before = elapsed
        self._started = None

    @property
    def elapsed(self):
        """Seconds trained, earlier sittings of a resumed run included."""
        return self._before + (time.monotonic() - self._started if self._started else 0.0)

    @property
    def progress(self):
        """Share of the training that is done, in [0, 1]."""
        if self.minutes:
            return min(1.0, self.elapsed / (60 * self.minutes))
        return min(1.0, int(self.model.optimizer.iterations) / self.total_steps)

    def on_train_begin(self, logs=None):
        self._started = time.monotonic()

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = self.learning_rate * self.factor(self.progress)

    def on_train_batch_end(self, batch, logs=None):
        if self.minutes and self.progress >= 1:
            self.model.stop_training = True

    def factor(self, progress):
        """Returns the share of the peak learning rate at this progress."""
        if progress < self.warmup:
            return max(progress / self.warmup, 0.01)
        falling = (progress - self.warmup) / (1 - self.warmup)
        return 0.01 + 0.99 * (1 + math.cos(math.pi * falling)) / 2


class Checkpoint(keras.callbacks.Callback):
    """Saves the model after epochs, whole or not at all, and keeps the last few.

    `epoch-0007.keras` holds network, EMA, optimizer and configuration after 7 epochs;
    `epoch-0007.json` beside it what the training loop needs to go on.

    Args:
        directory: folder of the checkpoints.
        budget: the run's `Budget`, for the time trained.
        keep: how many to keep.
        minutes: least time between two; short epochs are not all saved. The last epoch is.
    """

    def __init__(self, directory, budget, keep=2, minutes=0.5):
        super().__init__()
        self.directory = Path(directory)
        self.budget = budget
        self.keep = keep
        self.minutes = minutes
        self._last = time.monotonic()
        self._unsaved = None

    def on_epoch_end(self, epoch, logs=None):
        self._unsaved = epoch + 1
        if time.monotonic() - self._last >= 60 * self.minutes:
            self.save()

    def on_train_end(self, logs=None):
        self.save()

    def save(self):
        """Writes the checkpoint of the last finished epoch, if it is not written yet."""
        if self._unsaved is None:
            return
        stem = self.directory / f"epoch-{self._unsaved:04d}"
        self.directory.mkdir(parents=True, exist_ok=True)
        part = self.directory / "part.keras"
        self.model.save(part)
        state = {"epochs": self._unsaved, "elapsed": self.budget.elapsed}
        stem.with_suffix(".json").write_text(json.dumps(state))
        os.replace(part, stem.with_suffix(".keras"))
        for old in _checkpoints(self.directory)[: -self.keep]:
            old.unlink()
            old.with_suffix(".json").unlink(missing_ok=True)
        self._last = time.monotonic()
        self._unsaved = None


def _checkpoints(directory):
    """Paths of the .keras files, oldest first; by number, as 10000 follows 9999."""
    paths = Path(directory).glob("epoch-*.keras")
    return sorted(paths, key=lambda path: int(path.stem.removeprefix("epoch-")))


def newest_checkpoint(directory):
    """Returns (path of the .keras file, its state), or None where there is no checkpoint."""
    for path in reversed(_checkpoints(directory)):
        state = path.with_suffix(".json")
        if state.exists():
            return path, json.loads(state.read_text())
    return None


class Progress(keras.callbacks.ProgbarLogger):
    """Keras' progress bar with loss, validation loss and images per second alone."""

    def __init__(self, batch_size):
        super().__init__()
        self.batch_size = batch_size

    def set_params(self, params):
        super().set_params(params)
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
        shown = {name: logs[name] for name in ("loss", "val_loss") if name in (logs or {})}
        return {**shown, "images/s": self._rate}
