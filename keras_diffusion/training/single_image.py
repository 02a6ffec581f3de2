"""A run on a single image: how well the image is restored from noise, and other figures.

The network is fully convolutional and trained on crops, so it generates images of any size. All
figures here have the size of the whole image. The statistics of its normalisation are those of a
crop in training and of the whole image here; the larger the crops, the smaller the difference.
"""

import numpy as np

from keras_diffusion import build
from keras_diffusion.evaluation import restoration
from keras_diffusion.plotting import figures, images
from keras_diffusion.runtime.files import whole_file
from keras_diffusion.sampling.editing import img2img
from keras_diffusion.training.callbacks import Evaluator
from keras_diffusion.training.run_dir import write_table

LEVELS = (0.3, 0.5, 0.7, 0.9)  # times t that the image is noised to
WATCHED = 0.5  # the time that is evaluated after each epoch
VARIED = (0.6, 0.75, 0.9, 1.0)  # times that variations start from; 1: noise only
VARIATIONS = 4  # per time
WIDER = 1.5  # width of the samples of another size, relative to the image


def reconstruct(model, image, t, **options):
    """Noises an image to time t and samples from there.

    Args:
        model: `DiffusionModel` of the image's shape.
        image: uint8 (H, W, C).
        t: in (0, 1].
        options: of `editing.img2img`.

    Returns:
        (noised, reconstructed), uint8 (H, W, C) each.
    """
    frames = img2img(model, image[None], strength=t, num_frames=1, **options)
    return frames[0, 0], frames[1, 0]


class Restoration(Evaluator):
    """Adds to the logs of each epoch how well the image is restored from `WATCHED`.

    "minutes" trained so far, "psnr" (dB) and "ssim".

    Args:
        whole: `DiffusionModel` of the image's shape; gets the EMA weights of the model in training.
        image: uint8 (H, W, C).
        progress: `checkpoints.Progress` of the run, for the minutes.
        options: of `editing.img2img`.
    """

    def __init__(self, whole, image, progress, **options):
        super().__init__()
        self.whole = whole
        self.image = image
        self.progress = progress
        self.options = options

    def on_epoch_end(self, epoch, logs=None):
        self.whole.ema_network.set_weights(self.model.ema_network.get_weights())
        _, restored = reconstruct(self.whole, self.image, WATCHED, **self.options)
        scores = restoration.compare(restored[None], self.image)
        logs.update({name: float(values[0]) for name, values in scores.items()})
        logs["minutes"] = self.progress.seconds / 60


def restoration_callback(run, model, progress):
    """Returns the `Restoration` of a `run.Run`; `model` is the one in training."""
    whole = build.resized(model, run.config, run.data.whole_image.shape)
    return Restoration(whole, run.data.whole_image, progress, **sampling_options(run.config))


def reconstructions(model, image, **options):
    """Noises an image to each of `LEVELS`, and reconstructs it.

    Returns:
        (noised, reconstructed, rows): uint8 (levels, H, W, C) twice, and for each level a dict
        of "t", "noised_psnr", "noised_ssim", "reconstructed_psnr" and "reconstructed_ssim", see
        `restoration.compare`.
    """
    pairs = [reconstruct(model, image, t, **options) for t in LEVELS]
    noised, reconstructed = map(np.stack, zip(*pairs, strict=True))
    rows = [{"t": t} for t in LEVELS]
    for name, results in (("noised", noised), ("reconstructed", reconstructed)):
        for score, values in restoration.compare(results, image).items():
            for row, value in zip(rows, values, strict=True):
                row[f"{name}_{score}"] = float(value)
    return noised, reconstructed, rows


def variations(model, image, **options):
    """Variations of an image from each of `VARIED`: uint8 (times, VARIATIONS, H, W, C)."""
    copies = np.stack([image] * VARIATIONS)
    options["num_frames"] = 1  # as in `reconstruct`: the graph is the same
    return np.stack([img2img(model, copies, strength=t, **options)[1] for t in VARIED])


def wider_samples(model, config, image_shape, count=2):
    """Samples from noise that are wider than the image, by `WIDER`: uint8 (N, H, W, C)."""
    height, width, channels = image_shape
    multiple = 2 ** (len(config.widths) - 1)
    width = int(WIDER * width) // multiple * multiple
    model = build.resized(model, config, (height, width, channels))
    return model.generate(count, **sampling_options(config))


def plot(run, model, strips):
    """Writes figures, reconstruction.csv, and pictures.npz with all images of the figures.

    Args:
        run: `run.Run` with history.csv in its folder.
        model: `DiffusionModel` of the image's shape, trained.
        strips: dict of more arrays for pictures.npz.
    """
    image, options = run.data.whole_image, sampling_options(run.config)
    noised, reconstructed, rows = reconstructions(model, image, **options)
    varied = variations(model, image, **options)
    wide = wider_samples(model, run.config, image.shape)
    with whole_file(run.dir / "pictures.npz") as part, open(part, "wb") as file:
        np.savez_compressed(
            file, picture=image, **strips,
            noised=noised, reconstructed=reconstructed, variations=varied, wide=wide,
        )  # fmt: skip
    write_table(rows, run.dir / "reconstruction.csv")
    reconstruction = figures.image_table(
        [[image, *noised], [None, *reconstructed]],
        column_titles=["the image", *(f"t = {t:g}" for t in LEVELS)],
        row_titles=["noised", "reconstructed"],
        notes=[[None, *(note(row, name) for row in rows)] for name in ("noised", "reconstructed")],
    )
    figures.save(reconstruction, run.dir / "reconstruction.png")
    table = figures.image_table(
        varied,
        column_titles=[f"noise {number + 1}" for number in range(VARIATIONS)],
        row_titles=[f"from t = {t:g}" for t in VARIED],
    )
    figures.save(table, run.dir / "variations.png")
    images.save_png(run.dir / "other_size.png", images.grid(wide, columns=1))
    figures.restoration_curves(run.dir / "history.csv", run.dir / "quality.png", WATCHED)


def note(row, name):
    """Returns PSNR and SSIM of "noised" or "reconstructed" in a row of `reconstructions`."""
    return f"PSNR {row[f'{name}_psnr']:.1f} dB\nSSIM {row[f'{name}_ssim']:.2f}"


def sampling_options(config):
    """Returns the arguments that `generate` and `img2img` take from a Config, a dict."""
    return {**build.sampling_options(config, num_classes=0), "seed": config.seed}
