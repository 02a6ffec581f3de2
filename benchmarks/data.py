"""The images of all measurements, as uint8 .npy files that every framework can read.

MNIST as it is, and Oxford Flowers cropped and resized to 64x64, read by keras_diffusion's own data
module in a separate process (TensorFlow Datasets downloads missing data), so that the processes of
other libraries never load TensorFlow. Held-out images are the test split of MNIST and a fifth of
each of the three official splits of Flowers.
"""

from pathlib import Path

import numpy as np

from benchmarks import runs, subjects

DATASETS = {"mnist": {"name": "mnist"}, "flowers": {"name": "oxford_flowers102", "image_size": 64}}
PARTS = ("train", "test")
TINY_COUNTS = {"train": 256, "test": 128}
TINY_CLASSES = 4


def ensure(task, options):
    """Writes the files of a task unless they exist; synthetic images need none.

    Args:
        task: "mnist" or "flowers".
        options: `runs.Options`.

    Raises:
        runs.RunFailed: the data set is missing and cannot be downloaded.
    """
    cache = Path(options.cache)
    if options.tiny or all(path.exists() for part in PARTS for path in _paths(cache, task, part)):
        return
    cache.mkdir(parents=True, exist_ok=True)
    where = {"data_dir": options.data_dir, "cache": str(cache)}
    runs.in_fresh_process("data.prepare", task=task, **where)


def load(task, part, tiny, cache):
    """Returns (images uint8 (N, H, W, C), labels int64 (N,)) of "train" or "test"."""
    if tiny:
        return _synthetic(task, part)
    return tuple(np.load(path) for path in _paths(cache, task, part))


def prepare(task, data_dir, cache):
    """Reads a data set with TensorFlow and writes its files; runs in a fresh process."""
    from keras_diffusion import data
    from keras_diffusion.data import pipeline
    from keras_diffusion.runtime.files import whole_file

    options = {**DATASETS[task], "data_dir": data_dir, "horizontal_flip": False}
    source = data.load_source(**options).source
    splits = (source.train, source.num_train), (source.validation, source.num_val)
    for part, (images, count) in zip(PARTS, splits, strict=True):
        arrays = pipeline.read(pipeline.prepared(images, *subjects.image_shape(task)), count)
        for path, name in zip(_paths(cache, task, part), ("image", "label"), strict=True):
            with whole_file(path) as unfinished:
                np.save(unfinished, arrays[name])
    return {}


def _paths(cache, task, part):
    return [Path(cache) / f"{task}-{part}-{kind}.npy" for kind in ("images", "labels")]


def _synthetic(task, part):
    """Returns a few images of noise with a bright square, at another position for each class."""
    count = TINY_COUNTS[part]
    height, width, channels = subjects.image_shape(task, tiny=True)
    rng = np.random.default_rng(PARTS.index(part))
    images = rng.integers(0, 64, (count, height, width, channels))
    labels = rng.integers(0, TINY_CLASSES, count)
    for image, label in zip(images, labels, strict=True):
        top, left = (label // 2) * height // 2, (label % 2) * width // 2
        image[top : top + height // 2, left : left + width // 2] += 180
    return images.astype("uint8"), labels
