"""The overview table of the README, from the same figures as RESULTS.md."""

import re
from pathlib import Path

from benchmarks import formats, machine, subjects
from keras_diffusion.runtime.files import whole_file

IMITATED = (
    "Imitated: on another processor, with oneDNN, PyTorch and XLA limited to AVX2 and without "
    "bfloat16 (`bench.py --imitate-avx2`)."
)


def write(records, page):
    """Puts the overview between `<!-- bench: overview -->` and `<!-- end -->` of a page.

    Args:
        records: {section: {kind of processor: record}}.
        page: path of a Markdown file.

    Raises:
        ValueError: the page does not have these two lines once.
    """
    text = Path(page).read_text(encoding="utf-8")
    between = re.compile(r"(<!-- bench: overview -->\n).*?(<!-- end -->)", re.DOTALL)
    new, count = between.subn(lambda mark: f"{mark[1]}{overview(records)}\n{mark[2]}", text)
    if count != 1:
        raise ValueError(f"{page}: {count} places for the overview, not one")
    if new != text:
        with whole_file(page) as part:
            Path(part).write_text(new, encoding="utf-8")


def overview(records):
    """Returns a table with a row per measure and kind of processor, and a column per library.

    Below it are the machines, and a line about imitated ones.
    """
    rows, machines = [], {}
    measures = [(section, task) for section in ("training", "sampling") for task in subjects.TASKS]
    measures += [(f"quality_{task}", task) for task in subjects.TASKS]
    for section, task in measures:
        above = None
        for kind, record in records.get(section, {}).items():
            name, cells = _row(section, task, record["result"])
            title, facts = machine.KINDS.get(kind, kind), record["machine"]
            rows.append([name if name != above else "", title, *cells])
            above = name
            about = f"{title}: {facts['cpu']}, {facts['cores']} cores"
            machines.setdefault(about, set()).add(facts["date"])
    notes = [f"{about}, {' and '.join(sorted(dates))}." for about, dates in machines.items()]
    notes += [IMITATED] * any("imitated:" in about for about in machines)
    table = formats.table(["", "processor", *subjects.TITLES.values()], rows)
    return f"{table}\n\n{' '.join(notes)}"


def _row(section, task, result):
    """Returns (name, cells) of a measure on one kind of processor."""
    title = subjects.DATASET_TITLES[task].removeprefix("Oxford ").split()[0]
    if section.startswith("quality"):
        distances = {}
        for row in result["rows"]:
            distances.setdefault(row["subject"], []).append(row["score"]["distance"])
        baseline = formats.number(result["baseline"]["mean"])
        name = f"distance after {result['minutes']:g} minutes, {title} (real images: {baseline})"
        return name, _cells(distances, {}, less_is_better=True)
    figures, notes = {}, {}
    for row in result[task]:
        rate = formats.median_of(row, "images_per_second")
        figures.setdefault(row["subject"], []).append(rate)
        if section == "sampling":
            notes[row["subject"]] = f", {row['steps']} steps"
    return f"{section}, {title}: images/s", _cells(figures, notes)


def _cells(figures, notes, less_is_better=False):
    """Returns a cell per library: the figure of its first variant and, in brackets, of the best
    one; then the factor by which ours is better.

    Args:
        figures: {subject: list of a figure per variant, None for those that failed}.
        notes: {subject: text after its figures}.
    """
    cells, [ours, *_] = [], figures["ours"]
    for subject in subjects.TITLES:
        measured = [figure for figure in figures.get(subject, ()) if figure is not None]
        note = notes.get(subject, "")
        if not measured:
            cells.append("")
        elif subject == "ours":
            cells.append(f"**{formats.number(measured[0])}**{note}")
        else:
            best = min(measured) if less_is_better else max(measured)
            shown = list(dict.fromkeys([measured[0], best]))
            pairs = [(figure, ours) if less_is_better else (ours, figure) for figure in shown]
            ratios = _bracketed([formats.times(formats.ratio(*pair)) for pair in pairs])
            cells.append(f"{_bracketed(map(formats.number, shown))}{note}: {ratios}")
    return cells


def _bracketed(texts):
    """Returns the first text and, in brackets, the second, if there is one."""
    first, *second = texts
    return first + "".join(f" ({text})" for text in second)
