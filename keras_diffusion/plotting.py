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


def _save(figure, path):
    with whole_file(path) as part:
        figure.savefig(part, format="png", dpi=120)
