"""What a run writes down about itself: config.json, and a lock on its folder."""

import contextlib
import dataclasses
import json
import platform
from pathlib import Path

import filelock
import keras
import tensorflow as tf

from keras_diffusion import __version__
from keras_diffusion.data import single_image
from keras_diffusion.runtime.files import content_hash, whole_file
from keras_diffusion.runtime.git import git_revision


@contextlib.contextmanager
def alone_in(run_dir):
    """Holds a run's folder for this process alone; the lock ends with the process, however.

    Raises:
        ValueError: another process holds it.
    """
    Path(run_dir).mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(Path(run_dir) / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise ValueError(f"--run-dir: {run_dir} is in use by another run.") from error
    try:
        yield
    finally:
        lock.release()


def describe(config):
    """Returns what is worth knowing of a run: its Config, versions, the state of the code."""
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


def write(run_dir, config, source):
    """Writes config.json."""
    record = describe(config)
    record["splits"] = {"train": source.train_split, "validation": source.val_split}
    record["data"] = _facts(config, source)
    with whole_file(Path(run_dir) / "config.json") as part:
        Path(part).write_text(json.dumps(record, indent=2) + "\n")


def check_data(run_dir, config, source):
    """Raises ValueError, if the data is not that which the run began with."""
    path = Path(run_dir) / "config.json"
    before = json.loads(path.read_text()).get("data", {})
    for name, now in _facts(config, source).items():
        if before.get(name, now) != now:
            raise ValueError(
                f"--resume: the data has changed: {name} is {_brief(now)}, "
                f"and was {_brief(before[name])} when {path} was written."
            )


def _facts(config, source):
    found = {
        "training images": source.num_train,
        "validation images": source.num_val,
        "classes": list(source.class_names),
    }
    if config.image:  # before it is reduced: another machine may round otherwise
        picture = single_image.read(config.image)
        digest = content_hash(str(picture.shape), picture)
        found["picture"] = f"{picture.shape[0]}x{picture.shape[1]}, hash {digest}"
    return found


def _brief(value):
    return f"{len(value)} names" if isinstance(value, list) and len(value) > 6 else value
