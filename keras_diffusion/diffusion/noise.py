"""Random fields with long and short wavelengths, for anomaly maps (numpy alone).

Arguments of every function in `NOISES`:

    shape: (H, W, C).
    seed, index, draw: ints; the noise depends on these and the shape only.

They return float32 (H, W, C), each channel with mean square 1 (of "gaussian": on average).
"""

import math

import numpy as np

COARSE_CELLS = 7  # of coarse noise, along the shorter side
OCTAVES, PERSISTENCE = 6, 0.8  # of simplex noise, as AnoDDPM
SKEW, UNSKEW = (math.sqrt(3) - 1) / 2, (3 - math.sqrt(3)) / 6


def gaussian(shape, seed, index, draw):
    """Independent normal numbers, what diffusion models are trained with."""
    return _generator(seed, index, draw).standard_normal(shape, dtype="float32")


def coarse(shape, seed, index, draw):
    """Normal numbers on a coarse grid with a random offset, interpolated linearly.

    Reference: Kascenas et al. 2023, arXiv:2301.08330, section 2.2.
    """
    generator = _generator(seed, index, draw)
    cell = min(shape[:2]) / COARSE_CELLS
    field = None
    for axis, size in enumerate(shape[:2]):
        place = generator.random() + np.arange(size) / cell
        first = place.astype(int)
        if field is None:
            cells = [math.ceil(side / cell) + 2 for side in shape[:2]]
            field = generator.standard_normal((*cells, shape[2]))
        share = (place - first).reshape([-1 if a == axis else 1 for a in range(3)])
        field = field.take(first, axis) * (1 - share) + field.take(first + 1, axis) * share
    return _scaled(field)


def simplex(shape, seed, index, draw):
    """Sum of octaves of simplex noise, the longest a quarter of the shorter side.

    Reference: Wyatt et al. 2022, AnoDDPM, CVPR workshops; Perlin 2001 (simplex noise).
    """
    generator = _generator(seed, index, draw)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    channels = []
    for _ in range(shape[2]):
        field = 0
        for octave in range(OCTAVES):
            wavelength = min(shape[:2]) / 4 / 2**octave
            if octave and wavelength < 1:
                break
            places = (axis / wavelength + generator.random() * 256 for axis in (columns, rows))
            angles = generator.random((256, 256)) * (2 * math.pi)
            field = field + PERSISTENCE**octave * _scaled(_simplex_octave(*places, angles))
        channels.append(field)
    return _scaled(np.stack(channels, axis=-1))


NOISES = {"gaussian": gaussian, "coarse": coarse, "simplex": simplex}
ANOMALY_METHODS = (*NOISES, "inversion")  # of `anomaly_map`


def _simplex_octave(x, y, angles):
    """Returns simplex noise at the points (x, y).

    Each corner of a grid of equilateral triangles has a random gradient. A point gets the three of
    its triangle, each times a weight that falls to zero before the next corner.

    Args:
        x, y: arrays of one shape.
        angles: (M, M), directions of the gradients; the grid repeats after M corners.
    """
    skewed = (x + y) * SKEW
    i, j = np.floor(x + skewed), np.floor(y + skewed)
    unskewed = (i + j) * UNSKEW
    is_lower = x - i + unskewed > y - j + unskewed
    total = 0
    for di, dj in ((0, 0), (is_lower, ~is_lower), (1, 1)):
        a, b = i + di, j + dj
        dx, dy = x - a + (a + b) * UNSKEW, y - b + (a + b) * UNSKEW
        angle = angles[a.astype(int) % len(angles), b.astype(int) % len(angles)]
        weight = np.maximum(0.5 - dx**2 - dy**2, 0) ** 4
        total = total + weight * (np.cos(angle) * dx + np.sin(angle) * dy)
    return total


def _scaled(field):
    """Returns a field with a mean square of 1 in each channel."""
    return (field / np.sqrt(np.mean(field**2, axis=(0, 1)))).astype("float32")


def _generator(seed, index, draw):
    return np.random.default_rng([seed % 2**32, index, draw])
