"""The callback that updates a run's `Progress`, and writes its checkpoints and history.csv."""

import math
import signal
import tempfile
import time

import keras

from keras_diffusion.runtime.signals import Interrupted
from keras_diffusion.saving import checkpoints
from keras_diffusion.training import score_callback
from keras_diffusion.training.run_dir import write_history

MAX_SHARE = 0.05  # of the time, for the checkpoints at the ends of very short epochs


class CheckpointCallback(keras.callbacks.Callback):
    """Writes checkpoints at the end of epochs, every few minutes, and after a signal.

    If checkpoints at the end of very short epochs would take more than 5% of the time, some are
    skipped; seconds of training are lost at most. Not all workers keep files: only the chief's
    are those of the run.

    Args:
        run: `run.Run`; its folder gets `checkpoints/` and `history.csv`.
        progress: `checkpoints.Progress` to continue from; kept up to date.
        budget: `Budget` of the run, for the time trained.
        pending: `signals.Pending`, the signal to act on.

    Raises:
        Interrupted: from `fit`, after a signal; everything is saved.
    """

    def __init__(self, run, progress, budget, pending):
        super().__init__()
        self.run = run
        self.progress = progress
        self.budget = budget
        self.pending = pending
        # The value of an epoch's logs that decides which checkpoint is the best, the lowest.
        self.best_by = score_callback.BEST_BY if run.config.score_every else "val_loss"
        self._scratch = None if run.votes.is_chief else tempfile.TemporaryDirectory()
        self._saved = self.batches or None  # `batches` of the last checkpoint
        self._saved_at = self._epoch_saved_at = time.monotonic()
        self._cost = 0.0  # seconds that the last checkpoint took
        self._epoch_means = None

    @property
    def batches(self):
        """int: batches that the run has been trained on."""
        return self.progress.epoch * self.run.data.steps_per_epoch + self.progress.step

    def on_epoch_begin(self, epoch, logs=None):
        if self.progress.means is not None:
            # Checkpoints of older versions have fewer means.
            for variable, value in zip(
                self.model.metrics_variables, self.progress.means, strict=False
            ):
                variable.assign(value)
            self.progress.means = None
        self.handle_signal()  # one may have come during a preview

    def on_train_batch_end(self, batch, logs=None):
        self.progress.step += 1
        self.progress.seconds = self.budget.seconds
        due = time.monotonic() - self._saved_at >= 60 * self.run.config.checkpoint_minutes
        if self._chief_says(due) and self.progress.step < self.run.data.steps_per_epoch:
            self._save_within_epoch(self._means())
        self.handle_signal()

    def on_test_begin(self, logs=None):
        self._epoch_means = self._means()  # validation overwrites the variables

    def on_test_batch_end(self, batch, logs=None):
        self.handle_signal(self._epoch_means)

    def on_epoch_end(self, epoch, logs=None):
        skipped = int(self.model.skipped_steps.numpy())
        row = {
            "epoch": self.progress.epoch + 1,
            "learning_rate": float(self.model.optimizer.learning_rate.numpy()),
            "skipped": skipped - self.progress.skipped_before,
            **{name: float(logs[name]) for name in sorted(logs)},
        }
        self.progress.history.append(row)
        self.progress.skipped_before = skipped
        self.progress.epoch += 1
        self.progress.step = 0
        if self.run.votes.is_chief:
            write_history(self.progress.history, self.run.dir / "history.csv")
        due = self._cost <= MAX_SHARE * (time.monotonic() - self._epoch_saved_at)
        scored = self.best_by != "val_loss" and self.best_by in row  # rare and expensive
        if self._chief_says(due or scored):
            self.save()
            self._epoch_saved_at = self._saved_at

    def on_train_end(self, logs=None):
        if self._saved != self.batches:
            self.save()

    def save(self):
        """Writes a checkpoint of the current state; returns its path."""
        started = time.monotonic()
        self.progress.seconds = self.budget.seconds
        row = self.progress.history[-1] if self.progress.history else {}
        value = row.get(self.best_by, math.nan)
        # The best so far may be the best by another value, that of an earlier session.
        lowest = (self.progress.best or {}).get(self.best_by, math.inf)
        if value < lowest and self.progress.step == 0:  # False for nan
            self.progress.best = {self.best_by: value, "batches": self.batches}
        # All workers save, because all of them take part in reading the means.
        folder = self.run.dir / "checkpoints" if self.run.votes.is_chief else self._scratch.name
        keep = self.run.config.keep_checkpoints
        path = checkpoints.save(self.model, self.progress, folder, self.batches, keep)
        self._saved, self._saved_at = self.batches, time.monotonic()
        self._cost = self._saved_at - started
        return path

    def _save_within_epoch(self, means):
        self.progress.means = means
        self.save()
        self.progress.means = None

    def handle_signal(self, means=None):
        """Saves and ends the training if any worker has received a signal."""
        received = [self.pending.signum == signum for signum in (signal.SIGINT, signal.SIGTERM)]
        interrupted, terminated = self.run.votes.total(received)
        if not interrupted and not terminated:
            return
        if self._saved != self.batches:
            within = self.progress.step > 0
            self._save_within_epoch((means or self._means()) if within else None)
        raise Interrupted(signal.SIGINT if interrupted else signal.SIGTERM)

    def _chief_says(self, value):
        return self.run.votes.of_chief([value])[0]

    def _means(self):
        return [float(variable.numpy()) for variable in self.model.metrics_variables]
