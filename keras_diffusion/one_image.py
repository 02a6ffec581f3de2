"""A run on one picture: how well the picture comes back from noise, and what else is drawn.

The network is trained on crops and consists of convolutions alone, so that it draws pictures of
any size. What is measured and drawn here has the size of the whole picture.
"""

import csv
from pathlib import Path

import keras
import numpy as np

from keras_diffusion import build, images, plotting
from keras_diffusion.editing import img2img
from keras_diffusion.evaluation import restoration
from keras_diffusion.files import whole_file

LEVELS = (0.3, 0.5, 0.7, 0.9)  # times that the picture is noised to
WATCHED = 0.5  # the one that is measured after each epoch
VARIED = (0.6, 0.75, 0.9, 1.0)  # times from which variations are drawn; 1: from noise alone
VARIATIONS = 4  # from each
WIDER = 1.5  # times the width: pictures of another size


def reconstruct(model, picture, t, **options):
    """Noises a picture to time t and follows the sampler back.

    Args:
        model: `DiffusionModel` of the picture's shape.
        picture: uint8 (H, W, C).
        t: in (0, 1].
        options: of `editing.img2img`.

    Returns:
        (noised, reconstructed), uint8 (H, W, C) each.
    """
    frames = img2img(model, picture[None], strength=t, num_frames=1, **options)
    return frames[0, 0], frames[1, 0]


class Restoration(keras.callbacks.Callback):
    """Adds to the results of each epoch how well the picture comes back from t = 0.5.

    "minutes" trained so far, "psnr" (dB) and "ssim"; put it before the `Recorder`, which writes
    them to history.csv.

    Args:
        whole: `DiffusionModel` of the picture's shape; gets the average weights of the model
            in training.
        picture: uint8 (H, W, C).
        budget: the run's `Budget`, for the minutes.
        options: of `editing.img2img`.
    """

    def __init__(self, whole, picture, budget, **options):
        super().__init__()
        self.whole = whole
        self.picture = picture
        self.budget = budget
        self.options = options

    def on_epoch_end(self, epoch, logs=None):
        self.whole.ema_network.set_weights(self.model.ema_network.get_weights())
        _, restored = reconstruct(self.whole, self.picture, WATCHED, **self.options)
        scores = restoration.compare(restored[None], self.picture)
        logs.update({name: float(values[0]) for name, values in scores.items()})
        logs["minutes"] = self.budget.seconds / 60


def restoration_callback(model, picture, config, budget):
    """Returns the `Restoration` of a run; `model` is the one in training."""
    whole = build.resized(model, config, picture.shape)
    return Restoration(whole, picture, budget, **_drawing(config))


def draw(model, picture, config, run_dir):
    """Writes the pictures of a run on one picture, and reconstruction.csv.

    Args:
        model: `DiffusionModel` of the picture's shape, trained.
        picture: uint8 (H, W, C).
        config: its `Config`.
        run_dir: folder for reconstruction.png and .csv, variations.png, other_size.png and
            quality.png.
    """
    run_dir = Path(run_dir)
    options = _drawing(config)
    _draw_reconstructions(model, picture, run_dir, options)
    copies = np.stack([picture] * VARIATIONS)
    rows = [img2img(model, copies, strength=t, **options) for t in VARIED]
    plotting.picture_table(
        rows,
        run_dir / "variations.png",
        row_titles=[f"from t = {t:g}" for t in VARIED],
        column_titles=[f"noise {number + 1}" for number in range(VARIATIONS)],
    )
    height, width, channels = picture.shape
    multiple = 2 ** (len(config.widths) - 1)
    wider = build.resized(
        model, config, (height, int(WIDER * width) // multiple * multiple, channels)
    )
    drawn = wider.generate(3, **options)
    images.save_png(run_dir / "other_size.png", images.grid(drawn, columns=1))
    plotting.restoration_curves(run_dir / "history.csv", run_dir / "quality.png")


def _draw_reconstructions(model, picture, run_dir, options):
    pairs = [reconstruct(model, picture, t, **options) for t in LEVELS]
    table = []
    for t, pair in zip(LEVELS, pairs, strict=True):
        scores = restoration.compare(np.stack(pair), picture)
        row = {"t": t}
        for index, name in enumerate(("noised", "reconstructed")):
            row.update({f"{name}_{score}": float(scores[score][index]) for score in scores})
        table.append(row)
    with whole_file(run_dir / "reconstruction.csv") as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    plotting.picture_table(
        [[picture, *(noised for noised, _ in pairs)], [None, *(restored for _, restored in pairs)]],
        run_dir / "reconstruction.png",
        row_titles=["noised", "reconstructed"],
        column_titles=["the picture", *(f"t = {t:g}" for t in LEVELS)],
        notes=[
            [None, *(_note(row, "noised") for row in table)],
            [None, *(_note(row, "reconstructed") for row in table)],
        ],
    )


def _note(row, name):
    return f"PSNR {row[f'{name}_psnr']:.1f} dB, SSIM {row[f'{name}_ssim']:.2f}"


def _drawing(config):
    return {name: getattr(config, name) for name in ("sampler", "num_steps", "seed")}
