"""Locks between processes."""

import contextlib
from pathlib import Path

import filelock


@contextlib.contextmanager
def exclusive(path, tell=print):
    """Holds a lock while a cached file or folder is created; creates its parent folder.

    If several processes need the same file, one creates it while the others wait.

    Args:
        path: file or folder to create.
        tell: function, called with a line of text if this process has to wait.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path.with_name(f".lock-{path.name}"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        tell(f"waiting for another process to create {path}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_held(path):
    """bool: a process holds a lock on the file; False if there is no file.

    The lock is taken for a moment to find out.
    """
    if not Path(path).exists():
        return False
    try:
        with filelock.FileLock(path).acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:  # deleted meanwhile, or it cannot be opened
        return False
