"""What takes minutes to make and is kept: by one process, while others wait for it."""

import contextlib
from pathlib import Path

import filelock


@contextlib.contextmanager
def made_once(path, tell=print):
    """Holds a lock beside a file or folder that is to be made, and makes the folder around it.

    Of several processes that want the same, one makes it; the others wait and then find it.

    Args:
        path: of the file or folder.
        tell: takes a line, if this process has to wait.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path.with_name(f".lock-{path.name}"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        tell(f"waiting for another process, which makes {path}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
