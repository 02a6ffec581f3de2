"""The command line of every study: from settings to results.json to README.md."""

import dataclasses
import importlib
import json
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path

from keras_diffusion.cli.parsing import OneLineParser, folder, within
from keras_diffusion.config.fields import LARGEST_INT
from keras_diffusion.runtime import frameworks
from keras_diffusion.runtime.signals import Interrupted
from studies.stages import Stages, key

ROOT = Path(__file__).resolve().parents[1]
RESULTS = "results.json"
MINUTES = 0.001, 1_000_000  # at least, at most


def parsers(name, study):
    """Returns two parsers: of the flags that do not influence the results, and of all flags."""
    places = OneLineParser(add_help=False)
    add = places.add_argument
    add("--data-dir", help="folder of tfds data sets")
    add("--out", type=folder, help=f"folder of page and figures (studies/results/{name})")
    add("--work", type=folder, help="folder of cached results (runs/studies)")
    add("--fresh", action="store_true", help="ignore cached results")
    add("--report", action="store_true", help="only plot and write again, from results.json")
    description = study.__doc__.partition("\n")[0]
    flags = OneLineParser(
        prog=f"python -m studies.{name}", description=description, parents=[places]
    )
    length = flags.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=within(1, LARGEST_INT), help="of each training")
    minutes_help = getattr(study, "MINUTES_HELP", "for the whole study, instead of epochs")
    length.add_argument("--minutes", type=within(*MINUTES, float), help=minutes_help)
    flags.add_argument("--seed", type=within(0, LARGEST_INT), default=0)
    flags.add_argument("--tiny", action="store_true", help="toy sizes, to test the code")
    if hasattr(study, "add_flags"):
        study.add_flags(flags)
    return places, flags


def settings_of(study, args):
    """Returns the `Settings` of a study for parsed arguments.

    Flags with the name of a setting take its place, `--tiny` takes the settings of `study.TINY`,
    and of `epochs` and `minutes` one is None if the other is given.
    """
    if hasattr(study, "settings"):
        return study.settings(args)
    options = dict(study.TINY) if args.tiny else {}
    fields = {field.name for field in dataclasses.fields(study.Settings)}
    options.update(
        (name, value) for name, value in vars(args).items() if name in fields and value is not None
    )
    if args.epochs or args.minutes:
        options.update(epochs=args.epochs, minutes=args.minutes)
    return study.Settings(**options)


def main(name, arguments=None):
    """Runs a study; returns the exit code.

    Args:
        name: of its folder in studies/.
        arguments: list of text; None: those of the command line.
    """
    study = importlib.import_module(f"studies.{name}")
    places, flags = parsers(name, study)
    arguments = sys.argv[1:] if arguments is None else arguments
    args = flags.parse_args(arguments)
    words = places.parse_known_args(arguments)[1]  # what decides the results
    measuring = [word for word in words if word != "--tiny"] + ["--fresh"] * args.fresh
    if args.report and measuring:
        flags.error(f"{measuring[0]}: --report measures nothing. Leave it out.")
    toy = "-tiny" if args.tiny else ""  # a toy run never overwrites measured results
    work = (args.work or Path("runs", "studies")) / f"{name}{toy}"
    out = args.out or (work / "results" if args.tiny else ROOT / "studies" / "results" / name)
    try:
        frameworks.import_keras()
        if args.report:
            record = read(out)
        else:
            command = shlex.join(["python", "-m", f"studies.{name}", *words])
            record = measure(study, name, command, args, work, out)
        write(name, record, work, out)
    except (ValueError, OSError) as error:
        flags.error(error)
    except (KeyboardInterrupt, Interrupted) as stopped:
        print("\ninterrupted; the same command resumes with the first missing stage",
              file=sys.stderr)  # fmt: skip
        return 128 + getattr(stopped, "signum", signal.SIGINT)
    print(f"wrote {out / 'README.md'}")
    return 0


def measure(study, name, command, args, work, out):
    """Measures and writes results.json; returns its content."""
    from benchmarks import machine

    settings = settings_of(study, args)
    here = machine.describe()
    origin = {name: here[name] for name in ("cpu", "git_revision")}
    stages = Stages(work / key(settings), origin=origin)
    if args.fresh:
        shutil.rmtree(stages.folder, ignore_errors=True)
    measuring = importlib.import_module(f"studies.{name}.measure")
    options = study.measure_options(args) if hasattr(study, "measure_options") else {}
    results = measuring.measure(settings, stages, args.data_dir, **options)

    import tensorflow as tf

    from keras_diffusion.runtime.files import whole_file

    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    record = {
        "study": name,
        "command": command,
        "tiny": args.tiny,
        "machine": here,
        "elsewhere": stages.elsewhere,
        "accelerators": [each.get("device_name", "GPU") for each in details],
        "seconds": round(stages.seconds),
        "settings": dataclasses.asdict(settings),
        "results": results,
    }
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(out / RESULTS) as part:
        Path(part).write_text(as_text(record) + "\n", encoding="utf-8")
    return json.loads(json.dumps(record))


def as_text(record):
    """Returns JSON with each list of numbers on one line."""
    text = json.dumps(record, indent=1)
    return re.sub(r"\[[\s\d.,e+-]+\]", lambda match: " ".join(match[0].split()), text)


def read(out):
    """Returns the content of results.json of an earlier run.

    Raises:
        FileNotFoundError: there is none.
    """
    path = out / RESULTS
    if not path.exists():
        raise FileNotFoundError(f"--report: there is no {path}. Run the study first.")
    return json.loads(path.read_text(encoding="utf-8"))


def write(name, record, work, out):
    """Writes figures and README.md from the content of results.json and the cached images."""
    from studies import report

    study, plots, reporting = (
        importlib.import_module(f"studies.{name}{part}") for part in ("", ".plots", ".report")
    )
    results = record["results"]
    plots.plot(results, Stages(work / key(record["settings"])), out)
    template = Path(study.__file__).with_name("page.md").read_text(encoding="utf-8")
    claims, values = reporting.claims(results), reporting.values(results)
    report.write(out, report.page(template, record, claims, values))
