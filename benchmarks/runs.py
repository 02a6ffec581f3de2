"""Options of a benchmark and measurements in fresh processes. Imports nothing heavy."""

import dataclasses
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks import machine
from keras_diffusion.runtime.files import whole_file

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
PROGRESS = "  - "  # begins a line on a worker's stdout that is printed, see `progress`


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of every section.

    Attributes:
        rounds: how often each measurement is repeated.
        tiny: toy sizes and synthetic images, to test the code; the figures mean nothing.
        minutes: of each training in the quality sections; None: their own.
        data_dir: folder of TensorFlow Datasets; None: its default.
        results: folder of KIND/SECTION.json, with a folder for each kind of processor.
        images: folder of figures.
        cache: folder of data sets and finished stages.
    """

    rounds: int = 5
    tiny: bool = False
    minutes: float | None = None
    data_dir: str | None = None
    results: Path = FOLDER / "results"
    images: Path = ROOT / "docs" / "images"
    cache: Path = FOLDER / "cache"

    def records(self, section):
        """Returns {kind of processor: record} of the finished runs of a section, see `save`."""
        paths = {path.parent.name: path for path in sorted(self.results.glob(f"*/{section}.json"))}
        kinds = dict.fromkeys([*machine.KINDS, *paths])
        return {kind: json.loads(paths[kind].read_text("utf-8")) for kind in kinds if kind in paths}

    def save(self, section, result, seconds):
        """Writes the result of a section, with machine, date and revision.

        Args:
            section: str, its name.
            result: what its `run` returned.
            seconds: duration of the run.
        """
        record = {
            "section": section,
            "machine": machine.describe(),
            "rounds": self.rounds,
            "tiny": self.tiny,
            "seconds": round(seconds),
            "result": result,
        }
        path = self.results / machine.kind() / f"{section}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            Path(part).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


class RunFailed(Exception):
    """A measurement ended without a result; the message is one line."""


def in_fresh_process(function, /, timeout=threading.TIMEOUT_MAX, **arguments):
    """Calls a function of this folder in a new Python process, and prints its progress.

    Args:
        function: "module.function", such as "training.measure"; it returns a dict for JSON. Its
            module must import nothing heavy at the top.
        timeout: seconds.
        **arguments: of the function, for JSON.

    Returns:
        The dict, with "peak_mib" added.

    Raises:
        RunFailed: the function raised, or took too long.
    """
    command = [sys.executable, str(FOLDER / "worker.py"), function, json.dumps(arguments)]
    pipes = {"stdout": subprocess.PIPE, "text": True, "errors": "replace"}
    began, line = time.monotonic(), ""
    with (
        tempfile.TemporaryFile("w+", errors="replace") as stderr,
        subprocess.Popen(command, stderr=stderr, **pipes) as process,
    ):
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            for line in process.stdout:
                if line.startswith(PROGRESS):
                    print(line, end="", flush=True)
            process.wait()
        finally:
            timer.cancel()
            process.kill()
        if process.returncode == 0:
            return json.loads(line)
        if time.monotonic() - began >= timeout:
            raise RunFailed(f"no result after {timeout:.0f} s")
        stderr.seek(0)
        raise RunFailed(reason(stderr.read()) or f"exit code {process.returncode}")


def in_fresh_turns(function, rows, options, timeout=threading.TIMEOUT_MAX, **arguments):
    """Calls `in_fresh_process` for each row `in_turns`, with the row as arguments, and others."""
    arguments["tiny"] = options.tiny

    def measure(row):
        return in_fresh_process(function, timeout, **row, **arguments)

    return in_turns(measure, rows, options.rounds)


def fastest(call, repeats):
    """Returns the seconds of the fastest of some calls, after one that traces."""
    call()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def progress(text):
    """Prints a line of progress, in the benchmark's process or in a worker."""
    print(f"{PROGRESS}{text}", flush=True)


def reason(stderr):
    """Returns the last line of a traceback that names an error, shortened."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    named = [line for line in lines if line[0].isalpha() and "Error" in line.split(":")[0]]
    return " ".join((named or lines or [""])[-1].split())[:300]


def in_turns(measure, rows, rounds):
    """Measures rows A B C, then A B C again, so that a busy minute of the machine affects all.

    Args:
        measure: function of a row -> dict of figures; may raise `RunFailed`.
        rows: list of dicts, what is to be measured.
        rounds: int.

    Returns:
        The rows, each with "runs", a list of dicts of figures, or "failed", the reason; a row
        that failed is not measured again.
    """
    results = [{**row, "runs": []} for row in rows]
    for number in range(1, rounds + 1):
        for row, result in zip(rows, results, strict=True):
            if "failed" in result:
                continue
            progress(f"round {number}/{rounds}: {', '.join(map(str, row.values()))}")
            try:
                result["runs"].append(measure(row))
            except (RunFailed, subprocess.TimeoutExpired) as error:
                del result["runs"]
                result["failed"] = str(error)
                progress(f"  failed: {error}")
    return results
