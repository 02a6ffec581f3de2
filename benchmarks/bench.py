"""Measures keras_diffusion beside other libraries and writes RESULTS.md:

    python benchmarks/bench.py [--only NAME ...]

`make bench` does the same in an environment that has the other libraries. Each section writes its
figures to results/KIND/NAME.json, with a folder for each kind of processor (`machine.KINDS`);
RESULTS.md is written from all of these files.
"""

import importlib
import os
import re
import sys
import tempfile
import time
import traceback
from pathlib import Path

if __name__ == "__main__":
    # Instead of this folder, whose file names are common words.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import machine, pages, runs  # noqa: E402  after the path is set
from keras_diffusion.cli.parsing import OneLineParser, folder, within  # noqa: E402
from keras_diffusion.runtime.files import whole_file  # noqa: E402

# {name: (module, arguments of its `run` besides the options)}, in the order of running: sampling
# takes the number of steps that quality found to be enough.
SECTIONS = {
    "training": ("training", {}),
    "quality_mnist": ("quality", {"task": "mnist"}),
    "quality_flowers": ("quality", {"task": "flowers"}),
    "sampling": ("sampling", {}),
    "latents": ("latents", {}),
    "startup": ("startup", {}),
    "roofline": ("roofline", {}),
}
REPORT = "RESULTS.md"
SETTLED = runs.FOLDER / "settled.md"  # earlier measurements, appended to the project's RESULTS.md


def parser():
    """Returns the parser."""
    flags = OneLineParser(prog="bench.py", description=__doc__.split("\n")[0], allow_abbrev=False)
    add = flags.add_argument
    names = (*SECTIONS, "report")
    add("--only", nargs="+", choices=names, metavar="NAME", default=list(SECTIONS),
        help=f"{', '.join(SECTIONS)}; report: only write the pages again")  # fmt: skip
    add("--rounds", type=within(1, 1000), default=5, help="repetitions of each measurement (5)")
    add("--minutes", type=within(0.01, 1_000_000, float),
        help="of each training in the quality sections (MNIST: 20, Flowers: 60)")  # fmt: skip
    add("--imitate-avx2", action="store_true",
        help="limit oneDNN, PyTorch and XLA to AVX2, in float32")  # fmt: skip
    add("--tiny", action="store_true", help="toy sizes, to test the code, in a temporary folder")
    add("--data-dir", help="folder of TensorFlow Datasets")
    add("--out", type=folder, help="folder of RESULTS.md and results/ (benchmarks/)")
    return flags


def read_options(arguments):
    """Returns (`runs.Options`, folder of the report) of the parsed arguments."""
    options = {name: getattr(arguments, name) for name in ("tiny", "minutes", "data_dir")}
    out = (arguments.out or runs.FOLDER).absolute()
    if arguments.tiny:
        out = out if arguments.out else Path(tempfile.mkdtemp(prefix="bench-"))
        options.update(cache=out / "cache")
    if out != runs.FOLDER:
        options.update(results=out / "results", images=out / "images")
    return runs.Options(rounds=1 if arguments.tiny else arguments.rounds, **options), out


def load_section(name):
    """Imports the module of a section; late, so that a broken one does not stop the others."""
    return importlib.import_module(f"benchmarks.{SECTIONS[name][0]}")


def measure(name, options):
    """Runs a section and writes its JSON; returns None, or why it failed."""
    began = time.monotonic()
    print(f"{name}: started at {time.strftime('%H:%M')}", flush=True)
    try:
        result = load_section(name).run(options, **SECTIONS[name][1])
    except Exception as error:  # noqa: BLE001  the other sections are still measured
        if not isinstance(error, runs.RunFailed):
            traceback.print_exc()
        return f"{name}: {type(error).__name__}: {' '.join(str(error).split())}"
    seconds = time.monotonic() - began
    options.save(name, result, seconds)
    print(f"{name}: took {seconds / 60:.1f} minutes", flush=True)
    return None


def render(options):
    """Returns (text of the report, {section: {kind of processor: record}})."""
    records = {name: kinds for name in SECTIONS if (kinds := options.records(name))}
    parts = [_head(records), f"## Overview\n\n{pages.overview(records)}"]
    for name, kinds in records.items():
        for kind, record in kinds.items():
            text = load_section(name).report(record["result"])
            # The kind of processor is a part of each headline.
            text = re.sub("^## .*", rf"\g<0> ({machine.KINDS.get(kind, kind)})", text, flags=re.M)
            parts.append(f"{text}\n\n{_origin(record)}")
    if options.results == runs.Options.results:
        parts.append(SETTLED.read_text(encoding="utf-8").strip())
    return "\n\n".join(parts) + "\n", records


def write_report(options, out):
    """Writes RESULTS.md, and for the project's own figures the table in the README."""
    text, records = render(options)
    with whole_file(out / REPORT) as part:
        Path(part).write_text(text, encoding="utf-8")
    if out == runs.FOLDER:
        pages.write(records, runs.ROOT / "README.md")
    print(f"wrote {out / REPORT}")


def _origin(record):
    """Returns date, machine and revision of a section's figures."""
    facts, minutes = record["machine"], max(1, round(record["seconds"] / 60))
    sets = ", ".join(facts["instruction_sets"]) or "no relevant instruction sets"
    return (
        f"<sub>{facts['date']}, {facts['cpu']} ({sets}), {facts['cores']} cores, "
        f"{facts['memory_gib']} GiB, {facts['system']}, revision {facts['git_revision']}, "
        f"{minutes} minutes, rounds: {record['rounds']}.</sub>"
    )


def _head(records):
    """Returns what all sections have in common: versions (the latest) and method."""
    records = [record for kinds in records.values() for record in kinds.values()]
    versions = {}
    for facts in sorted((record["machine"] for record in records), key=lambda m: m["date"]):
        versions.update({"Python": facts["python"], **facts["versions"]})
    lines = [
        "# Results",
        "Written by `make bench` (`python benchmarks/bench.py`) from `results/*/*.json`.",
        "- **Machines**: a headline names the kind of processor, the last line of a section its "
        "machine. Every framework may use all cores, and no GPU; oneDNN is on for TensorFlow.\n"
        f"- **Versions**: {', '.join(map(' '.join, versions.items()))}.\n"
        "- **Method**: every measurement runs in its own process; the libraries take turns (A B C "
        "A B C ...). Figures are medians, the spread is lowest - highest. A ratio is the factor by "
        "which ours is better. GFLOP count one image through the network, forward, 2 per "
        "multiply-add. Sections with another method say so.",
    ]
    if any(record["tiny"] for record in records):
        lines.append("**Toy sizes (`--tiny`): these figures mean nothing.**")
    return "\n\n".join(lines)


def main(arguments=None):
    """Runs the command; returns the exit code: 0, or 1 if a section could not be measured."""
    arguments = parser().parse_args(arguments)
    os.environ.update(machine.ENVIRONMENT | (machine.IMITATION if arguments.imitate_avx2 else {}))
    options, out = read_options(arguments)
    out.mkdir(parents=True, exist_ok=True)
    try:
        names = [name for name in SECTIONS if name in arguments.only]
        failures = [failure for name in names if (failure := measure(name, options))]
        write_report(options, out)
    except KeyboardInterrupt:
        print("\ninterrupted; finished sections are kept", file=sys.stderr)
        return 130
    for failure in failures:
        print(f"bench.py: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
