"""Ctrl-C and SIGTERM, put off until a step is finished."""

import contextlib
import os
import signal
import threading

NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Interrupted(Exception):
    """Ends a training between two steps, after its checkpoint is written.

    Attributes:
        signum: the signal, SIGINT or SIGTERM; 128 + signum is the exit code of the shell.
    """

    def __init__(self, signum):
        super().__init__(NAMES.get(signum, str(signum)))
        self.signum = signum


class Pending:
    """Which signal has come, if any.

    Attributes:
        signum: None, or the number of the first signal.
    """

    signum = None


@contextlib.contextmanager
def put_off():
    """Yields a `Pending`: the first signal is noted there, a second ends the process at once.

    Ending at once is safe: files are replaced whole (`files.whole_file`). Outside of the main
    thread signals cannot be caught and go their usual way.
    """
    pending = Pending()
    if threading.current_thread() is not threading.main_thread():
        yield pending
        return

    def note(signum, frame):
        if pending.signum is not None:
            os._exit(128 + signum)
        pending.signum = signum
        with contextlib.suppress(OSError):  # whoever read it may have got the signal too
            told = f"\n{NAMES[signum]}: finishing the step; once more leaves at once\n"
            os.write(2, told.encode())

    before = {signum: signal.signal(signum, note) for signum in NAMES}
    try:
        yield pending
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
