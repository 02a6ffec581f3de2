"""Measures keras_diffusion beside its peers and writes RESULTS.md:

    python benchmarks/bench.py [--only NAME ...]

`make bench` does the same in an environment that has the peers. Every section writes its figures
to results/NAME.json once it is done; RESULTS.md is made of all of these files that are there.
"""

import argparse
import contextlib
import dataclasses
import importlib
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # instead of this folder, whose file names are common words

from benchmarks import runs  # noqa: E402  after the path to them is set
from keras_diffusion.cli.parsing import OneLineParser, within  # noqa: E402
from keras_diffusion.runtime.files import whole_file  # noqa: E402

# Name: (file, what its `run` is told besides the options). In this order: sampling takes the
# number of steps that quality found to be enough.
SECTIONS = {
    "training": ("training", {}),
    "quality_mnist": ("quality", {"task": "mnist"}),
    "quality_flowers": ("quality", {"task": "flowers"}),
    "sampling": ("sampling", {}),
    "latents": ("latents", {}),
    "startup": ("startup", {}),
    "roofline": ("roofline", {}),
}
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
SETTLED = RESULTS.with_name("settled.md")  # earlier measurements, appended to RESULTS.md
SHARED_DATA = ROOT.parent / "shared" / "tfds"


def folder(text):
    """Parses the path of a folder that is there."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    return text


def parser():
    """Returns the parser."""
    flags = OneLineParser(prog="bench.py", description=__doc__.split("\n")[0], allow_abbrev=False)
    add = flags.add_argument
    add("--only", nargs="+", choices=(*SECTIONS, "quality", "report"), metavar="NAME",
        help=f"{', '.join(SECTIONS)}; quality: both; report: only the pages, again")  # fmt: skip
    add("--rounds", type=within(1, 1000), default=5, help="of measuring each, in turns (5)")
    add(
        "--tiny",
        action="store_true",
        help="toy sizes, to see that all works, in a temporary folder",
    )
    add("--data-dir", type=folder, help="where TensorFlow Datasets keeps its data")
    add("--out", type=Path, help="default: benchmarks/RESULTS.md; results/ is beside it")
    return flags


def options_of(given, out):
    """Returns the `runs.Options` of the parsed flags, for a report that goes to `out`."""
    data_dir = given.data_dir or (str(SHARED_DATA) if SHARED_DATA.is_dir() else None)
    options = runs.Options(
        rounds=1 if given.tiny else given.rounds, tiny=given.tiny, data_dir=data_dir,
        results=out.parent / "results",
    )  # fmt: skip
    changed = {}
    if out != RESULTS:
        changed["images"] = out.parent
    if given.tiny:
        changed["cache"] = out.parent / "cache"
    return dataclasses.replace(options, **changed)


def section(name):
    """Imports the file of a section, only now: another that is broken does not stop this one."""
    return importlib.import_module(f"benchmarks.{SECTIONS[name][0]}")


def measure(name, options):
    """Runs a section and writes its JSON; returns None, or why there is none."""
    began = time.monotonic()
    print(f"{name}: begun at {time.strftime('%H:%M')}", flush=True)
    try:
        found = section(name).run(options, **SECTIONS[name][1])
    except runs.RunFailed as error:
        return f"{name}: {error}"
    except Exception as error:  # a fault of one section; the others are still to be measured
        traceback.print_exc()
        return f"{name}: {type(error).__name__}: {' '.join(str(error).split())}"
    seconds = time.monotonic() - began
    options.save(name, found, seconds)
    print(f"{name}: took {seconds / 60:.1f} minutes", flush=True)
    return None


def write_report(options, out):
    """Writes RESULTS.md from the sections' JSON files; returns why parts of it are missing.

    The project's own RESULTS.md goes with tables in the README and in docs/performance.md.
    """
    parts, missing, records = [], [], {}
    for name in SECTIONS:
        path = options.results / f"{name}.json"
        if not path.exists():
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        try:
            text = section(name).report(record["result"])
        except Exception as error:  # of figures that an earlier version wrote, or a fault
            missing.append(f"{name}: {type(error).__name__}: {error}")
            continue
        records[name] = record
        parts.append(f"{text.strip()}\n\n{_origin(record)}")
    if not records:
        return [*missing, f"{options.results}: holds no figures yet"]
    if out == RESULTS:
        parts.append(SETTLED.read_text(encoding="utf-8").strip())
    with whole_file(out) as part:
        text = "\n\n".join([_head(records.values()), *parts]) + "\n"
        Path(part).write_text(text, encoding="utf-8")
    from benchmarks import pages

    found = {name: record["result"] for name, record in records.items()}
    if out == RESULTS:
        pages.write(found, ROOT)
    if "training" in found:
        print(pages.overview(found))
    print(f"wrote {out}")
    return missing


def _origin(record):
    """When, on what and from what code a section's figures are."""
    where = record["machine"]
    minutes = max(1, round(record["seconds"] / 60))
    return (
        f"<sub>{where['date']}, {where['cpu']} ({_instruction_sets(where)}), revision "
        f"{where['git_revision']}, {minutes} minutes.</sub>"
    )


def _instruction_sets(where):
    return ", ".join(where["instruction_sets"]) or "none of note"


def _head(records):
    """The machine, versions and command: what all sections have in common."""
    found = max(records, key=lambda record: record["machine"]["date"])["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    processors = {(r["machine"]["cpu"], r["machine"]["cores"]) for r in records}
    lines = [
        "# Results",
        "Written by `make bench` (`python benchmarks/bench.py`); no figure here is typed by hand.",
        f"- **Machine**: {found['cpu']}, {found['cores']} cores, {found['memory_gib']} GiB, "
        f"{found['system']}; {_instruction_sets(found)}. Every framework "
        "may use all cores, and no GPU.\n"
        f"- **Versions**: Python {found['python']}, {versions}.\n"
        "- **Method**: contenders are processes of their own that take turns (A B C A B C ...); "
        "figures are medians, the spread is lowest - highest. A ratio is how many times better "
        "ours is. GFLOP are those of one image through the network, forward, 2 for each "
        "multiply-add. Sections that are made otherwise say so.",
    ]
    if len(processors) > 1:
        lines.append(
            "**The sections below were measured on different machines; the last line of each says "
            "on which.**"
        )
    if any(record["tiny"] for record in records):
        lines.append("**Toy sizes (`--tiny`): these figures mean nothing.**")
    return "\n\n".join(lines)


def _named(name, only):
    """Whether a section is among those asked for; "quality" asks for both of its file."""
    return name in only or SECTIONS[name][0] in only


def main(arguments=None):
    """Runs the command; returns the exit code: 0, or 1 if a section could not be measured."""
    flags = parser()
    given = flags.parse_args(arguments)
    out = given.out or RESULTS
    if given.tiny and not given.out:
        out = Path(tempfile.mkdtemp(prefix="bench-")) / RESULTS.name
    out = out.absolute()
    if out.is_dir():
        flags.error(f"--out: {out} is a folder; name a file to write.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(out.parent, os.W_OK):
            raise PermissionError(f"{out.parent} is not writable")
    except OSError as error:
        flags.error(f"--out: {' '.join(str(error).split())}")
    try:
        options = options_of(given, out)
        chosen = [name for name in SECTIONS if not given.only or _named(name, given.only)]
        failures = [failed for name in chosen if (failed := measure(name, options))]
        failures += write_report(options, out)
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            print("\ninterrupted; sections that were done are kept", file=sys.stderr)
        return 130
    for failed in failures:
        print(f"bench.py: {failed}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
