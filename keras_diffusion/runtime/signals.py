"""Ctrl-C and SIGTERM, handled at the end of a training step."""

import contextlib
import os
import signal
import threading

NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Interrupted(Exception):
    """Raised between two training steps, after a checkpoint is written.

    Attributes:
        signum: SIGINT or SIGTERM; by convention the exit code is 128 + signum.
    """

    def __init__(self, signum):
        super().__init__(NAMES.get(signum, str(signum)))
        self.signum = signum


class Pending:
    """The first signal received.

    Attributes:
        signum: number of the signal; None: no signal yet.
    """

    signum = None


@contextlib.contextmanager
def exiting_at_once(stderr=2):
    """Ctrl-C exits at once with code 130 and one line, on the file descriptor `stderr`.

    For imports, which may turn a KeyboardInterrupt into other errors, or print it and continue.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(signum, frame):
        with contextlib.suppress(OSError):
            os.write(stderr, b"\ninterrupted; nothing has been written\n")
        os._exit(128 + signum)

    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def deferred_signals():
    """Yields a `Pending` that records the first signal; a second one exits at once.

    An immediate exit is safe, as files are replaced as a whole (`files.whole_file`). Outside of
    the main thread Python cannot handle signals: there nothing is changed.
    """
    pending = Pending()
    if threading.current_thread() is not threading.main_thread():
        yield pending
        return

    def note(signum, frame):
        if pending.signum is not None:
            os._exit(128 + signum)
        pending.signum = signum
        with contextlib.suppress(OSError):  # the reader of a pipe may have ended already
            message = f"\n{NAMES[signum]}: finishing the step; a second signal exits at once\n"
            os.write(2, message.encode())

    before = {signum: signal.signal(signum, note) for signum in NAMES}
    try:
        yield pending
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
