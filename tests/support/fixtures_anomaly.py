"""Digits with pasted strokes, and a model of digits in closed form."""

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from keras_diffusion.diffusion import schedules
from keras_diffusion.models.codecs import PixelCodec
from keras_diffusion.sampling.edit_graph import EditGraph

SHAPE = (8, 8, 1)


def digits():
    """Returns the digits of scikit-learn, uint8 (1797, 8, 8, 1)."""
    return (load_digits().images * 255 / 16).astype("uint8")[..., None]


def with_strokes(images, seed=0):
    """Returns (images with a bright stroke of three pixels each, bool (N, H, W) where it is)."""
    generator = np.random.default_rng(seed)
    marks = np.zeros(images.shape[:3], bool)
    for mark in marks:
        row, column = generator.integers(0, 8), generator.integers(0, 6)
        mark[row, column : column + 3] = True
        if generator.random() < 0.5:
            mark[:] = mark.T
    return np.where(marks[..., None], np.uint8(255), images), marks


class GaussianModel:
    """The denoiser of normally distributed images with the mean and covariance of `images`."""

    name, schedule, prediction_type, num_classes, prompts = "gaussian", "cosine", "v", 0, None
    class_names, image_shape, x_shape, codec, frames = (), SHAPE, SHAPE, PixelCodec(), 1

    def __init__(self, images):
        x = images.reshape(len(images), -1) / 127.5 - 1
        self.mean = x.mean(0).astype("float32")
        variances, vectors = np.linalg.eigh(np.cov(x.T))
        self.variances = np.maximum(variances, 1e-3).astype("float32")
        self.vectors = vectors.astype("float32")
        self.edit_graph = EditGraph(self)

    def denoise(self, x_t, t):
        flat = tf.reshape(x_t, (-1, len(self.mean)))
        signal, noise = (tf.reshape(rate, (-1, 1)) for rate in schedules.rates(schedules.cosine, t))
        gain = signal * self.variances / (signal**2 * self.variances + noise**2)
        x0 = self.mean + ((flat - signal * self.mean) @ self.vectors * gain) @ self.vectors.T
        eps = (flat - signal * x0) / tf.maximum(noise, 1e-4)
        return tf.reshape(x0, tf.shape(x_t)), tf.reshape(eps, tf.shape(x_t))
