"""Starting points of sampling besides garments; all as x, float32 (N, H, W, C) in [-1, 1]."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors


def noisy(x, strength, copies, rng):
    """Returns `copies` of each x in succession, with Gaussian noise of that standard deviation."""
    repeated = np.repeat(x, copies, axis=0)
    return repeated + np.float32(strength) * rng.standard_normal(repeated.shape, "float32")


def averages(x, of, count, rng):
    """Returns `count` averages, each `of` so many different x, chosen at random."""
    chosen = (rng.choice(len(x), of, replace=False) for _ in range(count))
    return np.stack([x[rows].mean(axis=0) for rows in chosen])


class Mixture:
    """A mixture of Gaussians fitted to the principal components of garments.

    Args:
        x: garments to fit to.
        components: number of Gaussians, each with a full covariance.
        dimensions: number of principal components.
        seed: int.

    Attributes:
        kept: share of the variance that the principal components explain.
    """

    def __init__(self, x, components, dimensions, seed):
        self._shape = x.shape[1:]
        self._pca = PCA(dimensions, svd_solver="randomized", random_state=seed)
        self._seed = seed
        # In float32 covariances lose their symmetry.
        codes = self._pca.fit_transform(x.reshape(len(x), -1)).astype("float64")
        self._mixture = GaussianMixture(components, reg_covar=1e-4, random_state=seed).fit(codes)
        self.kept = float(self._pca.explained_variance_ratio_.sum())

    def sample(self, count):
        """Returns new starting points, in random order."""
        codes, _ = self._mixture.sample(count)  # sorted by Gaussian
        return self._decode(np.random.default_rng(self._seed).permutation(codes))

    def project(self, x):
        """Returns x projected on the principal components."""
        return self._decode(self._pca.transform(x.reshape(len(x), -1)))

    def _decode(self, codes):
        pixels = self._pca.inverse_transform(codes)
        return np.clip(pixels, -1, 1).reshape(-1, *self._shape).astype("float32")


def nearest(x, others):
    """Returns the mean RMS distance of each x to the nearest of `others`."""
    flat = [each.reshape(len(each), -1) for each in (others, x)]
    distances, _ = NearestNeighbors(n_neighbors=1).fit(flat[0]).kneighbors(flat[1])
    return float(distances.mean() / flat[0].shape[1] ** 0.5)
