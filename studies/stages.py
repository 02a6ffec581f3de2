"""Stages of a study: each is computed once and cached, so a stopped study resumes."""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np

from keras_diffusion.runtime.files import content_hash, whole_folder

RESULT = "figures.json"  # of a stage, written last


class Stages:
    """The cached stages of a study, one folder for each.

    Args:
        folder: of all stages; one per set of settings, see `key`.
        log: function that takes a line of progress.
        origin: JSON-serialisable dict that is saved with each stage: machine, revision of the code.

    Attributes:
        shared: folder for what studies and settings have in common, such as classifiers.
    """

    def __init__(self, folder, log=print, origin=None):
        self.folder = Path(folder)
        self.shared = self.folder.parents[1] / "shared"
        self.log = log
        self.origin = origin or {}
        self._records = {}  # name: content of its RESULT

    def run(self, name, compute):
        """Returns the result of a stage, from its folder if it was computed before.

        Args:
            name: of the stage and of its folder.
            compute: function from an empty folder, where it may write files, to a
                JSON-serialisable dict. The folder is kept whole or not at all.

        Returns:
            The dict, as read back from JSON.
        """
        if not self.has(name):
            self.folder.mkdir(parents=True, exist_ok=True)
            start = time.monotonic()
            with whole_folder(self.folder / name) as part:
                part.mkdir()
                record = {"figures": compute(part), "made": self.origin}
                record["seconds"] = round(time.monotonic() - start, 1)
                (part / RESULT).write_text(json.dumps(record) + "\n", encoding="utf-8")
            self.log(f"{name}: done in {record['seconds']:.0f} s")
        self._records[name] = json.loads(self.path(name, RESULT).read_text(encoding="utf-8"))
        return self._records[name]["figures"]

    def has(self, name):
        """Returns whether a stage was computed."""
        return self.path(name, RESULT).exists()

    def path(self, name, file):
        """Returns the path of a file of a stage."""
        return self.folder / name / file

    def array(self, name, file):
        """Returns the array in a .npy file of a stage.

        Raises:
            FileNotFoundError: the stage was not computed here.
        """
        return np.load(self.path(name, file))

    @property
    def seconds(self):
        """float: time that the stages asked for so far took to compute, whenever that was."""
        return sum(record["seconds"] for record in self._records.values())

    @property
    def elsewhere(self):
        """list of {"made", "stages"}: stages of another origin, by that origin."""
        groups = {}
        for name, record in self._records.items():
            origin = record.get("made", {})  # missing in stages of old versions
            if origin != self.origin:
                group = groups.setdefault(json.dumps(origin), {"made": origin, "stages": []})
                group["stages"].append(name)
        return list(groups.values())


def key(settings):
    """Returns a short name for settings, a dataclass or a JSON-serialisable dict."""
    if dataclasses.is_dataclass(settings):
        settings = dataclasses.asdict(settings)
    return content_hash(json.dumps(settings, sort_keys=True))[:10]
