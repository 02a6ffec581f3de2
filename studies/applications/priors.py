"""Priors of small images whose posterior is known: Gaussians and mixtures of them."""

import numpy as np
import tensorflow as tf
from scipy.spatial.distance import cdist
from scipy.special import softmax

from keras_diffusion.diffusion import schedules
from keras_diffusion.diffusion.process import pair_from_x0

SIDE = 8  # pixels
STD = 0.5
SEPARATION = 3.0  # of two modes given the known pixels, in standard deviations


class Mixture:
    """Equally likely Gaussians of images, and their exact denoiser.

    Args:
        covariance: (D, D) of each.
        means: (K, D).
    """

    def __init__(self, covariance, means):
        self.covariance, self.means = covariance, means
        self.variances, self.vectors = np.linalg.eigh(covariance)

    def sample(self, num, rng):
        """Returns (x (num, D), component (num,))."""
        kinds = np.arange(num) % len(self.means)
        normal = rng.normal(size=(num, len(self.variances)))
        root = self.vectors * np.sqrt(np.maximum(self.variances, 0))
        return self.means[kinds] + normal @ root.T, kinds

    def component(self, x):
        """Returns the likeliest component of each x (N, D)."""
        inverse = np.linalg.inv(self.covariance)
        gaps = x[:, None] - self.means
        return np.einsum("nki,ij,nkj->nk", gaps, inverse, gaps).argmin(-1)

    def posterior(self, y, known):
        """Returns (weights (T, K), means (T, K, M), covariance (M, M)) of M missing pixels.

        Args:
            y: (T, D - M), known pixels.
            known: bool (D,).
        """
        inverse = np.linalg.inv(self.covariance[np.ix_(known, known)])
        cross = self.covariance[np.ix_(~known, known)]
        gaps = y[:, None] - self.means[:, known]
        weights = softmax(-0.5 * np.einsum("tki,ij,tkj->tk", gaps, inverse, gaps), axis=-1)
        means = self.means[:, ~known] + gaps @ (cross @ inverse).T
        inside = self.covariance[np.ix_(~known, ~known)] - cross @ inverse @ cross.T
        return weights, means, inside

    def denoiser(self, schedule):
        """Returns (x_t, t) -> (E[x0 | x_t], eps), x_t (N, SIDE, SIDE, 1), t a scalar."""
        vectors = self.vectors.astype("float32")
        means = (self.means @ self.vectors).astype("float32")
        variances = self.variances.astype("float32")

        def denoise(x_t, t):
            signal, noise = level = schedules.rates(schedule, t)
            total = signal**2 * variances + noise**2
            gaps = (tf.reshape(x_t, (-1, 1, SIDE**2)) @ vectors) - signal * means
            weights = tf.nn.softmax(-0.5 * tf.reduce_sum(gaps**2 / total, -1))
            each = means + gaps * (signal * variances / total)
            x0 = tf.reduce_sum(weights[..., None] * each, 1) @ vectors.T
            return pair_from_x0(tf.reshape(x0, tf.shape(x_t)), x_t, level)

        return denoise


def priors(known):
    """Returns {name: `Mixture`}; the two modes are as hard to tell apart for every `known`."""
    places = np.stack(np.indices((SIDE, SIDE)), -1).reshape(-1, 2)
    distances, one = cdist(places, places), np.eye(SIDE**2)
    rough = STD**2 * np.exp(-distances / 3) + 1e-4 * one
    smooth = STD**2 * np.exp(-(distances**2) / 18) + 1e-3 * one
    ring = np.cos(np.linalg.norm(places - (SIDE - 1) / 2, axis=1))
    inverse = np.linalg.inv(rough[np.ix_(known, known)])
    mode = ring * SEPARATION / 2 / np.sqrt(ring[known] @ inverse @ ring[known])
    none = np.zeros((1, SIDE**2))
    return {
        "exponential kernel": Mixture(rough, none),
        "very smooth": Mixture(smooth, none),
        "two modes": Mixture(rough, np.stack([mode, -mode])),
    }
