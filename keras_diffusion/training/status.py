"""The callback that writes how far a training is, for those who watch it from outside."""

import contextlib
import json
import time
from pathlib import Path

import keras

from keras_diffusion.runtime.console import one_line
from keras_diffusion.runtime.files import whole_file

FILE = "status.json"
INTERVAL = 5  # seconds between two updates, at least


class Status(keras.callbacks.Callback):
    """Writes `status.json` every few seconds; nothing reads it again when a run is resumed.

    Use it as a context manager around `fit`: at its end it writes whether the training is finished,
    or why it has stopped. Its keys are

        epoch: finished epochs.
        epochs: of the whole training; null if it ends after `minutes`.
        minutes: of the whole training, or null.
        seconds: trained so far, over all sessions.
        seconds_left: null while it is not known.
        finished: whether the training is over.
        message: "", or why it has stopped before the end of the training.
        warning: "" or that of `callbacks.Faults`.

    A file that cannot be written is not an error: the training goes on.

    Args:
        folder: of the run.
        epochs: int; has no meaning for a budget of minutes.
        progress: `checkpoints.Progress` of the run.
        budget, faults: `callbacks.Budget` and `callbacks.Faults` of the training.
    """

    def __init__(self, folder, epochs, progress, budget, faults):
        super().__init__()
        self.path = Path(folder) / FILE
        self.epochs = None if budget.minutes else epochs
        self.progress = progress
        self.budget = budget
        self.faults = faults
        self._written_at = None

    def on_train_batch_end(self, batch, logs=None):
        if self._written_at is None or time.monotonic() - self._written_at >= INTERVAL:
            self.write()

    def on_epoch_end(self, epoch, logs=None):
        self.on_train_batch_end(None)

    def __enter__(self):
        self.write()
        return self

    def __exit__(self, kind, error, _):
        self.write(finished=kind is None, message=one_line(error or ""))

    def write(self, finished=False, message=""):
        """Writes the file now."""
        record = {
            "epoch": self.progress.epoch,
            "epochs": self.epochs,
            "minutes": self.budget.minutes,
            "seconds": round(self.budget.seconds, 1),
            "seconds_left": 0 if finished else self.budget.seconds_left,
            "finished": finished,
            "message": message,
            "warning": self.faults.warning,
        }
        with contextlib.suppress(OSError), whole_file(self.path) as part:
            Path(part).write_text(json.dumps(record) + "\n", encoding="utf-8")
        self._written_at = time.monotonic()
