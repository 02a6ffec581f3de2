"""The command line of every study, and its way from settings to README.md."""

import dataclasses
import importlib
import json
import os
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path

from keras_diffusion.cli.parsing import OneLineParser, folder, within
from keras_diffusion.config.fields import LARGEST_INT
from keras_diffusion.runtime.signals import Interrupted
from studies.kept import Kept, key

ROOT = Path(__file__).resolve().parents[1]
RESULTS = "results.json"
PLACES = ("data_dir", "out", "work", "report")  # flags that decide no figure
MINUTES = 0.001, 1_000_000  # at least, at most


def parser(name, study):
    """Returns the parser: what all studies take, and what this one adds."""
    flags = OneLineParser(prog=f"python -m studies.{name}", description=study.TITLE)
    add = flags.add_argument
    length = flags.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=within(1, LARGEST_INT), help="of each training")
    minutes_help = getattr(study, "MINUTES_HELP", "for the whole study instead")
    length.add_argument("--minutes", type=within(*MINUTES, float), help=minutes_help)
    add("--seed", type=within(0, LARGEST_INT), default=0)
    add("--data-dir", help="where tfds keeps its data")
    add("--out", type=folder, help=f"folder of page and figures (studies/results/{name})")
    add("--work", type=folder, help="folder of what is kept between runs (runs/studies)")
    add("--fresh", action="store_true", help="make anew what earlier runs have kept")
    add("--report", action="store_true", help="only draw and write again, from results.json")
    add("--tiny", action="store_true", help="toy sizes, to see that all works")
    study.add_flags(flags)
    return flags


def options(given, tiny):
    """Returns the settings that all studies take from the command line: size, seed and length.

    Args:
        given: the parsed arguments.
        tiny: dict of the settings of a toy run.

    Returns:
        dict; of `epochs` and `minutes` one is None if the other was given.
    """
    found = {**(tiny if given.tiny else {}), "seed": given.seed}
    if given.epochs:
        found.update(epochs=given.epochs, minutes=None)
    if given.minutes:
        found.update(epochs=None, minutes=given.minutes)
    return found


def main(name, arguments=None):
    """Runs a study; returns the exit code.

    Args:
        name: of its folder in studies/.
        arguments: list of text; None: those of the command line.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    study = importlib.import_module(f"studies.{name}")
    flags = parser(name, study)
    arguments = sys.argv[1:] if arguments is None else arguments
    given = flags.parse_args(arguments)
    for flag, value in vars(given).items():
        if given.report and flag not in (*PLACES, "tiny") and value != flags.get_default(flag):
            flags.error(f"--{flag.replace('_', '-')}: --report measures nothing; leave it out.")
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
    except (KeyboardInterrupt, Interrupted) as stopped:
        print("\ninterrupted; the same command goes on with the first stage that is missing",
              file=sys.stderr)  # fmt: skip
        return 128 + getattr(stopped, "signum", signal.SIGINT)
    print(f"written: {out / 'README.md'}")
    return 0


def measure(name, settings, given, work, out):
    """Measures, and writes results.json; returns what it holds."""
    from benchmarks import machine

    here = machine.describe()
    kept = Kept(work / key(settings), here={name: here[name] for name in ("cpu", "git_revision")})
    if given.fresh:
        shutil.rmtree(kept.folder, ignore_errors=True)
    measuring = importlib.import_module(f"studies.{name}.measure")
    results = measuring.measure(settings, kept, given.data_dir)

    import tensorflow as tf

    from keras_diffusion.runtime.files import whole_file

    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    record = {
        "study": name,
        "command": _command(name, given),
        "tiny": given.tiny,
        "machine": here,
        "elsewhere": kept.elsewhere,
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
        if flag in (*PLACES, "fresh") or value in (None, False):
            continue
        if flag == "seed" and value == 0:
            continue
        values = value if isinstance(value, list) else [value]
        words.append(f"--{flag.replace('_', '-')}")
        words += [f"{each:g}" if isinstance(each, float) else str(each)
                  for each in values if each is not True]  # fmt: skip
    return shlex.join(words)
