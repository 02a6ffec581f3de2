"""Files that are whole or not there."""

import contextlib
import os


@contextlib.contextmanager
def whole_file(path):
    """Yields the name of a file to write, and puts it where `path` is once that went well."""
    path = os.fspath(path)
    part = path + ".part"
    yield part
    os.replace(part, path)
