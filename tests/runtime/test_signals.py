import os
import signal
import threading

import pytest

from keras_diffusion.runtime import signals


def handlers():
    return [signal.getsignal(number) for number in signals.NAMES]


def test_the_first_signal_is_deferred_and_the_second_ends_the_process(capfd, monkeypatch):
    codes = []
    monkeypatch.setattr(signals.os, "_exit", codes.append)
    with signals.deferred_signals() as pending:
        assert pending.signum is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert pending.signum == signal.SIGTERM and not codes
        assert "terminated" in capfd.readouterr().err
        os.kill(os.getpid(), signal.SIGINT)
    assert codes == [128 + signal.SIGINT]


def test_handlers_are_restored_after_an_error():
    before = handlers()
    with pytest.raises(OSError), signals.deferred_signals():
        assert handlers() != before
        raise OSError
    assert handlers() == before


def test_other_threads_have_no_handlers():
    before, states = handlers(), []

    def work():
        with signals.deferred_signals() as pending:
            states.append((pending.signum, handlers()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert states == [(None, before)]
