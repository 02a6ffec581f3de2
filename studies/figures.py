"""Files of figures: small enough for a page, and only what the data for is there."""

import os
import shutil

from PIL import Image

from keras_diffusion.plotting import figures
from keras_diffusion.runtime.files import whole_file

MAX_BYTES = 300_000  # of a PNG or GIF
DISTANCE, BASELINE = "Frechet distance to real digits", "real digits (baseline)"
LETTER = 0.075  # inches that a letter of a row title takes


def save_all(folder, plots):
    """Writes figures as PNG.

    Args:
        folder: of the files.
        plots: dict {name of the file without ".png": function that returns a figure, or None if
            it writes a file itself}. A figure whose images are not there (FileNotFoundError) is
            skipped, so an older file stays.
    """
    for name, plot in plots.items():
        try:
            figure = plot()
        except FileNotFoundError:
            continue
        if figure is not None:
            figures.save(figure, folder / f"{name}.png", MAX_BYTES)


def copy_png(source, path):
    """Copies a figure if it exists; one that is too large gets fewer colours and pixels."""
    if not source.exists():
        return
    with Image.open(source) as image, whole_file(path) as part:
        shutil.copyfile(source, part)
        for size in (1.0, 0.75, 0.5, 0.25):
            if os.path.getsize(part) <= MAX_BYTES:
                return
            sides = [round(size * side) for side in image.size]
            image.convert("RGB").resize(sides).quantize(256).save(part, "PNG", optimize=True)


def level_row_titles(figure):
    """Makes the row titles of an image table horizontal, and the figure lower accordingly."""
    for axes in figure.axes:
        axes.set_anchor("W")  # otherwise images keep a distance from their titles
        axes.yaxis.label.set(rotation=0, ha="right", va="center", fontsize=9)
    width, height = figure.get_size_inches()
    titles = LETTER * max(len(axes.get_ylabel()) for axes in figure.axes)
    figure.set_figheight(height * (1 - titles / width))
    return figure


def image_rows(sets, titles):
    """Returns a figure with one row of images for each set, uint8 (N, H, W, C), and its title."""
    rows = [[images] for images in sets]
    return level_row_titles(
        figures.image_table(rows, [""], titles, width=8.0, columns=len(sets[0]))
    )
