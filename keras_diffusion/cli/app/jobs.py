"""Jobs of the page: one at a time, with progress, a way to cancel, and errors in one line."""

import functools
import html
import logging
import threading
import time

import gradio as gr

from keras_diffusion.cli.parsing import with_flag
from keras_diffusion.cli.sample import FLAGS
from keras_diffusion.runtime.console import duration

NAMED = {**FLAGS, "num": "--num"}  # {argument that an error names: flag}
UNEXPECTED = "An unexpected error; see the terminal of the server."


class Cancelled(Exception):
    """The visitor has cancelled the job."""


class Progress:
    """The progress of a job; call it with the numbers (done, total) of images.

    Args:
        show: function (share, desc=text).
        cancelled: `threading.Event`.

    Raises (when called):
        Cancelled: the event is set.
    """

    def __init__(self, show, cancelled):
        self._show, self._cancelled = show, cancelled
        self._began, self._first = None, 0

    def __call__(self, done, total):
        if self._cancelled.is_set():
            raise Cancelled
        now = time.monotonic()
        if self._began is None or not done:
            self._began, self._first = now, done
        text = f"{done} of {total} images"
        if done > self._first:
            seconds = (now - self._began) / (done - self._first) * (total - done)
            text += f", {duration(seconds)} left"
        self._show(done / total, desc=text)

    def loading(self):
        """Shows that the model is being loaded."""
        self._show(0, desc="loading the model")


class Jobs:
    """Registers the functions of the page as events."""

    def __init__(self):
        self._computing = threading.Lock()
        self._events = {}  # {Event that cancels it: (session, job)} of those that run or wait

    def add(self, trigger, function, inputs, outputs, cancel, **options):
        """Registers a job that computes images. Jobs of all visitors run one after the other.

        Args:
            trigger: method of a component, such as `button.click`.
            function: (progress, *values of the inputs) -> value, or tuple of values, of the
                outputs; `progress` is a `Progress`. Its ValueErrors are shown to the visitor.
            inputs, outputs: lists of components.
            cancel: button that cancels it, also while it waits.
            **options: of the event, such as `show_progress_on`.
        """
        job = object()  # its name

        def run(request: gr.Request, progress=gr.Progress(), *values):  # noqa: B008
            event = threading.Event()
            self._events[event] = request.session_hash, job
            try:
                # For Gradio, a cancelled job is over while it still computes its last batch.
                with self._computing:
                    if event.is_set():
                        raise Cancelled
                    return function(Progress(progress, event), *values)
            finally:
                del self._events[event]

        def stop(request: gr.Request):
            self.cancel(request.session_hash, job)

        event = trigger(
            in_one_line(run, outputs),
            inputs,
            outputs,
            concurrency_id="compute",
            concurrency_limit=1,
            trigger_mode="once",
            api_visibility="private",
            **options,
        )
        cancel.click(stop, None, None, cancels=[event], queue=False, api_visibility="private")

    def cancel(self, *which):
        """Cancels jobs: all, those of one (session), or those of one (session, job)."""
        for event, name in list(self._events.items()):
            if name[: len(which)] == which:
                event.set()

    def add_quick(self, trigger, function, inputs, outputs, **options):
        """Registers a function that takes no time, such as one that changes the form.

        It does not pass through Gradio's queue, as the browser loses a job that it asks for while
        the queue closes the stream of answers to the event before.

        Args:
            trigger, inputs, outputs, **options: as in `add`. Functions that read what the visitor
                has sent have `queue=True`: without the queue, an error is an HTTP error too.
            function: (*values of the inputs) -> value or tuple of values of the outputs. Its
                ValueErrors are shown to the visitor.

        Returns:
            The event.
        """
        options = {"queue": False, "show_progress": "hidden", "concurrency_limit": None, **options}
        return trigger(
            in_one_line(function, outputs), inputs, outputs, api_visibility="private", **options
        )


def in_one_line(function, outputs):
    """Returns the function with errors that a visitor can read instead of tracebacks.

    A cancelled job leaves its outputs as they are.
    """
    count = len(outputs or ())

    @functools.wraps(function)
    def run(*arguments):
        try:
            return function(*arguments)
        except Cancelled:
            skips = [gr.skip()] * count
            return skips[0] if count == 1 else skips
        except gr.Error:
            raise
        except (ValueError, OSError) as error:
            line = html.escape(with_flag(error, NAMED), quote=False)
        except Exception:
            logging.getLogger(__name__).exception("a job of the page failed")
            line = UNEXPECTED
        raise gr.Error(line, print_exception=False)

    return run
