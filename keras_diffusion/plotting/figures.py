"""Figures; the only file that imports matplotlib. No pyplot: its state is the user's own."""

import csv

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter

from keras_diffusion.runtime.files import whole_file


def loss_curves(history_csv, path):
    """Draws training and validation loss per epoch, and the scores beside them.

    Args:
        history_csv: file with columns epoch, loss and, if there was validation, val_loss, and,
            if pictures were scored, fid.
        path: PNG to write.
    """
    epochs, columns = _history(history_csv)
    lines = {"loss": "training", "val_loss": "validation (EMA weights)", "fid": "new pictures"}
    known = {name: columns[name] for name in lines if np.isfinite(columns.get(name, np.nan)).any()}
    panels = {"loss (weighted squared error)": [name for name in known if name != "fid"]}
    if "fid" in known:
        panels["Frechet distance to real pictures"] = ["fid"]
    figure = Figure(figsize=(6.4 * len(panels), 4), layout="constrained")
    for axes, (title, names) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name in names:
            there = np.isfinite(known[name])  # not every epoch is scored
            marker = "o" if there.sum() < 30 else None
            axes.plot(epochs[there], known[name][there], marker=marker, ms=3, label=lines[name])
        axes.set(ylabel=title, yscale="log")
        _by_epoch(axes)
        axes.legend()
    _save(figure, path)


def process_strip(frames, titles, path):
    """Draws pictures on their way through a process, a row for each, a column for each stage.

    Args:
        frames: uint8 (stages, N, H, W, C).
        titles: one for each stage.
        path: PNG to write.
    """
    stages, count, height, width, _ = frames.shape
    size = 1.2 * stages * width / height, 1.2 * count + 0.3  # inches
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(count, stages, squeeze=False)
    for column in range(stages):
        for row in range(count):
            axes[row, column].imshow(_shown(frames[column, row]))
            axes[row, column].axis("off")
        axes[0, column].set_title(titles[column], fontsize=9)
    _save(figure, path)


def sampler_report(cells, floor, path):
    """Draws the score of every sampler against network calls, and against seconds.

    Args:
        cells: dicts of sampler, num_steps, network_calls, seconds_per_image and fid.
        floor: dict with "fid" and "num_images", of held-out pictures.
        path: PNG to write.
    """
    figure = Figure(figsize=(9.6, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    samplers = dict.fromkeys(cell["sampler"] for cell in cells)
    for part, name, label in zip(
        axes,
        ("network_calls", "seconds_per_image"),
        ("network calls for each picture", "seconds for each picture"),
        strict=True,
    ):
        for sampler in samplers:
            found = [cell for cell in cells if cell["sampler"] == sampler]
            found.sort(key=lambda cell: cell[name])
            xs, ys = ([cell[key] for cell in found] for key in (name, "fid"))
            part.plot(xs, ys, marker="o", ms=4, label=sampler)
        floors = f"{floor['num_images']:,} held-out pictures"
        part.axhline(floor["fid"], color="black", ls="--", lw=1, label=floors)
        part.set(xlabel=label, xscale="log", yscale="log")
        for axis in (part.xaxis, part.yaxis):
            _plain_numbers(axis)
        part.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("Frechet distance (less is better)")
    lines, names = axes[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside upper center", ncols=len(names))
    _save(figure, path)


def memorisation(spaces, path):
    """Draws how far drawn and held-out pictures are from their nearest training picture.

    Args:
        spaces: dict {"pixels" or "features": (`Nearest` of drawn ones, of held-out ones)}.
        path: PNG to write.
    """
    figure = Figure(figsize=(4.8 * len(spaces), 3.6), layout="constrained")
    units = {"pixels": "root mean square of the differences of pixels, 0 .. 255"}
    for axes, (space, both) in zip(
        figure.subplots(1, len(spaces), squeeze=False)[0], spaces.items(), strict=True
    ):
        ends = np.quantile(np.concatenate([found.distances for found in both]), [0, 0.995])
        bins = np.linspace(*ends, 41)
        for found, who in zip(both, ("drawn", "held out"), strict=True):
            share = np.full(len(found.distances), 1 / len(found.distances))
            axes.hist(found.distances, bins, weights=share, histtype="step", lw=1.5, label=who)
        axes.set_xlabel(units.get(space, "root mean square of the differences of features"))
        axes.set_title(f"distance to the nearest training picture, by {space}", fontsize=10)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.legend()
        axes.grid(alpha=0.3)
    _save(figure, path)


def closest_pairs(rows, path):
    """Draws pictures with their nearest training pictures beneath them, the closest ones first.

    Args:
        rows: dict {title: (uint8 (N, H, W, C), uint8 (N, H, W, C) of the training)}.
        path: PNG to write.
    """
    count = max(len(pictures) for pictures, _ in rows.values())
    figure = Figure(figsize=(0.9 * count, 2.2 * len(rows)), layout="constrained")
    for part, (title, both) in zip(figure.subfigures(len(rows), 1), rows.items(), strict=True):
        part.suptitle(f"{title}; beneath, the nearest training pictures", fontsize=10)
        axes = part.subplots(2, count, squeeze=False)
        for line, pictures in zip(axes, both, strict=True):
            for place in line:
                place.axis("off")
            for place, picture in zip(line, pictures, strict=False):
                place.imshow(_shown(picture), interpolation="nearest")
    _save(figure, path)


def health(history_csv, path):
    """Draws what tells whether a training went well; panels without figures are left out.

    Loss for each quarter of time, of training and of validation; validation loss of the average
    of the weights and of the weights themselves; norm of the gradient; steps that were skipped.

    Args:
        history_csv: as for `loss_curves`.
        path: PNG to write.
    """
    epochs, columns = _history(history_csv)
    figure = Figure(figsize=(9.6, 6.4), layout="constrained")
    bands, validation, norm, skipped = axes = list(figure.subplots(2, 2).flat)
    names = [name for name in columns if name.startswith("loss_t")]
    for number, name in enumerate(names):
        label = name.removeprefix("loss_t").replace("-", " - ") + "%"
        bands.plot(epochs, columns[name], color=f"C{number}", label=label)
        if f"val_{name}" in columns:
            bands.plot(epochs, columns[f"val_{name}"], color=f"C{number}", ls="--")
    bands.set(title="loss by quarter of time, 0% clean (dashed: validation)", yscale="log")
    if "val_raw_excess" in columns:
        raw = columns["val_loss"] + columns["val_raw_excess"]
        validation.plot(epochs, raw, label="weights as they are")
        validation.plot(epochs, columns["val_loss"], label="their average (EMA), which draws")
    validation.set(title="validation loss", yscale="log")
    if "gradient_norm" in columns:
        norm.plot(epochs, columns["gradient_norm"])
    norm.set(title="norm of the gradient before clipping, mean of the epoch", yscale="log")
    skipped.bar(epochs, columns["skipped"])
    most = columns["skipped"].max(initial=1)
    skipped.set(title="steps skipped, as their gradient was not finite", ylim=(0, 1.1 * most))
    skipped.yaxis.get_major_locator().set_params(integer=True)
    for part in axes:
        part.set_visible(part.has_data())
        part.title.set_fontsize(10)
        _by_epoch(part)
        if part.get_legend_handles_labels()[1]:
            part.legend(fontsize=8)
    _save(figure, path)


def _by_epoch(axes):
    """Lays out a panel of curves over epochs."""
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3, which="both")
    if axes.get_yscale() == "log":
        _plain_numbers(axes.yaxis)


def _history(path):
    """Returns (epochs, {column: float array}) of a history.csv; what is missing is nan."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {
        name: np.array([float(row[name]) if row.get(name) else np.nan for row in rows])
        for name in (rows[0] if rows else ("epoch", "skipped"))
    }
    return columns.pop("epoch").astype(int), columns


def _plain_numbers(axis):
    """No powers of ten on a logarithmic scale, and as many numbers as there is room for."""
    low, high = axis.get_view_interval()
    axis.set_major_formatter("{x:g}")
    if high > 8 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_minor_formatter("{x:g}")


def _shown(image):
    """uint8 (H, W, C) as matplotlib takes it."""
    return image.repeat(3, axis=-1) if image.shape[-1] == 1 else image


def picture_table(rows, path, *, row_titles, column_titles, notes=None):
    """Draws pictures in a table with titles.

    Args:
        rows: lists of uint8 pictures (H, W, C) of one size; None leaves a place empty.
        path: PNG to write.
        row_titles, column_titles: one for each.
        notes: None, or for each picture what is written below it, or None.
    """
    height, width = next(image for row in rows for image in row if image is not None).shape[:2]
    high = 2.0 * height / width + (0.4 if notes else 0.05)  # inches, of 2 across
    size = 2.0 * len(column_titles), high * len(rows) + 0.3
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), len(column_titles), squeeze=False)
    for i, row in enumerate(rows):
        for place, image, note in zip(axes[i], row, notes[i] if notes else row, strict=True):
            place.set(xticks=[], yticks=[])
            place.spines[:].set_visible(False)
            if image is not None:
                place.imshow(_shown(image))
            if notes and note:
                place.set_xlabel(note, fontsize=8)
        axes[i, 0].set_ylabel(row_titles[i], fontsize=9)
    for place, title in zip(axes[0], column_titles, strict=True):
        place.set_title(title, fontsize=9)
    _save(figure, path)


def restoration_curves(history_csv, path, t):
    """Draws against minutes of training how well a picture comes back from noise.

    Args:
        history_csv: file with columns minutes, psnr and ssim.
        path: PNG to write.
        t: time that it was noised to.
    """
    with open(history_csv, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("minutes")]
    minutes = [float(row["minutes"]) for row in rows]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    labels = {"psnr": "PSNR (dB)", "ssim": "SSIM (1: equal)"}
    for axes, (name, label) in zip(figure.subplots(1, 2), labels.items(), strict=True):
        axes.plot(minutes, [float(row[name]) for row in rows], marker="o", ms=3)
        axes.set(xlabel="minutes of training", ylabel=label, xlim=(0, None))
        axes.grid(alpha=0.3)
    figure.suptitle(f"The picture, reconstructed from t = {t:g}", fontsize=10)
    _save(figure, path)


def _save(figure, path):
    with whole_file(path) as part:
        figure.savefig(part, format="png", dpi=120)
