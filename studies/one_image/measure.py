"""The trainings, what comes back from noise, and what a blur would do."""

import csv

import keras
import numpy as np
import tensorflow as tf
from scipy.ndimage import gaussian_filter

from keras_diffusion import build, checkpoints, one_image, training
from keras_diffusion import config as configuration
from keras_diffusion.codecs import PixelCodec
from keras_diffusion.data import load_source
from keras_diffusion.editing import noised
from keras_diffusion.evaluation import restoration
from keras_diffusion.process import mix
from keras_diffusion.randomness import image_noise
from keras_diffusion.schedules import SCHEDULES, rates

STAGES = 5  # of the strips, beside the start
SIGMAS = np.arange(0.5, 12.01, 0.25)  # of the blurs that are tried, in pixels


def measure(settings, kept, data_dir):
    """Returns {"trainings": [...], "blur": [...]}; see `trained` and `blurred`."""
    lengths = [{"minutes": minutes} for minutes in settings.minutes]
    if settings.epochs:
        lengths = [{"epochs": settings.epochs}]
    trainings = []
    for number, length in enumerate(lengths):
        options = {**settings.options, **length, "image": settings.image, "seed": settings.seed}
        config = configuration.resolve("one_image", options)
        name = f"training-{number + 1}"
        found = kept.stage(name, lambda folder, config=config: trained(folder, config))
        trainings.append({"stage": name, **length, **found})
    picture = kept.array(trainings[-1]["stage"], "picture.npy")
    return {"trainings": trainings, "blur": blurred(picture, settings.seed)}


def trained(folder, config):
    """Trains as train.py does; leaves arrays of what it draws.

    Returns:
        dict of `curve` (for each epoch: minutes, psnr, ssim), `table` (see
        `one_image.reconstructions`), `from_noise` (for each picture drawn from noise alone:
        its psnr against the picture), `crops` (seen in training), `size`, `crop_size`.
    """
    run_dir = folder / "run"
    keras.utils.set_random_seed(config.seed)
    training.run(config, run_dir, folder / "export")
    config = configuration.resumed(run_dir, {})  # with what the data decided
    _, model, progress = checkpoints.load(run_dir / "checkpoints")
    names = ("image", "image_size", "crop_size", "channels", "batch_size", "limit")
    data = load_source(**{name: getattr(config, name) for name in names})
    picture, options = data.picture, one_image.drawing(config)
    whole = build.resized(model, config, picture.shape)
    before, after, table = one_image.reconstructions(whole, picture, **options)
    anew = one_image.variations(whole, picture, **options)
    steps = int(model.optimizer.iterations.numpy())
    arrays = {
        "picture": picture,
        "forward": noised(whole, picture[None], np.linspace(0, 1, STAGES + 1), config.seed)[:, 0],
        "backward": whole.generate(2, num_frames=STAGES, **options),
        "noised": before,
        "reconstructed": after,
        "variations": anew,
        "wide": one_image.of_another_size(model, config, picture),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    with open(run_dir / "history.csv", newline="") as file:
        curve = [
            {name: float(row[name]) for name in ("minutes", "psnr", "ssim")}
            for row in csv.DictReader(file)
        ]
    return {
        "curve": curve,
        "table": table,
        "from_noise": restoration.compare(anew[-1], picture)["psnr"].tolist(),
        "crops": steps * min(config.batch_size, data.source.num_train),
        "size": picture.shape[:2],
        "crop_size": config.crop_size,
    }


def blurred(picture, seed):
    """What the best of all Gaussian blurs makes of the noised picture, chosen by the answer.

    Returns:
        For each of `one_image.LEVELS` a dict of t, sigma (pixels), psnr (dB) and ssim.
    """
    codec, rows = PixelCodec(), []
    x0 = codec.encode(tf.constant(picture[None]))
    eps = image_noise(tf.constant(seed), tf.range(1), picture.shape, 0)
    schedule = SCHEDULES[configuration.resolve("one_image").schedule]
    for t in one_image.LEVELS:
        level = rates(schedule, t)
        unscaled = (mix((x0, eps), level) / level[0])[0].numpy()
        tried = [gaussian_filter(unscaled, (sigma, sigma, 0)) for sigma in SIGMAS]
        scores = restoration.compare(codec.decode(tf.stack(tried)), picture)
        best = int(np.argmax(scores["psnr"]))
        rows.append({"t": t, "sigma": float(SIGMAS[best])})
        rows[-1].update({name: float(values[best]) for name, values in scores.items()})
    return rows
