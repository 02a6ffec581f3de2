"""The trainings, what comes back from noise, and what a blur would do."""

import csv

import numpy as np
import tensorflow as tf
from scipy.ndimage import gaussian_filter

from keras_diffusion.config.resolve import resolve, resumed
from keras_diffusion.data.single_image import CROPS
from keras_diffusion.diffusion.process import mix
from keras_diffusion.diffusion.schedules import SCHEDULES, rates
from keras_diffusion.evaluation import restoration
from keras_diffusion.models.codecs import PixelCodec
from keras_diffusion.runtime.randomness import image_noise
from keras_diffusion.training import single_image
from studies import runs

PICTURES = "pictures.npz"  # of a run: all that it draws
BLURS = 40  # that are tried, from a sigma of half a pixel to the longer side: little but the mean


def measure(settings, kept, data_dir):
    """Returns {"trainings": [...], "blur": [...]}; see `trained` and `blurred`."""
    lengths = [{"minutes": minutes} for minutes in settings.minutes]
    if settings.epochs:
        lengths = [{"epochs": settings.epochs}]
    trainings = []
    for number, length in enumerate(lengths):
        options = {**settings.options, **length, "image": settings.image, "seed": settings.seed}
        config = resolve("one_image", options)
        name = f"training-{number + 1}"
        run_dir = runs.folder(name, kept)
        found = kept.stage(name, lambda _, run=(config, run_dir): trained(*run))
        trainings.append({"stage": name, **length, **found})
    picture = np.load(run_dir / PICTURES)["picture"]
    return {"trainings": trainings, "blur": blurred(picture, settings.seed)}


def trained(config, run_dir):
    """Trains, see `runs.train`.

    Returns:
        dict of `curve` (for each epoch: minutes, psnr, ssim), `table` (see
        `one_image.reconstructions`), `from_noise` (for each picture drawn from noise alone:
        its psnr against the picture), `crops` (seen in training), `size`, `crop_size`.
    """
    batches = runs.train(config, run_dir)
    config = resumed(run_dir, {})  # with what the data decided
    pictures = np.load(run_dir / PICTURES)
    picture, from_noise = pictures["picture"], pictures["variations"][-1]
    curve = [
        {name: row[name] for name in ("minutes", "psnr", "ssim")}
        for row in _rows(run_dir / "history.csv")
    ]
    return {
        "curve": curve,
        "table": _rows(run_dir / "reconstruction.csv"),
        "from_noise": restoration.compare(from_noise, picture)["psnr"].tolist(),
        "crops": batches * min(config.batch_size, config.limit or CROPS),
        "size": picture.shape[:2],
        "crop_size": config.crop_size,
    }


def _rows(path):
    """The rows of a table of numbers."""
    with open(path, newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def blurred(picture, seed):
    """What the best of all Gaussian blurs makes of the noised picture, chosen by the answer.

    Returns:
        For each of `one_image.LEVELS` a dict of t, sigma (pixels), psnr (dB) and ssim.
    """
    codec, rows = PixelCodec(), []
    sigmas = np.geomspace(0.5, max(picture.shape[:2]), BLURS)
    x0 = codec.encode(tf.constant(picture[None]))
    eps = image_noise(tf.constant(seed), tf.range(1), picture.shape, 0)
    schedule = SCHEDULES[resolve("one_image").schedule]
    for t in single_image.LEVELS:
        level = rates(schedule, t)
        unscaled = (mix((x0, eps), level) / level[0])[0].numpy()
        tried = [gaussian_filter(unscaled, (sigma, sigma, 0)) for sigma in sigmas]
        scores = restoration.compare(codec.decode(tf.stack(tried)), picture)
        best = int(np.argmax(scores["psnr"]))
        rows.append({"t": t, "sigma": float(sigmas[best])})
        rows[-1].update({name: float(values[best]) for name, values in scores.items()})
    return rows
