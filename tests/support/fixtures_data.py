"""Real data sets for the data tests, where a checkout has them."""

import os
import pathlib

import numpy as np
import pytest
from PIL import Image

DATA_DIR = pathlib.Path(
    os.environ.get("KERAS_DIFFUSION_DATA")
    or pathlib.Path(__file__).resolve().parents[2] / ".." / "shared" / "tfds"
)


def needs(name):
    """Skips a test when the prepared data set `name` is missing."""
    missing = not (DATA_DIR / name).is_dir()
    return pytest.mark.skipif(missing, reason=f"no {name} in {DATA_DIR} (KERAS_DIFFUSION_DATA)")


def save_image(path, mode="RGB", size=(10, 8), seed=0, **options):
    """Writes a random image, size (width, height), and returns its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], *channels), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def class_folder(root, counts, **options):
    """A folder with a class "a", "b", ... of counts[0], counts[1], ... images."""
    for label, count in enumerate(counts):
        for i in range(count):
            save_image(root / "abcdefgh"[label] / f"{i}.png", seed=100 * label + i, **options)
    return root
