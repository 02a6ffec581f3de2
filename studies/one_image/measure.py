"""The trainings, reconstructions from noise, and Gaussian blurs to compare them with."""

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

IMAGES = "pictures.npz"  # of a run: all images that it generates
BLURS = 40  # that are tried, with sigma from half a pixel to the longer side, almost the mean


def measure(settings, stages, data_dir):
    """Returns {"trainings": [...], "blur": [...]}; see `train` and `blur`."""
    lengths = [{"minutes": minutes} for minutes in settings.minutes]
    if settings.epochs:
        lengths = [{"epochs": settings.epochs}]
    trainings = []
    for index, length in enumerate(lengths):
        options = {**settings.options, **length, "image": settings.image, "seed": settings.seed}
        config = resolve("one_image", options)
        name = f"training-{index + 1}"
        run_dir = runs.folder(name, stages)
        result = stages.run(name, lambda _, run=(config, run_dir): train(*run))
        trainings.append({"stage": name, **length, **result})
    image = np.load(run_dir / IMAGES)["picture"]
    return {"trainings": trainings, "blur": blur(image, settings.seed)}


def train(config, run_dir):
    """Trains, see `runs.train`.

    Returns:
        dict of `curve` (for each epoch: minutes, psnr, ssim), `table` (see
        `training.single_image.reconstructions`), `from_noise` (for each image generated from
        noise alone: its PSNR against the image), `crops` (seen in training), `size`, `crop_size`.
    """
    batches = runs.train(config, run_dir)
    config = resumed(run_dir, {})  # with what the data decided
    arrays = np.load(run_dir / IMAGES)
    image, from_noise = arrays["picture"], arrays["variations"][-1]
    curve = [
        {name: row[name] for name in ("minutes", "psnr", "ssim")}
        for row in _rows(run_dir / "history.csv")
    ]
    return {
        "curve": curve,
        "table": _rows(run_dir / "reconstruction.csv"),
        "from_noise": restoration.compare(from_noise, image)["psnr"].tolist(),
        "crops": batches * min(config.batch_size, config.limit or CROPS),
        "size": image.shape[:2],
        "crop_size": config.crop_size,
    }


def _rows(path):
    """Reads a CSV file of numbers."""
    with open(path, newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def blur(image, seed):
    """Finds the Gaussian blur of the noised image with the highest PSNR, at each noise level.

    Returns:
        For each of `training.single_image.LEVELS` a dict of t, sigma (pixels), psnr (dB) and ssim.
    """
    codec, rows = PixelCodec(), []
    sigmas = np.geomspace(0.5, max(image.shape[:2]), BLURS)
    x0 = codec.encode(tf.constant(image[None]))
    eps = image_noise(tf.constant(seed), tf.range(1), image.shape, 0)
    schedule = SCHEDULES[resolve("one_image").schedule]
    for t in single_image.LEVELS:
        level = rates(schedule, t)
        unscaled = (mix((x0, eps), level) / level[0])[0].numpy()
        blurred = [gaussian_filter(unscaled, (sigma, sigma, 0)) for sigma in sigmas]
        scores = restoration.compare(codec.decode(tf.stack(blurred)), image)
        best = int(np.argmax(scores["psnr"]))
        rows.append({"t": t, "sigma": float(sigmas[best])})
        rows[-1].update({name: float(values[best]) for name, values in scores.items()})
    return rows
