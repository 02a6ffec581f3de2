"""Stages of a study, each made once: what was stopped goes on with the first that is missing."""

import dataclasses
import hashlib
import json
import time
from pathlib import Path

import numpy as np

from keras_diffusion.runtime.files import whole_folder

FIGURES = "figures.json"  # of a stage, written last


class Kept:
    """What the stages of a study have made, in a folder for each.

    Args:
        folder: of all stages; one for each setting, see `key`.
        tell: takes lines of progress.
        here: dict as JSON allows of what is noted with each stage: machine, revision of the code.

    Attributes:
        shared: folder of what studies and settings have in common, such as classifiers.
    """

    def __init__(self, folder, tell=print, here=None):
        self.folder = Path(folder)
        self.shared = self.folder.parents[1] / "shared"
        self.tell = tell
        self.here = here or {}
        self._stages = {}  # name: what its figures.json holds

    def stage(self, name, make):
        """Returns what a stage has found, from its folder if it was made before.

        Args:
            name: of the stage and its folder.
            make: function of an empty folder, which it may leave files in, to a dict as JSON
                allows. The folder takes its place whole or not at all.

        Returns:
            The dict, as read back from JSON.
        """
        if not self.has(name):
            self.folder.mkdir(parents=True, exist_ok=True)
            began = time.monotonic()
            with whole_folder(self.folder / name) as part:
                part.mkdir()
                found = {"figures": make(part), "made": self.here}
                found["seconds"] = round(time.monotonic() - began, 1)
                (part / FIGURES).write_text(json.dumps(found) + "\n", encoding="utf-8")
            self.tell(f"{name}: done in {found['seconds']:.0f} s")
        record = json.loads((self.folder / name / FIGURES).read_text(encoding="utf-8"))
        self._stages[name] = record
        return record["figures"]

    def has(self, name):
        """bool: whether a stage was made."""
        return (self.folder / name / FIGURES).exists()

    def path(self, name, file):
        """Path of a file that a stage has left."""
        return self.folder / name / file

    def array(self, name, file):
        """Returns the array in a .npy file that a stage has left, or None if it is not there."""
        path = self.path(name, file)
        return np.load(path) if path.exists() else None

    @property
    def seconds(self):
        """float: that all stages asked for so far took to make, whenever that was."""
        return sum(record["seconds"] for record in self._stages.values())

    @property
    def elsewhere(self):
        """list of {"made", "stages"}: names of stages that were not made `here`, but so."""
        found = {}
        for name, record in self._stages.items():
            made = record.get("made", {})  # stages of old have none
            if made != self.here:
                found.setdefault(json.dumps(made), {"made": made, "stages": []})
                found[json.dumps(made)]["stages"].append(name)
        return list(found.values())


def key(settings):
    """A short name for settings, a dataclass or a dict as JSON allows: others, another name."""
    if dataclasses.is_dataclass(settings):
        settings = dataclasses.asdict(settings)
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
