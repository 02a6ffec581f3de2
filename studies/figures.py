"""Figures of studies; the only file of theirs that imports matplotlib. No pyplot."""

import itertools
import os

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from keras_diffusion.plotting import images as pictures
from keras_diffusion.runtime.files import whole_file

MOST_BYTES = 300_000  # of a PNG: pages are to load quickly
DOTS = (120, 100, 80, 65)  # per inch, the first that is small enough
COLOURS = (256, 64, 16, 8)  # of a GIF, likewise; of a PNG all, or the first
GREYS = 16  # of a PNG without colours, all or these


def sheet(columns=1, rows=1, width=6.0, height=3.8):
    """Returns (figure, axes), axes an array (rows, columns); width and height of each, inches."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def lines(axes, curves, *, xlabel, ylabel, title=None, log=False, markers=False):
    """Draws curves with a legend.

    Args:
        axes: of `sheet`.
        curves: {label: (xs, ys)}.
        xlabel, ylabel: with units.
        title: None, or the title of these axes.
        log: whether y is logarithmic.
        markers: whether points are marked.
    """
    for label, (xs, ys) in curves.items():
        axes.plot(xs, ys, marker="o" if markers else None, ms=3.5, lw=1.4, label=label)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if log:
        axes.set_yscale("log")
    axes.grid(alpha=0.3, which="both" if log else "major")
    if len(curves) > 1:
        axes.legend(fontsize=9)


def level(axes, value, label):
    """Draws a level to hold curves against, a dashed line with its name in the legend."""
    axes.axhline(value, color="black", ls="--", lw=1, label=label)
    axes.legend(fontsize=9)


def grids(rows, row_titles, column_titles, columns=None, inches=2.0):
    """Draws sets of pictures in a table.

    Args:
        rows: list of lists of uint8 (N, H, W, C): a row of sets for each of `row_titles`; None
            leaves a place empty.
        row_titles, column_titles: lists of text.
        columns: pictures side by side in a set; None: a square of them, or about one.
        inches: width of each set.

    Returns:
        The figure, for `save`.
    """
    first = next(images for row in rows for images in row if images is not None)
    wide, high = pictures.grid(first, columns).size
    figure, axes = sheet(len(column_titles), len(rows), inches, inches * high / wide + 0.1)
    for row, title, places in zip(rows, row_titles, axes, strict=True):
        for images, place in zip(row, places, strict=True):
            show(place, images, columns)
        places[0].set_ylabel(title, fontsize=10)
    for title, place in zip(column_titles, axes[0], strict=True):
        place.set_title(title, fontsize=10)
    return figure


def show(axes, images, columns=None):
    """Shows uint8 (N, H, W, C) as one grid, without ticks; None leaves the axes empty."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if images is None:
        return
    grid = np.atleast_3d(pictures.grid(images, columns))
    grid = grid[..., 0] if grid.shape[-1] == 1 else grid
    axes.imshow(grid, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")


def save(figure, path):
    """Writes a PNG of at most `MOST_BYTES`, with fewer dots per inch or colours if need be.

    Photos and noise need the second: a sheet of 160 photos in all colours is too large at any size.

    Raises:
        ValueError: it is larger even so.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with whole_file(path) as part:
        for few_colours, dots in itertools.product((False, True), DOTS):
            figure.savefig(part, format="png", dpi=dots)
            _reduce(part, few_colours)
            if os.path.getsize(part) <= MOST_BYTES:
                return
        raise ValueError(f"{path}: more than {MOST_BYTES} bytes; draw fewer pictures.")


def _reduce(path, few_colours):
    """Writes a PNG again: in grey if it has no colours (half to two thirds of it), or in few."""
    with Image.open(path) as picture:
        colours = picture.convert("RGB")
    red, green, blue = colours.split()
    if red == green == blue:
        (red.quantize(GREYS) if few_colours else red).save(path, format="png", optimize=True)
    elif few_colours:
        colours.quantize(COLOURS[0]).save(path, format="png", optimize=True)


def save_gif(frames, path, seconds):
    """Writes a GIF that goes on forever, of fewer colours or greys if need be.

    Args:
        frames: list of uint8 (H, W) or (H, W, 3).
        path: of the GIF.
        seconds: that each frame is shown; the last one three times as long.

    Raises:
        ValueError: it is larger than `MOST_BYTES` even so.
    """
    shown = [int(1000 * seconds)] * (len(frames) - 1) + [int(3000 * seconds)]
    with whole_file(path) as part:
        for colours in COLOURS:
            first, *others = [Image.fromarray(frame).quantize(colours) for frame in frames]
            first.save(part, append_images=others, save_all=True, duration=shown, loop=0)
            if os.path.getsize(part) <= MOST_BYTES:
                return
        raise ValueError(f"{path}: more than {MOST_BYTES} bytes; take fewer frames.")
