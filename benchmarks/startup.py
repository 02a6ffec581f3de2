"""Start-up: seconds until something happens.

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

from benchmarks import formats, runs, subjects

BEYOND = "beyond"
GOALS = {"help": 1, "first_step": 10, BEYOND: 4}  # seconds, at most
# How the progress bar begins once a step is done.
FIRST_STEP = re.compile(rb"\repoch 1(/\d+)?  1/\d+ ")
TIMEOUT = 5 * 60  # seconds
SAMPLING_STEPS = 20
COMMANDS = {
    "help": "`train.py --help`",
    "import": "`import tensorflow`",
    "first_step": "`train.py`: from start to the first training step",
    "first_sample": f"`sample.py --num 1`: from start to the image, {SAMPLING_STEPS} steps",
    BEYOND: "... beyond the import of TensorFlow",
}


def run(options):
    """Times the commands in turns."""
    with tempfile.TemporaryDirectory() as folder:
        runs.in_fresh_process("startup.export", folder=folder, tiny=options.tiny)
        commands = {
            "help": lambda: _duration("train.py", "--help", cwd=folder),
            "import": lambda: _duration("-c", "import tensorflow", cwd=folder),
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
    return {"tiny": options.tiny, "times": times}


def _train_flags(options):
    dataset = "digits" if options.tiny else "mnist"
    flags = ["--dataset", dataset, "--minutes", "1", "--run-dir", "run", "--export-dir", "exported"]
    if options.data_dir:
        flags += ["--data-dir", os.path.abspath(options.data_dir)]
    return flags


def _duration(script, *flags, cwd):
    """Returns the seconds of a whole command: a script of ours, or "-c" and code."""
    command = [sys.executable, script if script == "-c" else str(runs.ROOT / script), *flags]
    began = time.monotonic()
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT)
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
            cwd=cwd, stdout=theirs, stderr=subprocess.STDOUT,
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


def report(result):
    """Returns the table, with the first sample also without the import of TensorFlow."""

    def times(row):
        seconds, goal = formats.summary_of(row, "seconds"), GOALS.get(row["command"])
        verdict = formats.verdict(f"at most {goal} s", seconds["median"], goal, at_most=True)
        return [*formats.median_and_spread(seconds), verdict]

    rows = {row["command"]: row for row in result["times"]}
    samples = rows.get("first_sample", {}).get("runs")
    if samples and (imported := formats.median_of(rows.get("import", {}), "seconds")):
        figures = [{"seconds": run["seconds"] - imported} for run in samples]
        rows[BEYOND] = {"command": BEYOND, "runs": figures}
    header, names = ["", "seconds", "spread", "goal"], lambda row: [COMMANDS[row["command"]]]
    table = formats.measured_table(header, rows.values(), names, times)
    return f"## Start-up\n\n{table}"
