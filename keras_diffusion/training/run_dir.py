"""The directory of a run: its lock, config.json and tables."""

import contextlib
import csv
import dataclasses
import json
import platform
from pathlib import Path

import filelock
import keras
import tensorflow as tf

from keras_diffusion import __version__
from keras_diffusion.data import single_image
from keras_diffusion.data.listing import SPLITS
from keras_diffusion.runtime import console, processor
from keras_diffusion.runtime.files import content_hash, whole_file
from keras_diffusion.runtime.git import git_revision

LOCK = ".lock"  # the file that a run locks


@contextlib.contextmanager
def locked(run_dir):
    """Creates and locks a run's folder for this process; the lock ends with the process.

    Raises:
        ValueError: another process has locked it.
    """
    Path(run_dir).mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(Path(run_dir) / LOCK)
    try:
        lock.acquire(timeout=1)  # `locks.is_held` holds it for a moment
    except filelock.Timeout as error:
        raise ValueError(f"--run-dir: {run_dir} is in use by another run.") from error
    try:
        yield
    finally:
        lock.release()


def describe(config):
    """Returns the Config of a run, and the versions and the revision of the code, as a dict."""
    return {
        "config": dataclasses.asdict(config),
        "versions": {
            "keras_diffusion": __version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "python": platform.python_version(),
        },
        "git_revision": git_revision(),
    }


def describe_training(run, steps, seconds):
    """Returns the facts of a finished training for its export, see `describe` and `model_card`.

    Args:
        run: `run.Run`.
        steps: int, of the whole training.
        seconds: of the whole training.
    """
    source = run.data.source
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in gpus]
    return {
        **describe(run.config),
        "decided": list(run.decided),
        "data": {
            "name": source.name,
            "training images": source.num_train,
            "training split": source.train_split,
            "validation images": source.num_val,
            "validation split": source.val_split,
        },
        "length": {
            "images": steps * run.batch_size,
            "steps": steps,
            "batch size": run.batch_size,
            "minutes": round(seconds / 60, 1),
        },
        "hardware": f"{len(gpus)} x {names[0]}" if gpus else processor.describe(),
    }


def write_config(run):
    """Writes config.json of a `run.Run`."""
    record = {**describe(run.config), "decided": list(run.decided)}
    source = run.data.source
    record["splits"] = {"train": source.train_split, "validation": source.val_split}
    record["data"] = _describe_data(run)
    with whole_file(run.dir / "config.json") as part:
        Path(part).write_text(json.dumps(record, indent=2) + "\n")


def read_decided(run_dir):
    """Returns the names of the options that data and hardware decided when a run began."""
    return tuple(json.loads((Path(run_dir) / "config.json").read_text()).get("decided", ()))


def check_data(run):
    """Raises ValueError if the data differs from that in config.json of the `run.Run`."""
    path = run.dir / "config.json"
    before = json.loads(path.read_text()).get("data", {})
    now = _describe_data(run)
    old, new = (facts.get("classes", now["classes"]) for facts in (before, now))
    lost = [name for name in old if name.casefold() in SPLITS and name not in new]
    if lost:
        raise ValueError(
            f"--resume: the data is read differently now: {console.names(lost)} were classes when "
            f"{path} was written, and are splits now. Start a new run."
        )
    for name, value in now.items():
        if before.get(name, value) != value:
            raise ValueError(
                f"--resume: the data has changed: {name} is {_brief(value)}, "
                f"but was {_brief(before[name])} when {path} was written."
            )


def _describe_data(run):
    """What must be the same when a run is resumed; the names are those of the file format."""
    source = run.data.source
    facts = {
        "training images": source.num_train,
        "validation images": source.num_val,
        "classes": list(source.class_names),
    }
    if run.config.image:  # before it is reduced: that may round differently on another machine
        pixels = single_image.read(run.config.image)
        digest = content_hash(str(pixels.shape), pixels)
        facts["picture"] = f"{pixels.shape[0]}x{pixels.shape[1]}, hash {digest}"
    return facts


def _brief(value):
    return f"{len(value)} names" if isinstance(value, list) and len(value) > 6 else value


def write_history(rows, path):
    """Writes the rows of a run's history as CSV."""
    write_table(rows, path, names=["epoch"])


def write_table(rows, path, names=()):
    """Writes dicts as the rows of a CSV file; missing values are empty.

    Args:
        rows: list of dicts.
        path: CSV to write.
        names: of columns that come first, also without rows.
    """
    names = dict.fromkeys([*names, *(name for row in rows for name in row)])
    with whole_file(path) as part, open(part, "w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(names))
        table.writeheader()
        table.writerows(rows)
