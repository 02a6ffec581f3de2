"""The scores of an evaluation as a table: for the terminal, a README, and a spreadsheet."""

import csv

COLUMNS = {  # of scores.json: heading, format
    "sampler": ("sampler", "{}"),
    "num_steps": ("steps", "{}"),
    "network_calls": ("network calls", "{}"),
    "seconds_per_image": ("s/picture", "{:.3g}"),
    "num_images": ("n", "{}"),
    "fid": ("FID", "{:.4g}"),
    "kid": ("KID", "{:.3g}"),
    "kid_keras_io": ("KID as keras.io", "{:.3g}"),
    "precision": ("precision", "{:.3f}"),
    "recall": ("recall", "{:.3f}"),
    "accuracy": ("right class", "{:.1%}"),
}
FLOOR = "real, held out"
# Of scores.json, with the guidance: without them a score says nothing.
VALUES, FACTS = ("model", "seed"), ("data", "extractor")


def rows(record):
    """Returns (headings, rows of text) of an evaluation; the last row is the floor.

    Args:
        record: dict as in scores.json: "cells", a list of dicts, and "floor".
    """
    names = [name for name in COLUMNS if any(name in cell for cell in record["cells"])]
    cells = [*record["cells"], {"sampler": FLOOR, **record["floor"]}]
    table = [[_text(cell, name) for name in names] for cell in cells]
    return [COLUMNS[name][0] for name in names], table


def _text(cell, name):
    if name not in cell:
        return ""
    text = COLUMNS[name][1].format(cell[name])
    return f"{text} ± {cell['kid_error']:.1g}" if name == "kid" else text


def aligned(headings, table):
    """Returns a table for the terminal: the first column to the left, the others to the right."""
    lines = [headings, *table]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown(headings, table):
    """Returns the same as a table for a README."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *table]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def in_words(record):
    """Returns on one line what is to stand beside the scores, as far as it is there."""
    return ", ".join(f"{name.replace('_', ' ')}: {fact}" for name, fact in _facts(record).items())


def write_csv(record, path):
    """Writes all figures of all cells, with floor and facts, one line for each cell."""
    floors = {f"floor_{name}": value for name, value in record["floor"].items()}
    lines = [{**cell, **floors, **_facts(record)} for cell in record["cells"]]
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fieldnames=list(dict.fromkeys(k for r in lines for k in r)))
        table.writeheader()
        table.writerows(lines)


def _facts(record):
    """Returns {name: value}, such as model, guidance_scale, data_name, extractor_hash."""
    found = {name: record[name] for name in VALUES if name in record}
    found.update(record.get("guidance", {}))
    for part in FACTS:
        found.update({f"{part}_{name}": fact for name, fact in record.get(part, {}).items()})
    return found
