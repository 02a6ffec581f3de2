"""Figures with matplotlib. No pyplot: its global state belongs to the user.

First what all figures share (axes, curves, tables of images, files), then the figures of a
training run and of an evaluation, each written to a PNG file.
"""

import csv
import functools
import html
import io
import itertools
import os
import re

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter
from PIL import Image

from keras_diffusion.plotting.images import grid, over_white, readable
from keras_diffusion.runtime.files import whole_file

DPI = (120, 100, 80, 65)  # fewer dots per inch only if the file would be too large
COLOURS, GREYS = 256, 16  # of a PNG that is too large in full colour at every resolution


def subplots(columns=1, rows=1, width=6.0, height=3.8, sharey=False):
    """Creates a figure of equal panels.

    Args:
        columns, rows: int, number of panels.
        width, height: float, of one panel in inches.
        sharey: bool, whether panels have the same y axis.

    Returns:
        (figure, axes), axes an array (rows, columns).
    """
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=sharey)


def line_figure(*panels, width=6.0, height=3.8, sharey=False):
    """Creates a figure with one row of panels, each a dict of the arguments of `plot_lines`."""
    figure, [axes] = subplots(len(panels), 1, width, height, sharey)
    for place, panel in zip(axes, panels, strict=True):
        plot_lines(place, **panel)
    return figure


def plot_lines(axes, curves, xlabel, ylabel, title=None, reference=None, log="", markers=False):
    """Plots curves, with a legend if there are several.

    Args:
        axes: as from `subplots`.
        curves: dict {label: (xs, ys)}.
        xlabel, ylabel: text, with the unit.
        title: text or None.
        reference: None, or (y, label) of a dashed line that the curves are compared with.
        log: the axes that are logarithmic: "", "x", "y" or "xy".
        markers: bool, whether points are marked.
    """
    for number, (label, (xs, ys)) in enumerate(curves.items()):
        marker = "o" if markers else None
        axes.plot(xs, ys, marker=marker, ms=3.5, lw=1.4, label=_plain(label, number))
    if reference:
        axes.axhline(reference[0], color="black", ls="--", lw=1, label=reference[1])
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.title.set_fontsize(10)
    for name in log:
        axes.set(**{f"{name}scale": "log"})
        plain_numbers(getattr(axes, f"{name}axis"))
    axes.grid(alpha=0.3, which="both" if log else "major")
    if len(curves) > 1 or reference:
        axes.legend(fontsize=8)


def plain_numbers(axis):
    """Labels a logarithmic axis without powers of ten, and with as many labels as fit."""
    low, high = axis.get_view_interval()
    axis.set_major_formatter("{x:g}")
    if high > 8 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_minor_formatter("{x:g}")


def image_table(rows, column_titles, row_titles=None, notes=None, width=2.0, columns=None):
    """Shows images, or grids of images, in a table with titles.

    Args:
        rows: list of lists of cells of one size: uint8 (H, W, C), uint8 (N, H, W, C), which is
            shown as a grid, or None, which leaves the cell empty.
        column_titles: list of text.
        row_titles: list of text or None.
        notes: None, or for each cell the text below it, or None.
        width: float, of a cell in inches.
        columns: int, images per row of a grid; None: about as many as rows.

    Returns:
        The figure, for `save`.
    """
    rows = [[_image_of(cell, columns) for cell in row] for row in rows]
    shape = next(cell.shape for row in rows for cell in row if cell is not None)
    height = width * shape[0] / shape[1] + (0.4 if notes else 0.1)
    figure, axes = subplots(len(column_titles), len(rows), width, height)
    for place in axes.flat:
        place.set(xticks=[], yticks=[])
        place.spines[:].set_visible(False)
    for place, image in zip(axes.flat, itertools.chain(*rows), strict=True):
        if image is not None:
            place.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    for place, note in zip(axes.flat, itertools.chain(*notes or ()), strict=False):
        place.set_xlabel(note or "", fontsize=8)
    for number, (place, title) in enumerate(zip(axes[:, 0], row_titles or (), strict=False)):
        place.set_ylabel(_plain(title, number), fontsize=9)
    for number, (place, title) in enumerate(zip(axes[0], column_titles, strict=True)):
        place.set_title(_plain(title, number), fontsize=9)
    return figure


def _plain(text, number):
    """Text that matplotlib shows as it is, or the number if its font lacks a character."""
    lines = [readable(line, number, longest=1000) for line in str(text).split("\n")]
    return "\n".join(lines).replace("$", r"\$")


def _image_of(cell, columns):
    """The image of a cell of `image_table`, as matplotlib takes it."""
    if cell is None:
        return None
    image = np.atleast_3d(grid(cell, columns)) if cell.ndim == 4 else over_white(np.asarray(cell))
    return image[..., 0] if image.shape[-1] == 1 else image


def save(figure, path, max_bytes=None):
    """Writes a figure as PNG; creates missing folders.

    Args:
        figure: as from `subplots`.
        path: of the file.
        max_bytes: None, or a limit that is kept by a lower resolution, then by fewer colours.

    Raises:
        ValueError: the file is larger even so.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with whole_file(path) as part:
        for few_colours, dpi in itertools.product((False, True), DPI):
            figure.savefig(part, format="png", dpi=dpi)
            if max_bytes is None:
                return
            _reduce(part, few_colours)
            if os.path.getsize(part) <= max_bytes:
                return
        raise ValueError(f"{path}: larger than {max_bytes} bytes. Show fewer images.")


def svg(figure, title):
    """Returns a figure as text of an SVG for a page, be it light or dark.

    It is transparent and as wide as its place, and what would be black has the colour of the text
    around it.

    Args:
        figure: as from `subplots`.
        title: text for those who cannot see it.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    opening, _, rest = text[text.index("<svg ") :].partition(">")
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)
    for colour, replacement in (("#000000", "currentColor"), ("#ffffff", "none")):
        rest = rest.replace(colour, replacement)
    label = html.escape(title)
    return f'{opening} role="img" aria-label="{label}" fill="currentColor">{rest}'


def _reduce(path, few_colours):
    """Writes a PNG again, in grey if it has no colours (half the size), or in few colours."""
    with Image.open(path) as image:
        image = image.convert("RGB")
    red, green, blue = image.split()
    if red == green == blue:
        (red.quantize(GREYS) if few_colours else red).save(path, format="png", optimize=True)
    elif few_colours:
        image.quantize(COLOURS).save(path, format="png", optimize=True)


# A training run -------------------------------------------------------------------------------


def loss_curves(history_csv, path):
    """Plots training and validation loss per epoch, and beside them the scores, if there are any.

    Args:
        history_csv: file with the columns epoch, loss and, if measured, val_loss and fid.
        path: PNG to write.
    """
    panels = loss_panels(*read_history(history_csv))
    figure, axes = subplots(len(panels), width=6.4, height=4)
    for place, plot in zip(axes.flat, panels, strict=True):
        plot(place)
    save(figure, path)


def health(history_csv, path):
    """Plots what shows whether a training went well; panels without values are left out.

    Args:
        history_csv: as for `loss_curves`.
        path: PNG to write.
    """
    panels = health_panels(*read_history(history_csv))
    figure, axes = subplots(2, 2, width=4.8, height=3.2)
    for place, plot in zip(axes.flat, panels, strict=True):
        plot(place)
        place.set_visible(place.has_data())
    save(figure, path)


def loss_panels(epochs, columns):
    """Returns functions that each plot into axes: the losses, and scores if there are any.

    Args:
        epochs, columns: as from `read_history`.
    """
    names = {"loss": "training", "val_loss": "validation (EMA weights)", "fid": "generated images"}
    known = {name: columns[name] for name in names if np.isfinite(columns.get(name, np.nan)).any()}

    def plot(axes, label, shown):
        for name in shown:
            measured = np.isfinite(known[name])  # not every epoch is scored
            marker = "o" if measured.sum() < 30 else None
            xs, ys = epochs[measured], known[name][measured]
            axes.plot(xs, ys, marker=marker, ms=3, label=names[name])
        axes.set(ylabel=label, yscale="log")
        _format_epochs(axes)
        axes.legend()

    panels = {"loss (weighted squared error)": [name for name in known if name != "fid"]}
    if "fid" in known:
        panels["Frechet distance to real images"] = ["fid"]
    return [functools.partial(plot, label=label, shown=shown) for label, shown in panels.items()]


def health_panels(epochs, columns):
    """Returns four functions that each plot into axes, which stay empty without values.

    The loss by quarter of the time t, in training and validation; the validation loss of the EMA
    weights and of the raw weights; the norm of the gradient; the steps that were skipped.

    Args:
        epochs, columns: as from `read_history`.
    """

    def quarters(axes):
        names = [name for name in columns if name.startswith("loss_t")]
        for index, name in enumerate(names):
            label = name.removeprefix("loss_t").replace("-", " - ") + "%"
            axes.plot(epochs, columns[name], color=f"C{index}", label=label)
            if f"val_{name}" in columns:
                axes.plot(epochs, columns[f"val_{name}"], color=f"C{index}", ls="--")
        axes.set(title="loss by quarter of t, 0% clean (dashed: validation)", yscale="log")

    def validation(axes):
        if "val_raw_excess" in columns:
            raw = columns["val_loss"] + columns["val_raw_excess"]
            axes.plot(epochs, raw, label="raw weights")
            axes.plot(epochs, columns["val_loss"], label="EMA weights, used for sampling")
        axes.set(title="validation loss", yscale="log")

    def norm(axes):
        if "gradient_norm" in columns:
            axes.plot(epochs, columns["gradient_norm"])
        axes.set(title="gradient norm before clipping, mean per epoch", yscale="log")

    def skipped(axes):
        axes.bar(epochs, columns["skipped"])
        most = columns["skipped"].max(initial=1)
        axes.set(title="steps skipped because of a non-finite gradient", ylim=(0, 1.1 * most))
        axes.yaxis.get_major_locator().set_params(integer=True)

    def plot(axes, panel):
        panel(axes)
        axes.title.set_fontsize(10)
        _format_epochs(axes)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize=8)

    panels = (quarters, validation, norm, skipped)
    return [functools.partial(plot, panel=panel) for panel in panels]


def read_history(path):
    """Reads a history.csv.

    Returns:
        (epochs, columns): int (N,), and {name: float (N,)} with NaN where a value is missing.
    """
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {
        name: np.array([float(row[name]) if row.get(name) else np.nan for row in rows])
        for name in (rows[0] if rows else ("epoch", "skipped"))
    }
    return columns.pop("epoch").astype(int), columns


def _format_epochs(axes):
    """Formats a panel of curves over epochs."""
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3, which="both")
    if axes.get_yscale() == "log":
        plain_numbers(axes.yaxis)


def process_strip(frames, titles, path):
    """Shows images on their way through a process: a row for each image, a column for each stage.

    Args:
        frames: uint8 (stages, N, H, W, C).
        titles: list of text, one for each stage.
        path: PNG to write.
    """
    height, width = frames.shape[2:4]
    save(image_table(frames.swapaxes(0, 1), titles, width=1.2 * width / height), path)


def restoration_curves(history_csv, path, t):
    """Plots how well an image is restored from noise against the minutes of training.

    Args:
        history_csv: file with the columns minutes, psnr and ssim.
        path: PNG to write.
        t: time that the image was noised to.
    """
    _, columns = read_history(history_csv)
    measured = np.isfinite(columns["minutes"])
    figure, axes = subplots(2, width=4.5, height=3.4)
    labels = {"psnr": "PSNR (dB)", "ssim": "SSIM (1: equal)"}
    for place, (name, label) in zip(axes[0], labels.items(), strict=True):
        curve = {name: (columns["minutes"][measured], columns[name][measured])}
        plot_lines(place, curve, xlabel="minutes of training", ylabel=label, markers=True)
        place.set_xlim(left=0)
    figure.suptitle(f"The image, reconstructed from t = {t:g}", fontsize=10)
    save(figure, path)


# An evaluation --------------------------------------------------------------------------------


def sampler_report(cells, baseline, path):
    """Plots the score of every sampler against network calls and against seconds.

    Args:
        cells: dicts of sampler, num_steps, network_calls, seconds_per_image and fid.
        baseline: dict of "fid" and "num_images" of held-out images.
        path: PNG to write.
    """
    figure, [panels] = subplots(2, width=4.8, height=4, sharey=True)
    labels = {"network_calls": "network calls per image", "seconds_per_image": "seconds per image"}
    real = f"{baseline['num_images']:,} held-out images"
    for axes, (name, label) in zip(panels, labels.items(), strict=True):
        for sampler in dict.fromkeys(cell["sampler"] for cell in cells):
            points = sorted((c[name], c["fid"]) for c in cells if c["sampler"] == sampler)
            axes.plot(*zip(*points, strict=True), marker="o", ms=4, label=sampler)
        axes.axhline(baseline["fid"], color="black", ls="--", lw=1, label=real)
        axes.set(xlabel=label, xscale="log", yscale="log")
        plain_numbers(axes.xaxis)
        plain_numbers(axes.yaxis)
        axes.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("Frechet distance (lower is better)")
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside upper center", ncols=len(names))
    save(figure, path)


def memorisation(spaces, path):
    """Plots how far generated and held-out images are from their nearest training image.

    Args:
        spaces: dict {"pixels" or "features": (`Nearest` of generated images, of held-out images)}.
        path: PNG to write.
    """
    units = {"pixels": "RMS difference of pixels, 0 .. 255"}
    figure, [panels] = subplots(len(spaces), width=4.8, height=3.6)
    for axes, (space, both) in zip(panels, spaces.items(), strict=True):
        ends = np.quantile(np.concatenate([nearest.distances for nearest in both]), [0, 0.995])
        bins = np.linspace(*ends, 41)
        for nearest, label in zip(both, ("generated", "held out"), strict=True):
            share = np.full(len(nearest.distances), 1 / len(nearest.distances))
            axes.hist(nearest.distances, bins, weights=share, histtype="step", lw=1.5, label=label)
        axes.set_xlabel(units.get(space, "RMS difference of features"))
        axes.set_title(f"distance to the nearest training image, by {space}", fontsize=10)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.legend()
        axes.grid(alpha=0.3)
    save(figure, path)


def closest_pairs(rows, path):
    """Shows images with their nearest training images below them, the closest pairs first.

    Args:
        rows: dict {title: (uint8 (N, H, W, C), uint8 (N, H, W, C) of the training images)}.
        path: PNG to write.
    """
    count = max(len(images) for images, _ in rows.values())
    figure = Figure(figsize=(0.9 * count, 2.2 * len(rows)), layout="constrained")
    parts = figure.subfigures(len(rows), 1, squeeze=False)
    for part, (title, both) in zip(parts[:, 0], rows.items(), strict=True):
        part.suptitle(f"{title}; below, the nearest training images", fontsize=10)
        axes = part.subplots(2, count, squeeze=False)
        for places, images in zip(axes, both, strict=True):
            for place in places:
                place.axis("off")
            for place, image in zip(places, images, strict=False):
                place.imshow(_image_of(image, None), cmap="gray", vmin=0, vmax=255)
    save(figure, path)
