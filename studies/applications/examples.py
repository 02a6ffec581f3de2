"""Tables of example images, kept in a stage and shown on the page."""

import functools

import numpy as np

from keras_diffusion.plotting import figures
from keras_diffusion.plotting.comparisons import shade
from studies.figures import level_row_titles

FILE = "{}.npy"


def keep(folder, name, rows, columns):
    """Keeps a table of images; returns a dict for `figure`, JSON-serialisable.

    Args:
        folder: of the stage.
        name: of the figure.
        rows: list of (title, list of images), one image for each column; uint8 (H, W, C), all of
            one shape.
        columns: list of titles.
    """
    np.save(folder / FILE.format(name), np.stack([np.stack(images) for _, images in rows]))
    return {"name": name, "rows": [title for title, _ in rows], "columns": list(columns)}


def figure(kept, stage, stages, width=1.1):
    """Returns {name: function that returns the figure} of a table that a stage has kept.

    Args:
        kept: as from `keep`.
        stage: name of the stage.
        stages: `Stages`.
        width: of an image, in inches.
    """
    return {kept["name"]: functools.partial(_table, kept, stage, stages, width)}


def figures_of(name, result, curves, stages):
    """Returns the figures of an application that has curves, and examples of each kind.

    Args:
        name: of the application and of the figure of its curves; its stages are NAME-KIND.
        result: {kind: dict with "examples", as from `keep`}.
        curves: function (result) -> figure.
        stages: `Stages`.
    """
    found = {name: functools.partial(curves, result)}
    for kind in result:
        found.update(figure(result[kind]["examples"], f"{name}-{kind}", stages))
    return found


def curves(rows, label, x, y):
    """Returns {label(row): (values of `x`, values of `y`)}, the curves of a panel, of rows."""
    found = {}
    for row in rows:
        xs, ys = found.setdefault(label(row), ([], []))
        xs.append(row[x])
        ys.append(row[y])
    return found


def _table(kept, stage, stages, width):
    images = stages.array(stage, FILE.format(kept["name"]))
    table = figures.image_table(images, kept["columns"], kept["rows"], width=width)
    return level_row_titles(table) if any(kept["rows"]) else table


def masked(images, known):
    """Returns uint8 images (N, H, W, C) that are grey where `known` (N, H, W) is False."""
    return np.stack([shade(image, ~each) for image, each in zip(images, known, strict=True)])
