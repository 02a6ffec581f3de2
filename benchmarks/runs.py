"""Measurements in fresh processes, in turns, and what is made of them. Imports nothing heavy."""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
WORKER = FOLDER / "worker.py"
# Without a GPU: the peers are measured on the processor, and so is ours.
ENVIRONMENT = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}


@dataclasses.dataclass(frozen=True)
class Options:
    """What every section is run with.

    Attributes:
        rounds: how often each measurement is made.
        tiny: toy sizes and made-up images, to see that all works; the figures mean nothing.
        data_dir: where tfds keeps its data sets; None is tfds' own folder.
        results: folder of the sections' JSON files.
        images: folder that figures go to.
        cache: folder of the images that are trained on, see `data.ensure`.
    """

    rounds: int = 5
    tiny: bool = False
    data_dir: str | None = None
    results: Path = FOLDER / "results"
    images: Path = FOLDER.parent / "docs" / "images"
    cache: Path = FOLDER / "cache"

    def earlier(self, section):
        """Returns what an earlier run of a section found, or None."""
        try:
            text = (self.results / f"{section}.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        return json.loads(text)["result"]

    def save(self, section, found, seconds):
        """Writes what a section found, with where and when, whole or not at all.

        Args:
            section: its name, and that of the file.
            found: what its `run` returned.
            seconds: how long that took.
        """
        from benchmarks import machine
        from keras_diffusion.runtime.files import whole_file

        record = {
            "section": section,
            "machine": machine.describe(),
            "rounds": self.rounds,
            "tiny": self.tiny,
            "seconds": round(seconds),
            "result": found,
        }
        self.results.mkdir(parents=True, exist_ok=True)
        with whole_file(self.results / f"{section}.json") as part:
            Path(part).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


class RunFailed(Exception):
    """A measurement ended without a result; the text is one line."""


def in_fresh_process(function, /, timeout=None, environment=None, **arguments):
    """Calls a function of a file in this folder in a new Python process.

    Args:
        function: "module.function", such as "training.rate"; it returns a dict that JSON
            can hold. Its module must import nothing heavy at its top.
        timeout: None, or seconds after which it is given up.
        environment: None, or {variable: value} on top of ENVIRONMENT.
        **arguments: of the function, as JSON can hold.

    Returns:
        The dict, with "peak_mib" added.

    Raises:
        RunFailed: it raised, or took too long; says why.
    """
    command = [sys.executable, str(WORKER), function, json.dumps(arguments)]
    variables = {**ENVIRONMENT, **(environment or {})}
    try:
        done = subprocess.run(
            command, env=variables, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        raise RunFailed(f"given up after {timeout:.0f} s") from error
    if done.returncode:
        raise RunFailed(reason(done.stderr) or f"exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def reason(stderr):
    """The last line of a traceback that begins with the name of an error, shortened."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    named = [line for line in lines if line[0].isalpha() and "Error" in line.split(":")[0]]
    return " ".join((named or lines or [""])[-1].split())[:300]


def in_turns(measure, contenders, rounds, title=str):
    """Measures A B C, then A B C again, so that a busy minute of the machine hits all alike.

    Args:
        measure: function of a contender -> dict; may raise `RunFailed`.
        contenders: list of whatever `measure` takes.
        rounds: int.
        title: function of a contender -> how it is called while it is measured.

    Returns:
        For each contender {"runs": [dict, ...]} or {"failed": reason}; one that fails is not
        measured again.
    """
    results = [{"runs": []} for _ in contenders]
    for number in range(1, rounds + 1):
        for contender, result in zip(contenders, results, strict=True):
            if "failed" in result:
                continue
            print(f"  round {number}/{rounds}: {title(contender)}", flush=True)
            try:
                result["runs"].append(measure(contender))
            except RunFailed as error:
                result.clear()
                result["failed"] = str(error)
                print(f"    failed: {error}", flush=True)
    return results


def summary(values):
    """Returns {"median", "low", "high"} of some numbers."""
    values = list(values)
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def figure(number):
    """Returns a number with three significant digits, as tables show it."""
    if number is None:
        return "-"
    if number == 0 or abs(number) >= 100:
        return f"{number:,.0f}"
    if abs(number) < 1:
        return f"{number:#.3g}"
    return f"{number:.{2 if abs(number) < 10 else 1}f}"


def times(ratio):
    """Returns a ratio as "3.20x"."""
    if ratio is None:
        return "-"
    return f"{ratio:.2f}x" if ratio < 1 else f"{figure(ratio)}x"


def spread(numbers):
    """Returns "low - high" of a `summary`."""
    return f"{figure(numbers['low'])} - {figure(numbers['high'])}"


def table(header, rows):
    """Returns a markdown table; cells are turned into text."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in lines)


def verdict(value, goal, most=False):
    """Returns "met" or "missed" for a value that is to be at least (or `most`) the goal."""
    met = value <= goal if most else value >= goal
    return "met" if met else "missed"
