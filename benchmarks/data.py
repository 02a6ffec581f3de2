"""The images of all measurements, as uint8 .npy files that every framework can read.

MNIST as it is, and Oxford Flowers cropped and resized to 64x64, read by keras_diffusion's own
data module in a process of its own (TensorFlow Datasets downloads what is not there), so that
the peers' processes never load TensorFlow. Held-out images are the test split of MNIST and a
fifth of each of the three official splits of Flowers.
"""

from pathlib import Path

import numpy as np

from benchmarks import runs, subjects

CACHE = runs.Options.cache
DATASETS = {"mnist": {"name": "mnist"}, "flowers": {"name": "oxford_flowers102", "image_size": 64}}
PARTS = ("train", "test")
TINY_COUNTS = {"train": 256, "test": 128}
TINY_CLASSES = 4


def ensure(task, data_dir=None, tiny=False, cache=CACHE):
    """Makes the files of a task unless they are there.

    Args:
        task: "mnist" or "flowers".
        data_dir: where tfds keeps its data sets; None is tfds' own folder.
        tiny: made-up images instead, few and small.
        cache: folder of the files.

    Raises:
        runs.RunFailed: the data set is not there and cannot be downloaded; one line.
    """
    if all(path.exists() for part in PARTS for path in _paths(cache, task, part, tiny)):
        return
    Path(cache).mkdir(parents=True, exist_ok=True)
    if tiny:
        for part in PARTS:
            _write(cache, task, part, tiny, *_made_up(task, part))
        return
    where = None if data_dir is None else str(data_dir)
    runs.in_fresh_process("data.prepare", task=task, data_dir=where, cache=str(cache))


def load(task, part="train", tiny=False, cache=CACHE):
    """Returns (images uint8 (N, H, W, C), labels int64 (N,)) of "train" or "test"."""
    return tuple(np.load(path) for path in _paths(cache, task, part, tiny))


def prepare(task, data_dir, cache):
    """Reads a data set with TensorFlow and writes its files; in a fresh process."""
    from keras_diffusion import data
    from keras_diffusion.data import pipeline

    options = dict(DATASETS[task])
    source = data.load_source(**options, data_dir=data_dir, horizontal_flip=False).source
    shape = subjects.image_shape(task)
    counts = {}
    for part, images, count in (
        ("train", source.train, source.num_train),
        ("test", source.validation, source.num_val),
    ):
        arrays = pipeline.read(pipeline.prepared(images, *shape), count)
        _write(cache, task, part, False, arrays["image"], arrays["label"])
        counts[part] = count
    return counts


def _paths(cache, task, part, tiny):
    stem = f"{'tiny-' if tiny else ''}{task}-{part}"
    return [Path(cache) / f"{stem}-{kind}.npy" for kind in ("images", "labels")]


def _write(cache, task, part, tiny, images, labels):
    from keras_diffusion.runtime.files import whole_file

    for path, array in zip(_paths(cache, task, part, tiny), (images, labels), strict=True):
        with whole_file(path) as unfinished:
            np.save(unfinished, array)


def _made_up(task, part):
    """A few images of bright squares, one place for each class, on noise."""
    count = TINY_COUNTS[part]
    height, width, channels = subjects.image_shape(task, tiny=True)
    generator = np.random.default_rng(PARTS.index(part))
    images = generator.integers(0, 64, (count, height, width, channels))
    labels = generator.integers(0, TINY_CLASSES, count)
    for image, label in zip(images, labels, strict=True):
        top, left = (label // 2) * height // 2, (label % 2) * width // 2
        image[top : top + height // 2, left : left + width // 2] += 180
    return images.astype("uint8"), labels
