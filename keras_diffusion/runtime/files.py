"""Atomic writes: a file or folder is complete or absent, also after a power cut."""

import contextlib
import hashlib
import itertools
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

PART = ".part-"  # prefix of files and folders that are being written
OLD = ".old-"  # of folders that are being replaced


@contextlib.contextmanager
def whole_file(path):
    """Yields a temporary path with the suffix of `path`, then moves that file to `path`.

    The file is flushed to disk before it is renamed, so a power cut leaves the old file or the new
    one. After an error in the body the old file is unchanged and the temporary one is removed.
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
    """Yields a temporary path for a folder, then moves that folder to `path`.

    An existing folder is removed last, when the new one is on disk. After an error in the body it
    is unchanged and the temporary one is removed.
    """
    path = Path(os.path.abspath(path))  # "." and ".." have no name
    part, old = (path.with_name(f"{prefix}{path.name}") for prefix in (PART, OLD))
    shutil.rmtree(part, ignore_errors=True)
    try:
        yield part
        for child in [*part.rglob("*"), part]:
            flush(child)
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


def check_writable(folder):
    """Creates a folder and a file in it, and removes what was not there before.

    Permissions alone do not tell: root has all of them, also on read-only file systems.

    Raises:
        OSError: it cannot be written.
    """
    folder = Path(os.path.abspath(folder))
    parents = (folder, *folder.parents)
    missing = list(itertools.takewhile(lambda path: not path.exists(), parents))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=PART, dir=folder):
            pass
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


def require_writable(flag, folder):
    """Raises OSError that names the flag, if a folder cannot be written; see `check_writable`."""
    try:
        check_writable(folder)
    except OSError as error:
        raise OSError(
            f"{flag}: {folder} cannot be written ({error.strerror or error}). Choose another "
            "folder, or change its permissions."
        ) from error


def flush(path):
    """Flushes a file, or the entries of a folder, to disk."""
    if os.name == "nt" and os.path.isdir(path):
        return  # Windows cannot open a folder
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def content_hash(*parts):
    """Returns 12 hexadecimal digits (of SHA-256) that stand for some data.

    Args:
        parts: texts, bytes, and arrays; of an array the values count, not the shape.
    """
    digest = hashlib.sha256()
    for part in parts:
        part = part.encode() if isinstance(part, str) else part
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
    return digest.hexdigest()[:12]
