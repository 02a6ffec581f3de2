"""The callback that keeps a run's `Progress`, and writes checkpoints and history.csv by it."""

import csv
import math
import signal
import tempfile
import time
from pathlib import Path

import keras

from keras_diffusion.runtime.files import whole_file
from keras_diffusion.runtime.signals import Interrupted
from keras_diffusion.saving import checkpoints

DEAREST_SHARE = 0.05  # of the time, for the checkpoints at the ends of very short epochs


class Recorder(keras.callbacks.Callback):
    """Writes checkpoints at the ends of epochs, every few minutes, and before a signal is obeyed.

    Where epochs are so short that their checkpoints would take more than 5% of the time, some
    are left out; what is not saved then is a matter of seconds.

    Args:
        run_dir: folder of the run; gets `checkpoints/` and `history.csv`.
        progress: `checkpoints.Progress` to go on from; kept up to date.
        budget: the run's `Budget`, for the time trained.
        steps_per_epoch: int.
        pending: `interruption.Pending`, the signal to obey.
        votes: `distribution.Votes`; only the chief's files are kept.
        minutes: between checkpoints within an epoch.
        keep: how many of the last checkpoints to keep, besides the best.
        best_by: the figure of an epoch's logs that says which checkpoint is best, the least.

    Raises:
        Interrupted: out of `fit`, when a signal has come; everything is saved then.
    """

    def __init__(
        self, run_dir, progress, *, budget, steps_per_epoch, pending, votes, minutes=10.0, keep=2,
        best_by="val_loss",
    ):  # fmt: skip
        super().__init__()
        self.run_dir = Path(run_dir)
        self.progress = progress
        self.budget = budget
        self.steps_per_epoch = steps_per_epoch
        self.pending = pending
        self.votes = votes
        self.minutes = minutes
        self.keep = keep
        self.best_by = best_by
        self._scratch = None if votes.is_chief else tempfile.TemporaryDirectory()
        self._saved = self.batches or None  # when the last checkpoint was written
        self._saved_at = self._epoch_saved_at = time.monotonic()
        self._cost = 0.0  # seconds that it took
        self._epoch_means = None

    @property
    def batches(self):
        """int: batches that the run has seen."""
        return self.progress.epoch * self.steps_per_epoch + self.progress.step

    # What `fit` calls ----------------------------------------------------------------------

    def on_epoch_begin(self, epoch, logs=None):
        if self.progress.means is not None:
            # Checkpoints of before there were some of the means hold fewer.
            for variable, value in zip(
                self.model.metrics_variables, self.progress.means, strict=False
            ):
                variable.assign(value)
            self.progress.means = None
        self.obey()  # a signal may have come during a preview

    def on_train_batch_end(self, batch, logs=None):
        self.progress.step += 1
        due = time.monotonic() - self._saved_at >= 60 * self.minutes
        if self.votes.of_chief([due])[0] and self.progress.step < self.steps_per_epoch:
            self._save_within_epoch(self._means())
        self.obey()

    def on_test_begin(self, logs=None):
        self._epoch_means = self._means()  # validation uses the same variables

    def on_test_batch_end(self, batch, logs=None):
        self.obey(self._epoch_means)

    def on_epoch_end(self, epoch, logs=None):
        self.end_epoch(logs)

    def on_train_end(self, logs=None):
        if self._saved != self.batches:
            self.save()

    # What it does --------------------------------------------------------------------------

    def end_epoch(self, logs):
        """Takes down the results of an epoch, and saves."""
        skipped = int(self.model.skipped_steps.numpy())
        rate = float(self.model.optimizer.learning_rate.numpy())
        row = {"epoch": self.progress.epoch + 1, "learning_rate": rate}
        row["skipped"] = skipped - self.progress.skipped_before
        row.update({name: float(logs[name]) for name in sorted(logs)})  # as Keras has them
        self.progress.history.append(row)
        self.progress.skipped_before = skipped
        self.progress.epoch += 1
        self.progress.step = 0
        if self.votes.is_chief:
            write_history(self.progress.history, self.run_dir / "history.csv")
        due = self._cost <= DEAREST_SHARE * (time.monotonic() - self._epoch_saved_at)
        scored = self.best_by != "val_loss" and self.best_by in row  # rare and dear: kept
        if self.votes.of_chief([due or scored])[0]:
            self.save()
            self._epoch_saved_at = self._saved_at

    def save(self):
        """Writes a checkpoint of this moment; returns its path."""
        began = time.monotonic()
        self.progress.seconds = self.budget.seconds
        row = self.progress.history[-1] if self.progress.history else {}
        score = row.get(self.best_by, math.nan)
        # The best so far may be best by another figure, that of an earlier sitting.
        least = (self.progress.best or {}).get(self.best_by, math.inf)
        if score < least and self.progress.step == 0:  # nan is not
            self.progress.best = {self.best_by: score, "batches": self.batches}
        # All workers save, as reading the means takes all of them; one copy is kept.
        folder = self.run_dir / "checkpoints" if self.votes.is_chief else self._scratch.name
        path = checkpoints.save(self.model, self.progress, folder, self.batches, self.keep)
        self._saved, self._saved_at = self.batches, time.monotonic()
        self._cost = self._saved_at - began
        return path

    def _save_within_epoch(self, means):
        self.progress.means = means
        self.save()
        self.progress.means = None

    def obey(self, means=None):
        """Saves and ends the training, if any worker was told to stop."""
        came = [self.pending.signum == signum for signum in (signal.SIGINT, signal.SIGTERM)]
        interrupted, terminated = self.votes.total(came)
        if not interrupted and not terminated:
            return
        if self._saved != self.batches:
            within = self.progress.step > 0
            self._save_within_epoch((means or self._means()) if within else None)
        raise Interrupted(signal.SIGINT if interrupted else signal.SIGTERM)

    def _means(self):
        return [float(variable.numpy()) for variable in self.model.metrics_variables]


def write_history(rows, path):
    """Writes the rows of a run's history as a table."""
    write_table(rows, path, names=["epoch"])


def write_table(rows, path, names=()):
    """Writes dicts as the rows of a table; what a row lacks is left empty.

    Args:
        rows: list of dicts.
        path: CSV to write.
        names: of columns that come first, and are there even without rows.
    """
    names = dict.fromkeys([*names, *(name for row in rows for name in row)])
    with whole_file(path) as part, open(part, "w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(names))
        table.writeheader()
        table.writerows(rows)
