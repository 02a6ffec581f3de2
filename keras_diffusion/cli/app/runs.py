"""What the files of runs say about them, for the tab Watch; a run may be written meanwhile."""

import csv
import dataclasses
import json
import math
import re
import time
from pathlib import Path

from keras_diffusion.runtime.console import duration
from keras_diffusion.runtime.locks import is_held

TRAINING, FINISHED, STOPPED = "training now", "finished", "stopped"
SAMPLES = re.compile(r"epoch-(\d+)\.png")
CODEC = "codec"  # folder of stage one of a run on latents


@dataclasses.dataclass(frozen=True)
class State:
    """The state of a run.

    Attributes:
        name: of its folder.
        state: `TRAINING`, `FINISHED` or `STOPPED`.
        lines: list of text: how far it is, and the time left.
        warnings: list of text.
        history: Path of its history.csv, or of that of its stage one while there is no other.
        epochs: int, rows of the history.
        samples: {epoch: Path}, the grids of samples, oldest first.
        can_resume: bool, whether it has stopped and left a checkpoint.
    """

    name: str
    state: str
    lines: list
    warnings: list
    history: Path
    epochs: int
    samples: dict
    can_resume: bool


def names(root):
    """Returns the names of the runs in a folder, most recently written first."""
    files = ("config.json", "history.csv", "status.json", f"{CODEC}/status.json")
    written = {}
    for path in _listed(root):
        times = [_written(path / name) for name in files]
        if times[0]:
            written[path.name] = max(times)
    return sorted(written, key=lambda name: (-written[name], name))


def read(root, name):
    """Returns the `State` of a run.

    Args:
        root: folder of the runs.
        name: one of `names(root)`.

    Raises:
        ValueError: there is no such run, or not any more; one line.
    """
    if name not in names(root):
        raise ValueError(f"There is no run {name!r} in {root} (any more). Choose another one.")
    folder = Path(root) / name
    is_training = is_held(folder / ".lock")
    rows, status = _rows(folder / "history.csv"), _read_json(folder / "status.json")
    history = folder / "history.csv"
    stage_one = not rows and not status and (folder / CODEC / "config.json").exists()
    if stage_one:
        history = folder / CODEC / "history.csv"
        rows, status = _rows(history), _read_json(folder / CODEC / "status.json")
        written = _written(folder / CODEC / "status.json")
    else:
        written = _written(folder / "status.json")
    # Runs of earlier versions have no status.json.
    is_finished = status.get("finished") if status else (folder / "health.png").exists()
    is_finished = is_finished and not stage_one
    state = TRAINING if is_training else FINISHED if is_finished else STOPPED
    what = "stage one, the autoencoder: " if stage_one else ""
    lines = [what + _how_far(status, len(rows))]
    if is_training:
        lines.append(_time_left(status, time.time() - written))
    return State(
        name=name,
        state=state,
        lines=lines,
        warnings=_warnings(status, rows, is_training),
        history=history,
        epochs=len(rows),
        samples=_samples(folder / "samples"),
        can_resume=state == STOPPED and _has_checkpoint(folder),
    )


def _how_far(status, count):
    """Returns text: the epochs that are finished, and the minutes of training."""
    epochs = status.get("epochs")
    parts = [f"{count} of {epochs} epochs" if epochs else f"{count} epochs"]
    if isinstance(status.get("seconds"), int | float):
        minutes = status.get("minutes")
        parts.append(duration(status["seconds"]) + (f" of {minutes:g} min" if minutes else ""))
    return ", ".join(parts)


def _time_left(status, age):
    """Returns text; `age` is how many seconds ago the status was written."""
    if status.get("finished"):
        return "the training is over; the next stage, or figures and export, are under way"
    left = status.get("seconds_left")
    if not isinstance(left, int | float):
        return "the time left is known after the first steps"
    return f"about {duration(max(0, left - age))} left"


def _warnings(status, rows, is_training):
    """Returns a list of text."""
    lines = [status.get("warning"), None if is_training else status.get("message")]
    skipped = [row for row in rows if _number(row.get("skipped")) > 0]
    if skipped:
        count = sum(_number(row["skipped"]) for row in skipped)
        epochs = f"epoch {skipped[-1]['epoch']}" if len(skipped) == 1 else f"{len(skipped)} epochs"
        lines.append(f"{count:g} steps in {epochs} were skipped, as a gradient was not finite")
    return [line for line in lines if line]


# Files --------------------------------------------------------------------------------------


def _listed(root):
    """Returns the folders in a folder, without hidden ones; [] if it is gone."""
    try:
        return [path for path in Path(root).iterdir() if path.is_dir() and path.name[0] != "."]
    except OSError:
        return []


def _written(path):
    """Returns when a file was written, in seconds; 0 if there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _read_json(path):
    """Returns the dict in a file; {} if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _rows(path):
    """Returns the rows of a history.csv as dicts; [] if there is none."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return []


def _number(text):
    """Returns a finite number, 0 if it is none."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return 0.0
    return value if math.isfinite(value) else 0.0


def _samples(folder):
    """Returns {epoch: Path} of the grids in a folder, oldest first."""
    found = {int(match[1]): folder / match[0] for match in _matches(folder)}
    return dict(sorted(found.items()))


def _has_checkpoint(folder):
    try:
        stages = [(folder / stage / "checkpoints").glob("step-*.keras") for stage in ("", CODEC)]
        return any(map(any, stages))
    except OSError:  # the run is deleted meanwhile
        return False


def _matches(folder):
    try:
        return [match for path in folder.iterdir() if (match := SAMPLES.fullmatch(path.name))]
    except OSError:
        return []
