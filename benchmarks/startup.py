"""Start-up: seconds until something happens, and whether the input pipeline keeps up.

The commands are run as a user runs them, in a folder of their own; first they are run once
without being timed, so that the files they read are in memory.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time

from benchmarks import runs, subjects, training

ROOT = runs.FOLDER.parent
HELP_GOAL = 1.0  # seconds
PIPELINE_GOAL = 10.0  # times what training consumes
# How Keras' progress bar begins once a step is done, with or without colours.
FIRST_STEP = re.compile(rb"[\r\n](\x1b\[1m)?\s*1/\d+")
GIVEN_UP = 5 * 60  # seconds
PIPELINE_SECONDS = 5.0
SAMPLING_STEPS = 20
TITLES = {
    "help": "`train.py --help`",
    "first_step": "`train.py`: from start to the first training step",
    "first_sample": f"`sample.py --num 1`: from start to a picture, {SAMPLING_STEPS} steps",
}
DATASETS = {
    "mnist": {"name": "mnist"},
    "flowers": {"name": "oxford_flowers102", "image_size": 64, "horizontal_flip": True},
    "digits": {"name": "digits"},  # what needs no data set, for toy sizes
}


def run(options):
    """Times the commands in turns, then the input pipelines."""
    with tempfile.TemporaryDirectory() as folder:
        runs.in_fresh_process("startup.export", folder=folder, tiny=options.tiny)
        timed = {
            "help": lambda: _finished("train.py", "--help", cwd=folder),
            "first_step": lambda: _first_step(_train_flags(options), folder),
            "first_sample": lambda: _finished(
                "sample.py", "--model", "model", "--num", "1", "--num-steps",
                str(2 if options.tiny else SAMPLING_STEPS), "--out", "picture.png", cwd=folder,
            ),
        }  # fmt: skip
        for call in timed.values():
            if not options.tiny:
                call()
        results = runs.in_turns(lambda name: timed[name](), list(timed), options.rounds)
    found = {"tiny": options.tiny, "times": dict(zip(timed, results, strict=True))}
    found["pipelines"] = _pipelines(options)
    found["training"] = {
        task: training.images_per_second(options.earlier("training"), task)
        for task in found["pipelines"]
    }
    return found


def _train_flags(options):
    dataset = "digits" if options.tiny else "mnist"
    flags = ["--dataset", dataset, "--minutes", "1", "--run-dir", "run", "--export-dir", "exported"]
    if options.data_dir:
        flags += ["--data-dir", os.path.abspath(options.data_dir)]
    return flags


def _finished(script, *flags, cwd):
    """Seconds of a whole command."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, str(ROOT / script), *flags],
            cwd=cwd, env=runs.ENVIRONMENT, capture_output=True, text=True, timeout=GIVEN_UP,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise runs.RunFailed(f"{script}: given up after {GIVEN_UP} s") from error
    if done.returncode:
        raise runs.RunFailed(f"{script}: {runs.reason(done.stderr)}")
    return {"seconds": time.monotonic() - began}


def _first_step(flags, folder):
    """Seconds until train.py's progress bar shows that a step is done; it is ended then."""
    try:
        import pty
    except ImportError as error:
        raise runs.RunFailed("Windows has no terminal that a process could be given") from error
    terminal, its_end = pty.openpty()  # what is written to anything else has no progress bar
    with tempfile.TemporaryDirectory(dir=folder) as cwd, open(terminal, "rb", 0) as written:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-u", str(ROOT / "train.py"), *flags],
            cwd=cwd, env=runs.ENVIRONMENT, stdout=its_end, stderr=subprocess.STDOUT,
        )  # fmt: skip
        os.close(its_end)
        too_late = threading.Timer(GIVEN_UP, process.kill)
        too_late.start()
        printed = b""
        try:
            while part := _read(written):
                printed += part
                if FIRST_STEP.search(printed):
                    return {"seconds": time.monotonic() - began}
            raise runs.RunFailed(f"train.py: {runs.reason(printed.decode(errors='replace'))}")
        finally:
            too_late.cancel()
            process.kill()
            process.wait()


def _read(terminal):
    """What was written to a terminal, or b"" once no process has it open any more."""
    try:
        return terminal.read(4096)
    except OSError:  # as Linux says it
        return b""


def export(folder, tiny=False):
    """Writes an untrained SavedModel of ours to folder/model; in a fresh process."""
    subjects.make("ours", "mnist", "default", tiny).export(os.path.join(folder, "model"))
    return {}


def _pipelines(options):
    """{task: {"images_per_second"}} of the input pipelines alone, each in a fresh process."""
    found = {}
    for task in ["digits"] if options.tiny else ["mnist", "flowers"]:
        [found[task]] = runs.in_turns(
            lambda name: runs.in_fresh_process(
                "startup.pipeline_rate", task=name, data_dir=options.data_dir, tiny=options.tiny
            ),
            [task],
            options.rounds,
            lambda name: f"input pipeline, {name}",
        )
    return found


def pipeline_rate(task, data_dir, tiny=False):
    """Batches that come out while nobody trains; in a fresh process."""
    from keras_diffusion import data

    batch_size = subjects.BATCH_SIZES.get(task, 16)
    source = data.load_source(**DATASETS[task], batch_size=batch_size, data_dir=data_dir)
    batches = iter(source.training_batches())
    next(batches)
    began, count = time.monotonic(), 0
    while time.monotonic() - began < (0.2 if tiny else PIPELINE_SECONDS):
        next(batches)
        count += 1
    return {"images_per_second": count * batch_size / (time.monotonic() - began)}


def report(found):
    """Returns the tables of start-up and of the input pipeline."""
    rows = []
    for name, result in found["times"].items():
        if "failed" in result:
            rows.append([TITLES[name], "-", result["failed"], ""])
            continue
        numbers = runs.summary(r["seconds"] for r in result["runs"])
        said = ""
        if name == "help":
            verdict = runs.verdict(numbers["median"], HELP_GOAL, most=True)
            said = f"under {HELP_GOAL:g} s: {verdict}"
        rows.append([TITLES[name], f"**{runs.figure(numbers['median'])}**",
                     runs.spread(numbers), said])  # fmt: skip
    first = runs.table(["", "seconds", "spread", "goal"], rows)
    return f"## Start-up\n\n{first}\n\n## Input pipeline alone\n\n{_pipeline_table(found)}"


def _pipeline_table(found):
    rows = []
    for task, result in found["pipelines"].items():
        title = subjects.DATASET_TITLES.get(task, task)
        if "failed" in result:
            rows.append([title, "-", result["failed"], "-", ""])
            continue
        numbers = runs.summary(r["images_per_second"] for r in result["runs"])
        consumed = found["training"].get(task)
        ratio, said = "-", "training is still to be measured"
        if consumed:
            times = numbers["median"] / consumed
            ratio = f"{runs.figure(times)}x what training consumes"
            said = f"{PIPELINE_GOAL:g}x: {runs.verdict(times, PIPELINE_GOAL)}"
        rows.append([title, f"**{runs.figure(numbers['median'])}**", runs.spread(numbers),
                     ratio, said])  # fmt: skip
    return runs.table(["", "images/s", "spread", "ratio", "goal"], rows)
