"""The overview table of the README, from the same figures as RESULTS.md."""

import re
from pathlib import Path

from benchmarks import formats, subjects
from keras_diffusion.runtime.files import whole_file


def write(results, page):
    """Puts the overview between `<!-- bench: overview -->` and `<!-- end -->` of a page.

    Args:
        results: {section: its result}.
        page: path of a Markdown file.

    Raises:
        ValueError: the page does not have these two lines once.
    """
    text = Path(page).read_text(encoding="utf-8")
    between = re.compile(r"(<!-- bench: overview -->\n).*?(<!-- end -->)", re.DOTALL)
    new, count = between.subn(lambda mark: f"{mark[1]}{overview(results)}\n{mark[2]}", text)
    if count != 1:
        raise ValueError(f"{page}: {count} places for the overview, not one")
    if new != text:
        with whole_file(page) as part:
            Path(part).write_text(new, encoding="utf-8")


def overview(results):
    """Returns a table with a row per measurement and a column per library."""
    rows = []
    for section in ("training", "sampling"):
        for task, title in subjects.DATASET_TITLES.items():
            if section in results:
                figures, notes = {}, {}
                for row in results[section][task]:
                    rate = formats.median_of(row, "images_per_second")
                    figures.setdefault(row["subject"], []).append(rate)
                    if section == "sampling":
                        notes[row["subject"]] = f", {row['steps']} steps"
                rows.append([f"{section}, {title}: images/s", *_cells(figures, notes)])
    for task, title in subjects.DATASET_TITLES.items():
        if quality := results.get(f"quality_{task}"):
            distances = {}
            for row in quality["rows"]:
                distances.setdefault(row["subject"], [row["score"]["distance"]])
            name = (
                f"distance after {quality['minutes']:g} minutes of training, {title} "
                f"(real images: {formats.number(quality['baseline']['mean'])})"
            )
            rows.append([name, *_cells(distances, {}, less_is_better=True)])
    return formats.table(["", *subjects.TITLES.values()], rows)


def _cells(figures, notes, less_is_better=False):
    """Returns a cell per library.

    A cell has the figure of the first variant and, in brackets, of the fastest one; then the factor
    by which ours is better.

    Args:
        figures: {subject: list of a figure per variant, None for those that failed}.
        notes: {subject: text after its figures}.
        less_is_better: bool.
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
            shown = list(dict.fromkeys([measured[0], max(measured)]))
            pairs = [(figure, ours) if less_is_better else (ours, figure) for figure in shown]
            ratios = _bracketed([formats.times(formats.ratio(*pair)) for pair in pairs])
            cells.append(f"{_bracketed(map(formats.number, shown))}{note}: {ratios}")
    return cells


def _bracketed(texts):
    """Returns the first text and, in brackets, the second, if there is one."""
    first, *second = texts
    return first + "".join(f" ({text})" for text in second)
