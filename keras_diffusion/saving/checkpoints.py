"""Checkpoints: everything that a run needs to resume exactly, in one file.

`checkpoints/step-00001234.keras` is the model after 1234 batches as Keras saves it (network,
EMA network, optimizer with its step), with the `Progress` of the training loop in the same zip
file. The order of the images is a function of (seed, epoch), noise and times of (seed, step).
"""

import contextlib
import dataclasses
import json
import os
import re
import zipfile
from pathlib import Path

import keras

from keras_diffusion.models.diffusion_model import DiffusionModel
from keras_diffusion.runtime.console import one_line
from keras_diffusion.runtime.files import PART, whole_file

FORMAT = 1  # of the progress file
PROGRESS_FILE = "progress.json"  # inside of the .keras file
NAME = re.compile(r"step-(\d+)\.keras")


@dataclasses.dataclass
class Progress:
    """State of the training loop.

    Attributes:
        epoch: number of finished epochs.
        step: number of finished batches of the next epoch.
        seconds: of training, over all sessions.
        history: a dict for each finished epoch, the rows of history.csv.
        random: states of the network's random layers (dropout), which Keras does not save.
        means: None, or the sums behind the running means of the unfinished epoch.
        best: None, or {"val_loss" or "fid", "batches"} of the best checkpoint so far.
        skipped_in_a_row: number of last steps skipped because a gradient was not finite.
        skipped_before: `skipped_steps` of the model at the start of the epoch.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: list = dataclasses.field(default_factory=list)
    random: list = dataclasses.field(default_factory=list)
    means: list | None = None
    best: dict | None = None
    skipped_in_a_row: int = 0
    skipped_before: int = 0


def save(model, progress, directory, batches, keep=2):
    """Writes a checkpoint, then deletes old ones except for the last few and the best.

    Args:
        model: a compiled `DiffusionModel` or `Autoencoder`.
        progress: `Progress`.
        directory: folder of the checkpoints.
        batches: int, batches of the run so far; the number in the name.
        keep: number of last checkpoints to keep.

    Returns:
        The path of the .keras file.

    Raises:
        OSError: it cannot be written; earlier checkpoints are unchanged.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"step-{batches:08d}.keras"
    progress.random = [variable.numpy().tolist() for variable in _random_state(model)]
    record = {"format": FORMAT, **dataclasses.asdict(progress)}
    with whole_file(path) as part:
        model.save(part)
        with zipfile.ZipFile(part, "a") as file:
            file.writestr(PROGRESS_FILE, json.dumps(record))
    best = best_of(directory, progress)
    paths = list_checkpoints(directory)
    for old in paths[: paths.index(path) + 1][:-keep]:  # a damaged one may come after it
        if old != best:
            old.unlink()
    return path


def list_checkpoints(directory):
    """Returns the paths of the checkpoints in a folder, oldest first."""
    paths = [path for path in Path(directory).glob("step-*.keras") if NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: int(NAME.fullmatch(path.name)[1]))


def best_of(directory, progress):
    """Returns the path of the best checkpoint of a `Progress`, or None."""
    return progress.best and Path(directory) / f"step-{progress.best['batches']:08d}.keras"


def load(directory, kind=DiffusionModel, warn=print):
    """Loads the newest checkpoint that is not damaged.

    Args:
        directory: folder of the checkpoints.
        kind: class of the model.
        warn: function of a line about each damaged one, which is skipped.

    Returns:
        (path, model, progress).

    Raises:
        FileNotFoundError: there is none.
        ValueError: all are damaged, or one is of a later version of this program.
    """
    paths = list_checkpoints(directory)
    if not paths:
        raise FileNotFoundError(f"--resume: there is no checkpoint in {directory}.")
    for path in reversed(paths):
        try:
            model, progress = _read(path, kind)
            break
        except LaterVersion:
            raise
        except Exception as error:  # noqa: BLE001  a damaged zip file raises anything
            warn(_skipped(path, error))
    else:
        raise ValueError(f"--resume: none of the checkpoints in {directory} can be read.")
    if progress.best and not best_of(directory, progress).exists():
        progress.best = None  # deleted for a better one, which is damaged now
    return path, model, progress


class LaterVersion(ValueError):
    """A checkpoint is not damaged, but of a later version of this program."""


def _read(path, kind):
    """Returns (model, progress) of one checkpoint."""
    with zipfile.ZipFile(path) as file:
        damaged = file.testzip()
        if damaged:
            raise ValueError(f"{damaged} does not match its checksum")
        record = json.loads(file.read(PROGRESS_FILE))
    if record.pop("format") > FORMAT:
        raise LaterVersion(f"{path}: was written by a later version of keras_diffusion.")
    progress = Progress(**record)
    model = keras.models.load_model(path)
    if not isinstance(model, kind):
        raise ValueError(f"it holds a {type(model).__name__}")
    if model.compiled:  # again: whether XLA compiles it depends on the hardware
        model.compile(optimizer=model.optimizer)
    for variable, value in zip(_random_state(model), progress.random, strict=True):
        variable.assign(value)
    return model, progress


def _random_state(model):
    """Returns the network's variables that are not weights: seeds of dropout."""
    if not isinstance(model, DiffusionModel):
        return []
    weights = {id(variable) for variable in model.network.weights}
    return [variable for variable in model.network.variables if id(variable) not in weights]


def _skipped(path, error):
    reason = one_line(error, 160) or type(error).__name__
    return f"warning: skipping {path}, which is damaged ({reason})"


def clear_parts(directory):
    """Deletes the unfinished files of a killed run; call it only while no run uses the folder."""
    for folder in ("", "checkpoints", "samples"):
        for part in Path(directory, folder).glob(f"{PART}*"):
            with contextlib.suppress(OSError):
                os.unlink(part)
