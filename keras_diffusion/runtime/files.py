"""Files that are whole or not there, on the disk too."""

import contextlib
import os
import shutil
from pathlib import Path

PART = ".part-"  # begins the names of files that are being written


@contextlib.contextmanager
def whole_file(path):
    """Yields the name of a file to write, and puts it where `path` is once that went well.

    The name ends as `path` does. When this returns, the file has reached the disk under its
    own name, so a power cut leaves the old file or the new one, whole; an error while writing
    leaves the old one, and nothing else.
    """
    folder, name = os.path.split(os.fspath(path))
    part = os.path.join(folder, PART + name)
    try:
        yield part
        flush(part)
        os.replace(part, path)
        flush(folder or ".")
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(part)
        if isinstance(error, OSError) and error.errno and not error.filename:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


@contextlib.contextmanager
def whole_folder(path):
    """Yields the path of a folder to fill, and puts it where `path` is once that went well.

    A folder that is there already goes last: it is lost only when the new one is on the disk.
    """
    path = Path(path)
    part, old = (path.with_name(f"{prefix}{path.name}") for prefix in (PART, ".old-"))
    shutil.rmtree(part, ignore_errors=True)
    try:
        yield part
        for found in [*part.rglob("*"), part]:
            flush(found)
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(part, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
        flush(path.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def flush(path):
    """Waits until a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and os.path.isdir(path):
        return  # Windows knows no such thing
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
