"""Start-up: seconds until something happens, and whether the input pipeline keeps up.

The commands run as a user runs them, in their own folder, and once before without being timed, so
that the files they read are in memory.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time

from benchmarks import data, formats, runs, subjects, training

HELP_GOAL = 1.0  # seconds, at most
PIPELINE_GOAL = 10.0  # times what training consumes, at least
# How Keras' progress bar begins once a step is done, with or without colours.
FIRST_STEP = re.compile(rb"[\r\n](\x1b\[1m)?\s*1/\d+")
TIMEOUT = 5 * 60  # seconds
PIPELINE_SECONDS = 5.0
SAMPLING_STEPS = 20
COMMANDS = {
    "help": "`train.py --help`",
    "first_step": "`train.py`: from start to the first training step",
    "first_sample": f"`sample.py --num 1`: from start to the image, {SAMPLING_STEPS} steps",
}


def run(options):
    """Times the commands in turns, then the input pipelines."""
    with tempfile.TemporaryDirectory() as folder:
        runs.in_fresh_process("startup.export", folder=folder, tiny=options.tiny)
        commands = {
            "help": lambda: _duration("train.py", "--help", cwd=folder),
            "first_step": lambda: _time_to_first_step(_train_flags(options), folder),
            "first_sample": lambda: _duration(
                "sample.py", "--model", "model", "--num", "1", "--num-steps",
                str(2 if options.tiny else SAMPLING_STEPS), "--out", "image.png", cwd=folder,
            ),
        }  # fmt: skip
        for command in commands.values() if not options.tiny else ():
            command()
        times = runs.in_turns(
            lambda row: {"seconds": commands[row["command"]]()},
            [{"command": name} for name in commands],
            options.rounds,
        )
    tasks = ["digits"] if options.tiny else ["mnist", "flowers"]
    rows = [{"task": task} for task in tasks]
    where = {"data_dir": options.data_dir}
    pipelines = runs.in_fresh_turns("startup.measure_pipeline", rows, options, **where)
    trained = options.earlier("training")
    consumed = {task: training.median_of_ours(trained, task) for task in tasks}
    return {"tiny": options.tiny, "times": times, "pipelines": pipelines, "training": consumed}


def _train_flags(options):
    dataset = "digits" if options.tiny else "mnist"
    flags = ["--dataset", dataset, "--minutes", "1", "--run-dir", "run", "--export-dir", "exported"]
    if options.data_dir:
        flags += ["--data-dir", os.path.abspath(options.data_dir)]
    return flags


def _duration(script, *flags, cwd):
    """Returns the seconds of a whole command."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(runs.ROOT / script), *flags],
        cwd=cwd, env=runs.ENVIRONMENT, capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    if done.returncode:
        raise runs.RunFailed(f"{script}: {runs.reason(done.stderr)}")
    return time.monotonic() - began


def _time_to_first_step(flags, folder):
    """Returns the seconds until the progress bar of train.py shows a finished step; ends it."""
    import pty  # not on Windows

    ours, theirs = pty.openpty()  # the progress bar is shown on a terminal only
    with tempfile.TemporaryDirectory(dir=folder) as cwd, open(ours, "rb", 0) as terminal:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-u", str(runs.ROOT / "train.py"), *flags],
            cwd=cwd, env=runs.ENVIRONMENT, stdout=theirs, stderr=subprocess.STDOUT,
        )  # fmt: skip
        os.close(theirs)
        timer = threading.Timer(TIMEOUT, process.kill)
        timer.start()
        printed = b""
        try:
            while part := _read(terminal):
                printed += part
                if FIRST_STEP.search(printed):
                    return time.monotonic() - began
            raise runs.RunFailed(f"train.py: {runs.reason(printed.decode(errors='replace'))}")
        finally:
            timer.cancel()
            process.kill()
            process.wait()


def _read(terminal):
    """Returns what was written to a terminal; b"" once no process has it open any more."""
    try:
        return terminal.read(4096)
    except OSError:  # the end, on Linux
        return b""


def export(folder, tiny=False):
    """Writes an untrained SavedModel of ours to folder/model; runs in a fresh process."""
    subject = subjects.make("ours", "mnist", "default", tiny)
    subject.export(os.path.join(folder, "model"), samplers=["dpmpp_2m"] if tiny else None)
    return {}


def measure_pipeline(task, data_dir, tiny=False):
    """Counts the batches of an input pipeline without a training; runs in a fresh process."""
    from keras_diffusion.data import load_source

    batch_size = subjects.BATCH_SIZES.get(task, subjects.TINY_BATCH_SIZE)
    options = {"batch_size": batch_size, "horizontal_flip": task == "flowers"}
    source = load_source(**data.DATASETS.get(task, {"name": task}), **options, data_dir=data_dir)
    batches = iter(source.training_batches())
    next(batches)
    began, count = time.monotonic(), 0
    while time.monotonic() - began < (0.2 if tiny else PIPELINE_SECONDS):
        next(batches)
        count += 1
    return {"images_per_second": count * batch_size / (time.monotonic() - began)}


def report(result):
    """Returns the tables of start-up and of the input pipeline."""

    def times(row):
        seconds = formats.summary_of(row, "seconds")
        goal = HELP_GOAL if row["command"] == "help" else None
        verdict = formats.verdict(f"under {HELP_GOAL:g} s", seconds["median"], goal, at_most=True)
        return [*formats.median_and_spread(seconds), verdict]

    def rates(row):
        values = formats.summary_of(row, "images_per_second")
        cells = formats.median_and_spread(values)
        factor = formats.ratio(values["median"], result["training"].get(row["task"]))
        if factor is None:
            return [*cells, "-", "training was not measured yet"]
        verdict = formats.verdict(f"{PIPELINE_GOAL:g}x", factor, PIPELINE_GOAL)
        return [*cells, f"{formats.times(factor)} what training consumes", verdict]

    def name(row):
        if "command" in row:
            return [COMMANDS[row["command"]]]
        return [subjects.DATASET_TITLES.get(row["task"], row["task"])]

    header = ["", "seconds", "spread", "goal"]
    commands = formats.measured_table(header, result["times"], name, times)
    header = ["", "images/s", "spread", "ratio", "goal"]
    pipelines = formats.measured_table(header, result["pipelines"], name, rates)
    return f"## Start-up\n\n{commands}\n\n## Input pipeline alone\n\n{pipelines}"
