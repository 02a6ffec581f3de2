"""A run on one picture: how well the picture comes back from noise, and what else is drawn.

The network is trained on crops and consists of convolutions alone, so that it draws pictures of
any size. What is measured and drawn here has the size of the whole picture. Its normalisation
takes statistics of all that it sees, of a crop in training and of the picture here; the larger the
crops, the nearer the two.
"""

from pathlib import Path

import keras
import numpy as np

from keras_diffusion import build
from keras_diffusion.evaluation import restoration
from keras_diffusion.plotting import figures, images
from keras_diffusion.runtime.files import whole_file
from keras_diffusion.sampling.editing import img2img
from keras_diffusion.training.checkpoint_callback import write_table

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
    """Adds to the results of each epoch how well the picture comes back from `WATCHED`.

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
    return Restoration(whole, picture, budget, **drawing(config))


def reconstructions(model, picture, **options):
    """Noises a picture to each of `LEVELS`, and brings it back.

    Returns:
        (noised, reconstructed, table): uint8 (levels, H, W, C) twice, and for each level a dict
        of "t", "noised_psnr", "noised_ssim", "reconstructed_psnr" and "reconstructed_ssim", see
        `restoration.compare`.
    """
    pairs = [reconstruct(model, picture, t, **options) for t in LEVELS]
    noised, reconstructed = map(np.stack, zip(*pairs, strict=True))
    table = [{"t": t} for t in LEVELS]
    for name, drawn in (("noised", noised), ("reconstructed", reconstructed)):
        for score, values in restoration.compare(drawn, picture).items():
            for row, value in zip(table, values, strict=True):
                row[f"{name}_{score}"] = float(value)
    return noised, reconstructed, table


def variations(model, picture, **options):
    """Draws a picture anew from each of `VARIED`: uint8 (times, VARIATIONS, H, W, C)."""
    copies = np.stack([picture] * VARIATIONS)
    options["num_frames"] = 1  # as in `reconstruct`: one graph serves both
    return np.stack([img2img(model, copies, strength=t, **options)[1] for t in VARIED])


def of_another_size(model, config, picture, count=2):
    """Draws pictures from noise that are wider than the picture, by `WIDER`: uint8 (N, H, W, C)."""
    height, width, channels = picture.shape
    multiple = 2 ** (len(config.widths) - 1)
    wide = int(WIDER * width) // multiple * multiple
    return build.resized(model, config, (height, wide, channels)).generate(count, **drawing(config))


def draw(model, picture, config, run_dir, strips):
    """Writes what a run on one picture finds: figures, reconstruction.csv, and pictures.npz.

    Args:
        model: `DiffusionModel` of the picture's shape, trained.
        picture: uint8 (H, W, C).
        config: its `Config`.
        run_dir: folder of the run, with its history.csv.
        strips: dict of more arrays for pictures.npz, which has all that is drawn.
    """
    run_dir, options = Path(run_dir), drawing(config)
    noised, reconstructed, table = reconstructions(model, picture, **options)
    found = {"noised": noised, "reconstructed": reconstructed}
    found["variations"] = variations(model, picture, **options)
    found["wide"] = of_another_size(model, config, picture)
    with whole_file(run_dir / "pictures.npz") as part, open(part, "wb") as file:
        np.savez_compressed(file, picture=picture, **strips, **found)
    write_table(table, run_dir / "reconstruction.csv")
    reconstruction = figures.image_table(
        [[picture, *noised], [None, *reconstructed]],
        column_titles=["the image", *(f"t = {t:g}" for t in LEVELS)],
        row_titles=["noised", "reconstructed"],
        notes=[[None, *(note(row, name) for row in table)] for name in ("noised", "reconstructed")],
    )
    figures.save(reconstruction, run_dir / "reconstruction.png")
    varied = figures.image_table(
        found["variations"],
        column_titles=[f"noise {number + 1}" for number in range(VARIATIONS)],
        row_titles=[f"from t = {t:g}" for t in VARIED],
    )
    figures.save(varied, run_dir / "variations.png")
    images.save_png(run_dir / "other_size.png", images.grid(found["wide"], columns=1))
    figures.restoration_curves(run_dir / "history.csv", run_dir / "quality.png", WATCHED)


def note(row, name):
    """Returns in two lines what `reconstructions` finds for "noised" or "reconstructed"."""
    return f"PSNR {row[f'{name}_psnr']:.1f} dB\nSSIM {row[f'{name}_ssim']:.2f}"


def drawing(config):
    """Returns how a run on one picture draws: options of `generate` and `img2img`."""
    return {name: getattr(config, name) for name in ("sampler", "num_steps", "seed")}
