"""Images for training: `load` for plain `model.fit`, `load_source` for everything around it.

Example:
    >>> train, validation = load("mnist")
    >>> train, validation = load(folder="pictures", image_size=64)
    >>> train, validation = load(image="photo.jpg", image_size=192, crop_size=96)
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_diffusion.data import pipeline, single_image, sources
from keras_diffusion.data.sources import Source

__all__ = ["Source", "TrainingData", "load", "load_source"]

MOST_SKIPPED = 10  # lines about files that were skipped
# Mirrored flowers are flowers; mirrored digits, or text in a photo, are not what they were.
FLIPPED = ("oxford_flowers102", "tf_flowers")


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """A source made ready for training.

    Attributes:
        source: `Source`: name, class names, labels, counts.
        image_shape: (height, width, channels) of every batch.
        steps_per_epoch: int, training batches in an epoch.
        horizontal_flip: bool, whether half of the training images are mirrored.
        epoch_batches: function, epoch (int from 0) -> tf.data.Dataset of that epoch's batches.
        validation: tf.data.Dataset, in order and with the remainder.
        picture: None, or the one picture, uint8 (H, W, C), that all images are crops of.
    """

    source: Source
    image_shape: tuple
    steps_per_epoch: int
    horizontal_flip: bool
    epoch_batches: Callable
    validation: tf.data.Dataset
    picture: np.ndarray | None = None

    def training_batches(self, first_epoch=0, first_step=0):
        """All batches from a step of an epoch on, without an end; give `fit` steps_per_epoch."""
        return pipeline.endless(self.epoch_batches, first_epoch, first_step)

    @property
    def summary(self):
        """str: a table of the splits, and the files that were skipped."""
        source = self.source
        height, width, channels = self.image_shape
        classes = f"{source.num_classes} classes" if source.num_classes else "no labels"
        lines = [f"{source.name}: {height}x{width}x{channels}, {classes}", str(source.table)]
        if self.picture is not None:
            lines[1:] = [f"in an epoch {source.num_train} {source.train_split}"]
        if source.skipped:
            files = "file" if len(source.skipped) == 1 else "files"
            lines.append(f"skipped {len(source.skipped)} {files}:")
            lines += [f"  {file}" for file in source.skipped[:MOST_SKIPPED]]
            if len(source.skipped) > MOST_SKIPPED:
                lines.append(f"  and {len(source.skipped) - MOST_SKIPPED} more")
        return "\n".join(lines)


def load(name=None, *, batch_size=64, seed=0, **options):
    """Training and validation batches of a data set, ready for `model.fit`.

    Args:
        name: "digits" (in scikit-learn) or an image data set of tfds; or use `folder`.
        batch_size: int.
        seed: int; the order of the k-th epoch depends on it and on k, on nothing else.
        **options: `folder`, `image`, `image_size`, `crop_size`, `data_dir`, `train_split`,
            `val_split`, `balance`, `horizontal_flip`, `channels`, `limit`, `labels`, as
            `load_source` explains.

    Returns:
        `(train, validation)`, two tf.data.Datasets of {"image": uint8 (B, H, W, C), "label":
        int64 (B,)}, without "label" when there are no classes; validation also has "index",
        int64 (B,), see `pipeline.validation_batches`. Each complete iteration of
        `train` is the next epoch, in another order. Validation is never shuffled.

    Raises:
        ValueError, FileNotFoundError: as `load_source`.

    Example:
        >>> train, validation = load("mnist", batch_size=128)
        >>> model.fit(train, validation_data=validation, epochs=50)
    """
    data = load_source(name, batch_size=batch_size, seed=seed, **options)
    train = pipeline.one_epoch_per_iteration(data.epoch_batches, data.steps_per_epoch)
    return train, data.validation


def load_source(
    name=None,
    *,
    folder=None,
    image=None,
    image_size=None,
    crop_size=None,
    batch_size=64,
    data_dir=None,
    train_split=None,
    val_split=None,
    balance=None,
    horizontal_flip=None,
    channels=None,
    limit=None,
    seed=0,
    labels=True,
):
    """A data set together with what a training script tells and asks about it.

    Args:
        name: "digits" or an image data set of tfds, such as "mnist".
        folder: instead of a name, a folder of pictures; its sub-folders are the classes.
        image: instead of a name, one picture: its file, or "flower" or "china" of scikit-learn.
            It is trained on in random crops.
        image_size: int or (height, width), pixels; None keeps the size of the data. One picture
            keeps its shape, and is reduced to fit into this size.
        crop_size: of the crops of one picture, like image_size, at most its own size; None:
            three quarters of its sides.
        batch_size: int.
        data_dir: where tfds data sets lie or are downloaded to; None is ~/tensorflow_datasets.
        train_split: a tfds slicing string; needs val_split too.
        val_split: likewise.
        balance: "classes" trains on every class equally often; None on every image once.
        horizontal_flip: bool, mirror half of the training images; None: only Flowers.
        channels: 1, 3 or 4; None keeps the channels of the data.
        limit: int, train on the first N images only (of one picture: N crops in an epoch); None
            on all.
        seed: int, of the order and the flips (a folder's split does not depend on it, so
            that runs with other seeds compare).
        labels: False leaves the labels out.

    Returns:
        `TrainingData`.

    Raises:
        ValueError: for an argument out of range, an unknown data set or split, or images of
            several sizes without image_size.
        FileNotFoundError: for a missing folder or picture, or a data set that cannot be
            downloaded.
    """
    _check_numbers(batch_size=(batch_size, 1), limit=(limit, 1), seed=(seed, 0))
    if balance not in (None, "classes"):
        raise ValueError(f"unknown balance {balance!r}; choose 'classes' or None")
    if channels not in (None, 1, 3, 4):
        raise ValueError(f"channels must be 1, 3 or 4, not {channels}")
    size, crop = _checked_size(image_size), _checked_size(crop_size, "crop_size")
    if crop and image is None:
        raise ValueError("crop_size is for one image; data sets and folders have image_size")
    picture = None if image is None else _picture(image, size, channels)
    if picture is not None:
        size = single_image.crop_of(picture.shape[:2], crop)
    source = _source(name, folder, image, picture, size, data_dir, train_split, val_split)
    source = source if labels else source.unlabelled()
    source = source if limit is None else source.limited(limit)
    if balance and not source.num_classes:
        raise ValueError(f"balance='classes' needs labels, and {source.name!r} has none")
    shape = (*(size or _own_size(source)), channels or source.image_shape[-1])
    if horizontal_flip is None:
        horizontal_flip = source.name in FLIPPED
    options = {"seed": seed, "horizontal_flip": horizontal_flip}
    if picture is None:
        source, epochs, validation = _batches(source, shape, batch_size, balance, options)
    else:
        epochs = single_image.batches(picture, size, source.num_train, batch_size, **options)
        validation = single_image.validation(picture, size, batch_size)
    steps = pipeline.steps_per_epoch(source.num_train, batch_size)
    return TrainingData(source, shape, steps, horizontal_flip, epochs, validation, picture)


def _check_numbers(**numbers):
    for name, (given, least) in numbers.items():
        if given is not None and given < least:
            raise ValueError(f"{name} must be at least {least}, not {given}")


def _picture(image, box, channels):
    """One picture, reduced to fit into a box: uint8 (H, W, C)."""
    pixels = single_image.read(image)
    size = single_image.reduced_size(pixels.shape[:2], box)
    return pipeline.convert_channels(
        pipeline.resize(pixels, *size), channels or pixels.shape[-1]
    ).numpy()


def _batches(source, shape, batch_size, balance, options):
    """(source, epoch_batches, validation), from memory if all resized images fit."""
    train, validation = (
        pipeline.prepared(data, *shape) for data in (source.train, source.validation)
    )
    size = (source.num_train + source.num_val) * math.prod(shape)
    if size <= pipeline.MEMORY_LIMIT:
        arrays = pipeline.read(train, source.num_train)
        validation = pipeline.read(validation, source.num_val)
        if source.labels:  # they are at hand now: nothing has to be read for them
            known = arrays["label"], validation["label"]
            source = dataclasses.replace(source, labels=lambda: known)
        epochs = pipeline.batches_in_memory(arrays, batch_size, balance=balance, **options)
    elif balance:
        raise ValueError(
            f"balance='classes' needs the images in memory: {size / 2**30:.1f} GiB, and the "
            f"limit is {pipeline.MEMORY_LIMIT / 2**30:.1f} GiB; choose a smaller --image-size"
        )
    else:
        epochs = pipeline.batches_from_stream(train, source.num_train, batch_size, **options)
    if source.labels:
        _ = source.known_labels  # withheld ones are refused now
    return source, epochs, pipeline.validation_batches(validation, batch_size)


def _source(name, folder, image, picture, crop, data_dir, train_split, val_split):
    if (name, folder, image).count(None) != 2:
        raise ValueError("give either the name of a data set, a folder or an image")
    if name not in (None, "digits"):
        return sources.tfds(name, data_dir, train_split, val_split)
    if train_split or val_split:
        raise ValueError(
            "--train-split and --val-split are for tfds data sets; digits and folders are cut "
            "80/20, one image is not split"
        )
    if image is not None:
        return single_image.source(image, picture, crop)
    return sources.folder(folder) if folder is not None else sources.digits()


def _own_size(source):
    """(height, width) that all images share."""
    if None not in source.image_shape[:2]:
        return source.image_shape[:2]
    sizes = set()
    for data in (source.train, source.validation):
        shapes = data.map(lambda example: tf.shape(example["image"])[:2], tf.data.AUTOTUNE)
        sizes.update(tuple(size.tolist()) for size in shapes.as_numpy_iterator())
        if len(sizes) > 1:
            raise ValueError(f"the images of {source.name!r} differ in size; give --image-size")
    return sizes.pop()


def _checked_size(size, name="image_size"):
    """A size as (height, width), or None."""
    if size is None:
        return None
    pair = tuple(size) if isinstance(size, (tuple, list)) else (size,) * 2
    if len(pair) != 2 or not all(isinstance(pixels, int) and pixels >= 1 for pixels in pair):
        raise ValueError(
            f"{name} must be at least 1 pixel, one int or (height, width), not {size!r}"
        )
    return pair
