"""The table of the README, between its marks, from the same figures as RESULTS.md."""

import re
from pathlib import Path

from benchmarks import runs, sampling, subjects, training
from keras_diffusion.runtime.files import whole_file

COLUMNS = ("ours", "ddp", "diffusers_unet", "keras_ddim")


def write(found, root):
    """Puts the tables between `<!-- bench: NAME -->` and `<!-- end -->` of their pages.

    Args:
        found: {section: its result}; a table waits until the sections that it needs are there.
        root: folder of the project.
    """
    if "training" in found:
        _put(Path(root) / "README.md", "overview", overview(found))


def _put(page, name, table):
    text = page.read_text(encoding="utf-8")
    between = re.compile(rf"(<!-- bench: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    new, count = between.subn(lambda marks: f"{marks[1]}{table}\n{marks[2]}", text)
    if count != 1:
        raise ValueError(f"{page}: {count} places for {name!r}, not one")
    if new != text:
        with whole_file(page) as part:
            Path(part).write_text(new, encoding="utf-8")


def overview(found):
    """A row for each measurement, a column for each system.

    A peer's cell is what its users get and, in brackets, the best of its variants; then how many
    times better ours is.
    """
    lines = []
    for task, title in subjects.DATASET_TITLES.items():
        rates = {
            (row["subject"], row["variant"]): training.images_per_second(
                found["training"], task, row["subject"], row["variant"]
            )
            for row in found["training"][task]
        }
        lines.append(_line(f"training, {title}: images/s", rates))
    for task, title in subjects.DATASET_TITLES.items():
        if "sampling" in found:
            rows = found["sampling"][task]
            rates = {(row["subject"], row["variant"]): sampling.rate(row) for row in rows}
            steps = {row["subject"]: f", {row['steps']} steps" for row in rows}
            lines.append(_line(f"sampling, {title}: images/s", rates, steps))
    for task, title in subjects.DATASET_TITLES.items():
        if quality := found.get(f"quality_{task}"):
            what = (
                f"distance after {quality['minutes']:g} minutes of training, {title} "
                f"(real pictures: {runs.figure(quality['floor']['mean'])})"
            )
            titles = {title: name for name, title in subjects.TITLES.items()}
            first = {titles[row["subject"]]: row for row in quality["rows"][::-1]}
            distances = {(name, ""): row["score"]["distance"] for name, row in first.items()}
            lines.append(_line(what, distances, less_is_better=True))
    header = ["", *(subjects.TITLES[name] for name in COLUMNS)]
    return runs.table(header, lines)


def _line(title, values, notes=None, less_is_better=False):
    """Cells of a row of the overview; `values` is {(subject, variant): number or None}."""
    cells = []
    ours = next((v for (subject, _), v in values.items() if subject == "ours"), None)

    def ratio(theirs):
        return runs.times(ours and (theirs / ours if less_is_better else ours / theirs))

    for name in COLUMNS:
        own = [v for (subject, _), v in values.items() if subject == name and v is not None]
        note = (notes or {}).get(name, "")
        if not own:
            cells.append("")
        elif name == "ours":
            cells.append(f"**{runs.figure(own[0])}**{note}")
        else:
            shown = [own[0], max(own)] if max(own) > own[0] else own[:1]
            numbers, ratios = (_bracketed(map(tell, shown)) for tell in (runs.figure, ratio))
            cells.append(f"{numbers}{note}: {ratios}")
    return [title, *cells]


def _bracketed(texts):
    """The first text and, in brackets, the other, if there is one."""
    first, *best = texts
    return first + "".join(f" ({text})" for text in best)
