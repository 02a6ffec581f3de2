"""The scores of an evaluation as a table: for the terminal, Markdown, and a spreadsheet."""

import csv

from keras_diffusion.runtime import console

COLUMNS = {  # key in scores.json: heading, format
    "sampler": ("sampler", "{}"),
    "num_steps": ("steps", "{}"),
    "network_calls": ("network calls", "{}"),
    "seconds_per_image": ("s/image", "{:.3g}"),
    "num_images": ("n", "{}"),
    "fid": ("FID", "{:.4g}"),
    "kid": ("KID", "{:.3g}"),
    "kid_keras_io": ("KID as keras.io", "{:.3g}"),
    "precision": ("precision", "{:.3f}"),
    "recall": ("recall", "{:.3f}"),
    "accuracy": ("right class", "{:.1%}"),
}
BASELINE = "real, held out"  # name of the last row
# Keys of scores.json that are repeated beside the scores, with the guidance.
VALUES, GROUPS = ("model", "seed"), ("data", "extractor")


def table(record, markdown=False):
    """Returns the table of an evaluation as text; the last row is the baseline.

    Args:
        record: dict as in scores.json: "cells", a list of dicts, and "baseline".
        markdown: bool, see `console.table`.
    """
    names = [name for name in COLUMNS if any(name in cell for cell in record["cells"])]
    cells = [*record["cells"], {"sampler": BASELINE, **record["baseline"]}]
    rows = [[_text(cell, name) for name in names] for cell in cells]
    return console.table([COLUMNS[name][0] for name in names], rows, "lr", markdown)


def _text(cell, name):
    if name not in cell:
        return ""
    text = COLUMNS[name][1].format(cell[name])
    return f"{text} ± {cell['kid_error']:.1g}" if name == "kid" else text


def facts_line(record):
    """Returns one line of what belongs beside the scores, such as model, data and guidance."""
    return ", ".join(f"{name.replace('_', ' ')}: {fact}" for name, fact in _facts(record).items())


def write_csv(record, path):
    """Writes all numbers, one line for each cell, with baseline and facts repeated."""
    baseline = {f"baseline_{name}": value for name, value in record["baseline"].items()}
    lines = [{**cell, **baseline, **_facts(record)} for cell in record["cells"]]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(k for r in lines for k in r)))
        writer.writeheader()
        writer.writerows(lines)


def _facts(record):
    """Returns {name: value}, such as model, guidance_scale, data_name, extractor_hash."""
    facts = {name: record[name] for name in VALUES if name in record}
    facts.update(record.get("guidance", {}))
    for group in GROUPS:
        facts.update({f"{group}_{name}": fact for name, fact in record.get(group, {}).items()})
    return facts
