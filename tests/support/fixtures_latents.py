"""A tiny autoencoder, and images that it can learn."""

import keras
import numpy as np

from keras_diffusion import Autoencoder
from keras_diffusion.networks import decoder, encoder


def edge_images(count=64, shape=(16, 16, 3), seed=0):
    """uint8 images of one soft edge between two colours, at any angle and offset."""
    rng = np.random.default_rng(seed)
    height, width, channels = shape
    y, x = np.mgrid[:height, :width][..., None] / height - 0.5
    angles, offsets = rng.uniform(0, 2 * np.pi, (count, 1, 1, 1)), rng.uniform(-0.4, 0.4, count)
    distance = np.cos(angles) * y + np.sin(angles) * x - offsets[:, None, None, None]
    share = 1 / (1 + np.exp(-20 * distance))
    one, other = rng.uniform(0, 255, (2, count, 1, 1, channels))
    return np.rint(share * one + (1 - share) * other).astype("uint8")


def tiny_autoencoder(shape=(16, 16, 3), widths=(16,), latent_channels=4, seed=0, **options):
    """A compiled autoencoder, always with the same weights."""
    keras.utils.set_random_seed(seed)
    halves = {"widths": widths, "latent_channels": latent_channels}
    built = Autoencoder(encoder(shape, **halves), decoder(shape, **halves), seed=seed, **options)
    built.compile(keras.optimizers.AdamW(5e-3, global_clipnorm=1.0))
    return built
