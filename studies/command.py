"""The command line of every study, and its way from settings to README.md."""

import argparse
import dataclasses
import importlib
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from keras_diffusion.interruption import Interrupted
from studies.kept import Kept, key

ROOT = Path(__file__).resolve().parents[1]
RESULTS = "results.json"


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message):
        message = message.removeprefix("argument ").replace("\n", " ")
        self.exit(2, f"{self.prog}: error: {message}\n")


def positive(kind):
    """Returns a parser of numbers above 0, `kind` int or float."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < 1e6:
            what = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text!r} is not a {what} above 0")
        return value

    return parse


def parser(name, study):
    """Returns the parser: what all studies take, and what this one adds."""
    flags = OneLineParser(prog=f"python -m studies.{name}", description=study.TITLE)
    add = flags.add_argument
    length = flags.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=positive(int), help="of each training")
    minutes_help = getattr(study, "MINUTES_HELP", "for the whole study instead")
    length.add_argument("--minutes", type=positive(float), help=minutes_help)
    add("--seed", type=int, default=0)
    add("--data-dir", help="where tfds keeps its data")
    add("--out", type=Path, help=f"folder of page and figures (studies/results/{name})")
    add("--work", type=Path, help="folder of what is kept between runs (runs/studies)")
    add("--fresh", action="store_true", help="make anew what earlier runs have kept")
    add("--report", action="store_true", help="only draw and write again, from results.json")
    add("--tiny", action="store_true", help="toy sizes, to see that all works")
    study.add_flags(flags)
    return flags


def main(name, arguments=None):
    """Runs a study; returns the exit code.

    Args:
        name: of its folder in studies/.
        arguments: list of text; None: those of the command line.
    """
    study = importlib.import_module(f"studies.{name}")
    flags = parser(name, study)
    arguments = sys.argv[1:] if arguments is None else arguments
    given = flags.parse_args(arguments)
    toy = "-tiny" if given.tiny else ""  # toys never take the place of what was measured
    work = (given.work or Path("runs", "studies")) / f"{name}{toy}"
    out = given.out or (work / "results" if given.tiny else ROOT / "studies" / "results" / name)
    try:
        if given.report:
            record = read(out)
        else:
            record = measure(name, study.settings(given), given, work, out)
        write(name, record, work, out)
    except (ValueError, OSError) as error:
        flags.error(" ".join(str(error).split()))
    except (KeyboardInterrupt, Interrupted):
        print("\ninterrupted; the same command goes on with the first stage that is missing",
              file=sys.stderr)  # fmt: skip
        return 130
    print(f"written: {out / 'README.md'}")
    return 0


def measure(name, settings, given, work, out):
    """Measures, and writes results.json; returns what it holds."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    kept = Kept(work / key(settings))
    if given.fresh:
        shutil.rmtree(kept.folder, ignore_errors=True)
    measuring = importlib.import_module(f"studies.{name}.measure")
    results = measuring.measure(settings, kept, given.data_dir)

    import tensorflow as tf

    from benchmarks import machine
    from keras_diffusion.files import whole_file

    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    record = {
        "study": name,
        "command": _command(name, given),
        "tiny": given.tiny,
        "machine": machine.describe(),
        "accelerators": [each.get("device_name", "GPU") for each in details],
        "seconds": round(kept.seconds),
        "settings": dataclasses.asdict(settings),
        "results": results,
    }
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(out / RESULTS) as part:
        Path(part).write_text(as_text(record) + "\n", encoding="utf-8")
    return json.loads(json.dumps(record))


def as_text(record):
    """Returns JSON with lists of numbers on one line each."""
    text = json.dumps(record, indent=1)
    return re.sub(r"\[[\s\d.,e+-]+\]", lambda found: " ".join(found[0].split()), text)


def read(out):
    """Returns what results.json of an earlier run holds.

    Raises:
        FileNotFoundError: there is none.
    """
    path = out / RESULTS
    if not path.exists():
        raise FileNotFoundError(f"--report: there is no {path}; run the study first.")
    return json.loads(path.read_text(encoding="utf-8"))


def write(name, record, work, out):
    """Draws the figures and writes README.md, from results.json and what is kept of pictures."""
    from studies import page

    study, drawing, reporting = (
        importlib.import_module(f"studies.{name}{part}") for part in ("", ".draw", ".report")
    )
    results = record["results"]
    drawing.draw(results, Kept(work / key(record["settings"])), out)
    page.write(out, study, record, reporting.report(results), reporting.claims(results))


def _command(name, given):
    """The command that makes these results, without what is about places."""
    words = ["python", "-m", f"studies.{name}"]
    for flag, value in vars(given).items():
        if flag in ("data_dir", "out", "work", "fresh", "report") or value in (None, False):
            continue
        if flag == "seed" and value == 0:
            continue
        words += [f"--{flag.replace('_', '-')}", *([] if value is True else [str(value)])]
    return shlex.join(words)
