"""Jobs of the page: one at a time, and how they are cancelled."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import gradio as gr
import pytest

from keras_diffusion.cli.app.jobs import Jobs

SECONDS = 10  # that a job takes unless it is cancelled


def add(jobs, function):
    """Adds a job; returns what its button and its Cancel button call, with a session."""
    calls = []

    def trigger(call, *_, **__):
        calls.append(call)

    jobs.add(trigger, function, [], [None], SimpleNamespace(click=trigger))
    run, stop = calls

    def request(session):
        return SimpleNamespace(session_hash=session)

    return (
        lambda session: run(request(session), lambda *_, **__: None),
        lambda session: stop(request(session)),
    )


@pytest.fixture
def pool():
    with ThreadPoolExecutor() as pool:
        yield pool


@pytest.mark.parametrize("how", ["button", "closed page", "end of the server"])
def test_a_job_is_cancelled_while_it_runs(how, pool):
    jobs, started = Jobs(), threading.Event()

    def function(progress):
        started.set()
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            progress(1, 2)
            time.sleep(0.01)
        return "images"

    run, stop = add(jobs, function)
    _, stop_other_job = add(jobs, function)
    result = pool.submit(run, "mine")
    assert started.wait(SECONDS)
    stop("other"), stop_other_job("mine"), jobs.cancel("other")
    time.sleep(0.1)
    assert not result.done(), "those of others go on"
    if how == "button":
        stop("mine")
    elif how == "closed page":
        jobs.cancel("mine")
    else:
        jobs.cancel()
    assert result.result(SECONDS / 2) == gr.skip()
    assert not jobs._events


def test_a_job_that_waits_is_cancelled(pool):
    jobs, go, calls = Jobs(), threading.Event(), []

    def function(progress):
        calls.append(1)
        assert go.wait(SECONDS)
        return "images"

    (run, _), (run_other, stop_other) = add(jobs, function), add(jobs, function)
    first = pool.submit(run, "mine")
    while not calls:
        time.sleep(0.01)
    second = pool.submit(run_other, "mine")
    while len(jobs._events) < 2:
        time.sleep(0.01)
    stop_other("mine")
    go.set()
    assert first.result(SECONDS) == "images" and second.result(SECONDS) == gr.skip()
    assert len(calls) == 1


def test_jobs_do_not_overlap(pool):
    jobs, running, counts = Jobs(), [], []

    def function(progress):
        running.append(1)
        counts.append(len(running))
        time.sleep(0.02)
        running.pop()

    kinds = [add(jobs, function)[0] for _ in range(2)]
    results = [pool.submit(run, session) for run in kinds for session in ("one", "one", "other")]
    for result in results:
        result.result(SECONDS)
    assert counts == [1] * 6
