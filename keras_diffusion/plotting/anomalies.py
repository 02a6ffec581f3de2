"""Anomaly maps as images (numpy alone)."""

import numpy as np

from keras_diffusion.plotting.images import over_white

# Dark blue, purple, red, yellow, white: brighter is more abnormal, also in grey.
COLOURS = np.array([[0, 0, 30], [90, 10, 110], [210, 40, 60], [255, 190, 60], [255, 255, 255]])
QUANTILES = 0.05, 0.998  # of all pixels, the ends of the colours
STRENGTH = 0.75  # of the colour over an image


def limits(maps):
    """Returns (low, high), the values of the first and the last colour for all of `maps`."""
    low, high = np.quantile(maps, QUANTILES)
    return low, max(high, low + 1e-6)


def heat(maps, ends):
    """Returns uint8 (N, H, W, 3), the colours of maps (N, H, W) between the values `ends`."""
    low, high = ends
    shares = np.clip((maps - low) / (high - low), 0, 1)
    knots = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(shares, knots, channel) for channel in COLOURS.T]
    return np.stack(channels, axis=-1).round().astype("uint8")


def overlay(images, maps, ends):
    """Returns uint8 (N, H, W, 3): images (N, H, W, C) in grey, abnormal parts in red.

    Args:
        maps: (N, H, W).
        ends: as from `limits`; below the middle nothing is coloured.
    """
    grey = over_white(images).mean(-1, keepdims=True)
    low, high = ends
    shares = np.clip(2 * (maps - low) / (high - low) - 1, 0, 1)[..., None] * STRENGTH
    return (grey * (1 - shares) + np.array([255, 0, 0]) * shares).round().astype("uint8")
