"""From a source to training and validation batches."""

import dataclasses
import math
import numbers
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_diffusion.data import pipeline, single_image, sources
from keras_diffusion.data.listing import lines_of_skipped
from keras_diffusion.data.sources import Source

SHORT_EPOCH = 8  # batches
SAMPLED = 64  # images whose pixels are examined for the summary
FEW_IMAGES = 100
GREY = 8  # of 255, largest difference of red, green and blue that is grey
DARK = 64  # of 255; 16 bit files that hold 14 bits or less are darker than this
# Mirrored flowers are flowers; mirrored digits, or text in a photo, are not valid images.
FLIPPED = ("oxford_flowers102", "tf_flowers")


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """A source with its training and validation batches.

    Attributes:
        source: `Source`: name, class names, labels, counts.
        image_shape: (height, width, channels) of every batch, of clips with frames * channels.
        steps_per_epoch: int, training batches per epoch.
        horizontal_flip: bool, whether half of the training images are mirrored.
        epoch_batches: function, epoch (int from 0) -> tf.data.Dataset of that epoch's batches.
        validation: tf.data.Dataset, in order and with the remainder.
        whole_image: None, or the single image, uint8 (H, W, C), that all images are crops of.
        repeats: int, passes over the images in each epoch, see `repeated`.
    """

    source: Source
    image_shape: tuple
    steps_per_epoch: int
    horizontal_flip: bool
    epoch_batches: Callable
    validation: tf.data.Dataset
    whole_image: np.ndarray | None = None
    repeats: int = 1

    @property
    def frames(self):
        """int: frames of each clip; 1: images."""
        return self.source.frames

    @property
    def channels(self):
        """int: channels of an image, or of a frame."""
        return self.image_shape[-1] // self.frames

    def repeated(self, repeats, batch_size):
        """Returns the same data with `repeats` passes in each epoch.

        Args:
            repeats: int; None: 1, or with fewer images than a batch has as many as fill
                `SHORT_EPOCH` batches: validation, checkpoints and previews of an epoch take
                longer than a step.
            batch_size: int, that of the batches.
        """
        images = self.source.num_train
        if repeats is None:
            repeats = 1 if images >= batch_size else -(-SHORT_EPOCH * batch_size // images)
        images = min(images, self.steps_per_epoch * batch_size)  # without the remainder
        return dataclasses.replace(
            self,
            repeats=repeats,
            steps_per_epoch=pipeline.steps_per_epoch(repeats * images, batch_size),
            epoch_batches=pipeline.repeated(self.epoch_batches, repeats, images, batch_size),
        )

    def training_batches(self, first_epoch=0, first_step=0):
        """Infinite batches from a step of an epoch on; `fit` needs steps_per_epoch."""
        return pipeline.endless(self.epoch_batches, first_epoch, first_step)

    @property
    def summary(self):
        """str: a table of the splits, notes, and the files that are not used, by reason."""
        source = self.source
        height, width, channels = *self.image_shape[:2], self.channels
        clips = f"clips of {self.frames} frames of " if self.frames > 1 else ""
        classes = f"{source.num_classes} classes" if source.num_classes else "no labels"
        lines = [f"{source.name}: {clips}{height}x{width}x{channels}, {classes}"]
        lines += [f"note: {note}" for note in self._notes()]
        if self.whole_image is None:
            lines.append(str(source.table))
        else:
            lines.append(f"per epoch {source.num_train} {source.train_split}")
        return "\n".join([*lines, *lines_of_skipped(source.skipped)])

    def _notes(self):
        """Lines about what degrades the images without an error."""
        notes = [*self.source.notes(self.channels)]
        shape = None if self.whole_image is not None else self.image_shape
        notes += examine(self.source.train, self.channels, shape, self.frames)
        if shape and self.source.num_train < FEW_IMAGES:
            notes.append(
                f"only {self.source.num_train} training images: samples will be copies of them; "
                "more images, or --horizontal-flip, help"
            )
        return notes


def examine(dataset, channels, shape=None, frames=1):
    """Lines about the pixels of some images: greys stored in colour, darkness, cropping, scale.

    Args:
        dataset: tf.data.Dataset of {"image": uint8 (H, W, C)}; the first `SAMPLED` are read.
        channels: int, those of the training.
        shape: (height, width, ...) that they are cropped and resized to, or None.
        frames: int, of each clip, of which the first is examined; 1: images.
    """
    grey, dark, kept, scales = [], [], [], []
    for example in dataset.take(SAMPLED).as_numpy_iterator():
        image = example["image"][..., : example["image"].shape[-1] // frames]
        side, (height, width) = max(1, max(image.shape) // 64), image.shape[:2]
        color = np.asarray(
            pipeline.convert_channels(tf.constant(image[::side, ::side]), 3), dtype=int
        )
        grey.append(np.ptp(color, axis=-1).max() <= GREY)
        dark.append(color.max() < DARK)
        if shape:
            scale = max(shape[0] / height, shape[1] / width)
            scales.append(scale)
            kept.append(shape[0] * shape[1] / (height * width * scale**2))
    notes = []
    if channels >= 3 and np.mean(grey) >= 0.95:
        notes.append(
            f"{np.mean(grey):.0%} of the images are grey (of {len(grey)} examined), and samples "
            "in colour will have coloured specks; --channels 1 trains on grey"
        )
    if np.mean(dark) >= 0.05:
        notes.append(
            f"{np.mean(dark):.0%} of the images are nearly black, below {DARK} of 255 (of "
            f"{len(dark)} examined); rescale files of 16 bit that hold fewer bits, or floats"
        )
    if shape and np.mean(kept) < 0.6:
        notes.append(
            f"on average {1 - np.mean(kept):.0%} of each image is cut off by the crop to "
            f"{shape[0]}x{shape[1]}; --image-size HEIGHTxWIDTH takes their shape"
        )
    if shape and np.mean(scales) > 1.5:
        notes.append(
            f"images are enlarged {np.mean(scales):.1f} times on average, which adds no detail; "
            "a smaller --image-size trains faster"
        )
    return notes


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """How the images of a source become batches.

    Args:
        image_size: int or (height, width), pixels; None keeps the size of the data. A single
            image keeps its aspect ratio, and is reduced to fit into this size.
        channels: 1, 3 or 4; None keeps the channels of the data.
        limit: int, train on the first N images only (of a single image: N crops per epoch);
            None on all.
        labels: False removes the labels.
        balance: "classes" trains on every class equally often; None on every image once.
        horizontal_flip: bool, mirror half of the training images; None: only those of Flowers.
        batch_size: int.
        seed: int, of the order and the flips. The split of a folder does not depend on it, so
            that runs with different seeds compare.

    Raises:
        ValueError: an option out of range.
    """

    image_size: int | tuple | None = None
    channels: int | None = None
    limit: int | None = None
    labels: bool = True
    balance: str | None = None
    horizontal_flip: bool | None = None
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self):
        for name, minimum in (("batch_size", 1), ("limit", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ValueError(f"{name} must be at least {minimum}, not {value}")
        if self.balance not in (None, "classes"):
            raise ValueError(f"unknown balance {self.balance!r}; choose 'classes' or None")
        if self.channels not in (None, 1, 3, 4):
            raise ValueError(f"channels must be 1, 3 or 4, not {self.channels}")
        object.__setattr__(self, "image_size", as_size(self.image_size, "image_size"))

    @property
    def order(self):
        """The options that determine the order and the flips of epochs, a dict."""
        return {"seed": self.seed, "horizontal_flip": bool(self.horizontal_flip)}


def load(name=None, *, batch_size=64, seed=0, **options):
    """Training and validation batches of a data set, ready for `model.fit`.

    Args:
        name: "digits" (in scikit-learn) or an image data set of tfds; or use `folder`.
        batch_size: int.
        seed: int; the order of the k-th epoch is a function of it and k only.
        **options: of `load_source`: `folder`, `image`, `image_size`, `crop_size`, `data_dir`,
            `train_split`, `val_split`, `frames`, `balance`, `horizontal_flip`, `channels`,
            `limit`, `labels`.

    Returns:
        `(train, validation)`, two tf.data.Datasets of {"image": uint8 (B, H, W, C), "label":
        int64 (B,)}, without "label" if there are no classes; validation also has "index",
        int64 (B,), see `pipeline.validation_batches`. Each complete iteration of `train` is the
        next epoch, in another order, and so is each of `train.take(n)`. Validation is never
        shuffled.

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
    crop_size=None,
    data_dir=None,
    train_split=None,
    val_split=None,
    frames=1,
    **options,
):
    """Loads a data set: batches, labels, class names, counts.

    Args:
        name: "digits", "moving_mnist" or an image data set of tfds, such as "mnist".
        folder: instead of a name, a folder of images or clips; its sub-folders are the classes.
        image: instead of a name, a single image, to train on random crops of it: its file, or
            "flower" or "china" of scikit-learn.
        crop_size: int or (height, width) of the crops of a single image, at most its own size;
            None: three quarters of its sides.
        data_dir: folder of the prepared or downloaded tfds data sets; None is
            ~/tensorflow_datasets.
        train_split: a tfds slicing string; requires val_split.
        val_split: likewise.
        frames: int, of each clip of a folder or of "moving_mnist"; 1: images. A clip is an image
            with frames * channels channels: channel c of frame f is channel f * channels + c.
        **options: `image_size`, `batch_size`, `balance`, `horizontal_flip`, `channels`, `limit`,
            `seed`, `labels`; see `BatchOptions`.

    Returns:
        `TrainingData`.

    Raises:
        ValueError: an argument out of range, an unknown data set or split, or images of several
            sizes without image_size.
        FileNotFoundError: a missing folder or image, or a data set that cannot be downloaded.
    """
    options = BatchOptions(**options)
    crop_size = as_size(crop_size, "crop_size")
    if (name, folder, image).count(None) != 2:
        raise ValueError("give either the name of a data set, a folder or an image")
    if crop_size and image is None:
        raise ValueError("crop_size is for a single image; data sets and folders have image_size")
    if (train_split or val_split) and name in (None, "digits", "moving_mnist"):
        raise ValueError(
            "--train-split and --val-split are for tfds data sets; digits and folders are split "
            "80/20, moving_mnist as MNIST is, a single image is not split"
        )
    if frames > 1 and folder is None and name != "moving_mnist":
        raise ValueError("--frames is for clips; only folders and moving_mnist have these")
    if frames > 1 and options.channels == 4:
        raise ValueError("--channels must be 1 or 3 for clips, which are shown over white")
    if image is not None:
        return from_image(image, crop_size, options)
    if folder is not None:
        return from_source(sources.folder(folder, frames=frames), options)
    if name == "digits":
        return from_source(sources.digits(), options)
    if name == "moving_mnist":
        small = options.image_size is not None and max(options.image_size) <= 32
        side, num_digits = (32, 1) if small else (64, 2)
        return from_source(sources.moving_mnist(frames, side, num_digits, data_dir), options)
    return from_source(sources.tfds(name, data_dir, train_split, val_split), options)


def from_source(source, options):
    """Returns the `TrainingData` of a `Source`, by `BatchOptions`.

    The images are held in memory if all of them fit, resized, into `pipeline.MEMORY_LIMIT`.
    """
    source = _selected(source, options)
    size, channels = options.image_size or _common_size(source), options.channels or source.channels
    shape = (*size, source.frames * channels)
    if options.horizontal_flip is None:
        options = dataclasses.replace(options, horizontal_flip=source.name in FLIPPED)
    train, validation = (
        pipeline.prepared(data, *size, channels, source.frames)
        for data in (source.train, source.validation)
    )
    size = (source.num_train + source.num_val) * math.prod(shape)
    if size <= pipeline.MEMORY_LIMIT:
        train = pipeline.read(train, source.num_train)
        validation = pipeline.read(validation, source.num_val)
        if source.labels:  # so that they need not be read again
            labels = train["label"], validation["label"]
            source = dataclasses.replace(source, labels=lambda: labels)
        epoch_batches = pipeline.batches_in_memory(
            train, options.batch_size, balance=options.balance, **options.order
        )
    elif options.balance:
        raise ValueError(
            f"balance='classes' needs the images in memory: {size / 2**30:.1f} GiB, and the "
            f"limit is {pipeline.MEMORY_LIMIT / 2**30:.1f} GiB; choose a smaller --image-size"
        )
    else:
        epoch_batches = pipeline.batches_from_stream(
            train, source.num_train, options.batch_size, **options.order
        )
    if source.labels:
        _ = source.known_labels  # raises now if they are withheld
    return TrainingData(
        source,
        shape,
        pipeline.steps_per_epoch(source.num_train, options.batch_size),
        bool(options.horizontal_flip),
        epoch_batches,
        pipeline.validation_batches(validation, options.batch_size),
    )


def from_image(image, crop_size, options):
    """Returns the `TrainingData` of random crops of a single image.

    Args:
        image: as in `single_image.read`.
        crop_size: (height, width), or None for three quarters of the sides.
        options: `BatchOptions`.
    """
    pixels = single_image.read(image)
    size = single_image.reduced_size(pixels.shape[:2], options.image_size)
    channels = options.channels or pixels.shape[-1]
    pixels = pipeline.convert_channels(pipeline.resize(pixels, *size), channels).numpy()
    crop_size = single_image.choose_crop_size(size, crop_size)
    source = _selected(single_image.make_source(image, pixels, crop_size), options)
    return TrainingData(
        source,
        (*crop_size, channels),
        pipeline.steps_per_epoch(source.num_train, options.batch_size),
        bool(options.horizontal_flip),
        single_image.batches(
            pixels, crop_size, source.num_train, options.batch_size, **options.order
        ),
        single_image.validation(pixels, crop_size, options.batch_size),
        pixels,
    )


def as_size(size, name):
    """Returns a size as (height, width), or None; raises ValueError for anything else."""
    if size is None:
        return None
    pair = tuple(size) if isinstance(size, tuple | list | np.ndarray) else (size,) * 2
    integers = [isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in pair]
    if len(pair) != 2 or not all(integers) or min(pair) < 1:
        raise ValueError(
            f"{name} must be at least 1 pixel, one int or (height, width), not {size!r}"
        )
    return tuple(map(int, pair))


def _selected(source, options):
    """The source with the labels and the number of training images of the options."""
    source = source if options.labels else source.unlabelled()
    source = source if options.limit is None else source.limited(options.limit)
    if options.balance and not source.num_classes:
        raise ValueError(f"balance='classes' needs labels, and {source.name!r} has none")
    return source


def _common_size(source):
    """(height, width) of all images of a source."""
    if None not in source.image_shape[:2]:
        return source.image_shape[:2]
    sizes = set()
    for data in (source.train, source.validation):
        shapes = data.map(lambda example: tf.shape(example["image"])[:2], tf.data.AUTOTUNE)
        sizes.update(tuple(size.tolist()) for size in shapes.as_numpy_iterator())
        if len(sizes) > 1:
            raise ValueError(f"the images of {source.name!r} differ in size; give --image-size")
    return sizes.pop()
