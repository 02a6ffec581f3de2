"""Figures; the only file that imports matplotlib. No pyplot: its state is the user's own."""

import csv

import numpy as np
from matplotlib.figure import Figure

from keras_diffusion.files import whole_file


def loss_curves(history_csv, path):
    """Draws training and validation loss per epoch.

    Args:
        history_csv: file with columns epoch, loss and, if there was validation, val_loss.
        path: PNG to write.
    """
    with open(history_csv, newline="") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in rows]
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for name, label in (("loss", "training"), ("val_loss", "validation (EMA weights)")):
        values = [float(row[name]) if row.get(name) else np.nan for row in rows]
        if np.isfinite(values).any():
            axes.plot(epochs, values, marker="o" if len(rows) < 30 else None, ms=3, label=label)
    axes.set(xlabel="epoch", ylabel="loss (weighted squared error)", yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3, which="both")
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
            image = frames[column, row]
            if image.shape[-1] == 1:
                image = image.repeat(3, axis=-1)
            axes[row, column].imshow(image)
            axes[row, column].axis("off")
        axes[0, column].set_title(titles[column], fontsize=9)
    _save(figure, path)


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
                place.imshow(image if image.shape[-1] > 1 else image.repeat(3, axis=-1))
            if notes and note:
                place.set_xlabel(note, fontsize=8)
        axes[i, 0].set_ylabel(row_titles[i], fontsize=9)
    for place, title in zip(axes[0], column_titles, strict=True):
        place.set_title(title, fontsize=9)
    _save(figure, path)


def restoration_curves(history_csv, path):
    """Draws against minutes of training how well a picture comes back from noise.

    Args:
        history_csv: file with columns minutes, psnr and ssim.
        path: PNG to write.
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
    figure.suptitle("The picture, reconstructed from t = 0.5", fontsize=10)
    _save(figure, path)


def _save(figure, path):
    with whole_file(path) as part:
        figure.savefig(part, format="png", dpi=120)
