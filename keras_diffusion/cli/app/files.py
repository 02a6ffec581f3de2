"""Files of results, in a folder of the page that holds nothing else."""

import contextlib
import secrets
import time
from pathlib import Path

HOURS = 24  # that a file is kept
PAUSE = 600  # seconds between two looks for old files
MOST_BYTES = 2 * 10**9  # of all files, above which no upload is taken


class Files:
    """New files in a folder, whose old files are removed.

    Args:
        folder: path of an existing folder.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self._looked = time.monotonic()

    def new(self, name):
        """Returns the path of a file that does not exist yet, in a folder of its own."""
        self._look()
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir()
        return folder / name

    def has_room(self):
        """Returns whether there is room for an upload."""
        self._look()
        with contextlib.suppress(OSError):  # removed meanwhile
            return sum(path.stat().st_size for path in self.folder.glob("*/*")) <= MOST_BYTES
        return True

    def _look(self):
        """Removes old files from time to time."""
        if time.monotonic() - self._looked > PAUSE:
            self._looked = time.monotonic()
            self.remove_old()

    def remove_old(self, seconds=HOURS * 3600):
        """Removes all files in the folder that were written longer ago."""
        before = time.time() - seconds
        for path in [*self.folder.glob("*/*"), *self.folder.iterdir()]:
            with contextlib.suppress(OSError):  # a folder that is not empty
                if path.stat().st_mtime < before:
                    path.rmdir() if path.is_dir() else path.unlink()
