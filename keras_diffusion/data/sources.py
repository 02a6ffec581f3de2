"""Sources of images: scikit-learn's digits, TensorFlow Datasets, a folder; and of clips."""

import dataclasses
import difflib
import functools
import os
import pathlib
import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_diffusion.data import moving_digits, pipeline, splits
from keras_diffusion.data.folder import scan


@dataclasses.dataclass(frozen=True)
class Source:
    """Decoded images of one data set, in a fixed order, not yet resized or batched.

    A clip is an image with frames * C channels; channel c of frame f is channel f * C + c.

    Attributes:
        name: str.
        train: tf.data.Dataset of {"image": uint8 (H, W, C), "label": int64}; the label only
            if there are classes.
        validation: likewise.
        image_shape: (height, width, channels); height and width are None if they vary or are
            unknown before decoding.
        num_train: int, training images.
        num_val: int, validation images.
        class_names: tuple of num_classes names.
        labels: function without arguments -> (training labels, validation labels), int64 arrays
            (num_train,) and (num_val,); None without classes.
        train_split: str, which images are for training.
        val_split: str, likewise.
        skipped: tuple of "file: reason", files that are not used.
        notes: function, channels of the training -> tuple of text: how the files were read.
        frames: int, of each clip; 1: images.
    """

    name: str
    train: tf.data.Dataset
    validation: tf.data.Dataset
    image_shape: tuple
    num_train: int
    num_val: int
    class_names: tuple = ()
    labels: Callable | None = None
    train_split: str = ""
    val_split: str = ""
    skipped: tuple = ()
    notes: Callable = lambda channels: ()
    frames: int = 1

    @property
    def channels(self):
        """int: the channels of an image, or of a frame."""
        return self.image_shape[-1] // self.frames

    @property
    def num_classes(self):
        """int: the number of classes, 0 without labels."""
        return len(self.class_names)

    @functools.cached_property
    def known_labels(self):
        """The labels of both splits, read once.

        Raises:
            ValueError: a split withholds its labels.
        """
        both = self.labels()
        for split, labels in zip((self.train_split, self.val_split), both, strict=True):
            if labels.min() < 0:
                raise ValueError(f"the split {split!r} of {self.name!r} withholds its labels")
        return both

    @property
    def train_labels(self):
        """int64 array (num_train,), or None without labels."""
        return self.labels and self.known_labels[0]

    @property
    def val_labels(self):
        """int64 array (num_val,), or None without labels."""
        return self.labels and self.known_labels[1]

    @property
    def table(self):
        """`splits.SplitTable` of the two splits."""
        if self.labels is None:
            return splits.SplitTable(self.num_train, self.num_val)
        return splits.SplitTable.count(*self.known_labels, self.class_names)

    def limited(self, num_images):
        """The same source with at most the first `num_images` training images."""

        def labels():
            train, validation = self.known_labels
            return train[:num_images], validation

        return dataclasses.replace(
            self,
            train=self.train.take(num_images),
            labels=self.labels and labels,
            num_train=min(self.num_train, num_images),
        )

    def unlabelled(self):
        """The same source without its labels."""
        train, validation = (
            data.map(lambda example: {"image": example["image"]})
            for data in (self.train, self.validation)
        )
        return dataclasses.replace(
            self, train=train, validation=validation, class_names=(), labels=None
        )


def digits(val_percent=20):
    """The 1797 handwritten digits, 8x8 gray, of scikit-learn: no download.

    Args:
        val_percent: percent of every class for validation.

    Returns:
        A `Source`.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.round(data.images * (255 / 16)).astype(np.uint8)[..., None]  # values 0 .. 16
    names = tuple(str(name) for name in data.target_names)
    return _from_slices("digits", images, data.target, names, (8, 8, 1), val_percent)


def folder(path, val_percent=20, frames=1):
    """A folder of images or clips; see `keras_diffusion.data.folder.scan` for what is read.

    Clips of one animation or folder of frames are all for training or all for validation; those
    of a class with a single one are split in time.

    Args:
        path: the folder; its sub-folders, if any, are the classes, or train and val.
        val_percent: percent of every class for validation, unless the folder has splits.
        frames: int, of each clip; 1: images.

    Returns:
        A `Source` that decodes files as it is read.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it has no two readable images or clips of one class to split.
    """
    files = scan(path, frames)
    channels = files.image_shape[-1]
    shape = (*files.image_shape[:2], frames * channels)

    def read(example):
        image = tf.numpy_function(
            lambda index: files.decode(index, channels), [example["image"]], tf.uint8
        )
        image.set_shape(shape)
        return {**example, "image": image}

    name = pathlib.Path(path).resolve().name
    _, groups = np.unique(files.paths, return_inverse=True)
    source = _from_slices(
        name, np.arange(len(files.items)), files.labels, files.class_names, shape, val_percent,
        files.held_out, groups if frames > 1 else None,
    )  # fmt: skip
    train, validation = (
        data.map(read, num_parallel_calls=tf.data.AUTOTUNE)
        for data in (source.train, source.validation)
    )
    return dataclasses.replace(
        source,
        train=train,
        validation=validation,
        skipped=files.skipped,
        notes=lambda channels: (*files.notes, *files.channel_notes(channels)),
        frames=frames,
    )


def moving_mnist(frames, side=64, num_digits=2, data_dir=None):
    """Moving MNIST: clips of digits that move and bounce; see `moving_digits`.

    Clip i is a function of i. The digits of training clips are from the training split of MNIST,
    those of validation clips from its test split.

    Args:
        frames: int, of each clip.
        side: 64 or 32, pixels.
        num_digits: int, in each clip.
        data_dir: folder of the prepared data sets, see `tfds`.

    Returns:
        A `Source` without labels that makes clips as it is read.

    Raises:
        FileNotFoundError: MNIST is not prepared and cannot be downloaded.
    """
    mnist = tfds("mnist", data_dir)

    def clips(number, data, num_images, num_clips):
        digits = pipeline.read(data.map(lambda row: {"image": row["image"]}), num_images)["image"]

        def read(index):
            clip = tf.numpy_function(
                lambda i: moving_digits.clip(digits, (number, i), frames, side, num_digits),
                [index],
                tf.uint8,
            )
            return {"image": tf.ensure_shape(clip, (side, side, frames))}

        indices = tf.data.Dataset.range(num_clips)
        return indices.map(read, num_parallel_calls=tf.data.AUTOTUNE)

    sizes = moving_digits.TRAIN_CLIPS, moving_digits.VALIDATION_CLIPS
    return Source(
        "moving_mnist",
        clips(0, mnist.train, mnist.num_train, sizes[0]),
        clips(1, mnist.validation, mnist.num_val, sizes[1]),
        (side, side, frames),
        *sizes,
        train_split="clips of training digits",
        val_split="clips of test digits",
        frames=frames,
    )


def tfds(name, data_dir=None, train_split=None, val_split=None):
    """An image data set of TensorFlow Datasets, downloaded unless it is prepared.

    Default splits: Flowers is re-split 80/20 over all its official splits; other sets keep their
    official training split and validation (else test) split, and are split 80/20 if they have
    no two. Validation is preferred to test because the labels of test splits are often withheld.

    Args:
        name: a name that tfds knows, such as "mnist" or "oxford_flowers102:2.1.1".
        data_dir: folder of the prepared data sets; None is tfds' own, ~/tensorflow_datasets.
        train_split: a tfds slicing string, such as "train[:10%]+test"; requires val_split.
        val_split: likewise.

    Returns:
        A `Source`.

    Raises:
        ValueError: for an unknown name or split, or a data set without 8 bit images.
        FileNotFoundError: if the data set is not prepared and cannot be downloaded.
    """
    if data_dir is not None and os.path.isfile(data_dir):
        raise ValueError(f"data_dir {str(data_dir)!r} is a file; give the folder of prepared data")
    import tensorflow_datasets

    builder = _prepared_builder(tensorflow_datasets, name, data_dir)
    image_key, label_key = _feature_keys(tensorflow_datasets, builder.info)
    if (train_split is None) != (val_split is None):
        raise ValueError("give both --train-split and --val-split, or neither")
    if train_split is None:
        train_split, val_split = splits.default_splits(builder.name, tuple(builder.info.splits))
    sizes = [_split_size(builder, split) for split in (train_split, val_split)]
    keys = {"image": image_key, **({"label": label_key} if label_key else {})}

    # Images that fit into memory are kept resized, so a cache would be a second copy.
    uncached = tensorflow_datasets.ReadConfig(try_autocache=False)

    def read(split):
        data = builder.as_dataset(split=split, read_config=uncached)
        return data.map(lambda example: {key: example[theirs] for key, theirs in keys.items()})

    def read_labels(split):
        undecoded = {image_key: tensorflow_datasets.decode.SkipDecoding()}
        data = builder.as_dataset(split=split, decoders=undecoded, read_config=uncached)
        batches = data.map(lambda example: example[label_key]).batch(4096).as_numpy_iterator()
        return np.concatenate(list(batches))

    features = builder.info.features
    return Source(
        name=builder.name,
        train=read(train_split),
        validation=read(val_split),
        image_shape=tuple(features[image_key].shape),
        num_train=sizes[0],
        num_val=sizes[1],
        class_names=tuple(features[label_key].names) if label_key else (),
        labels=(lambda: (read_labels(train_split), read_labels(val_split))) if label_key else None,
        train_split=train_split,
        val_split=val_split,
    )


def _from_slices(
    name, images, labels, class_names, image_shape, val_percent, held_out=None, groups=None
):
    """A source of arrays (images or their numbers), split at random within every class.

    With the bool array `held_out`, these are the images for validation instead. `groups` as in
    `splits.stratified`.
    """
    strata = np.zeros(len(images), np.int64) if labels is None else labels.astype(np.int64)
    if held_out is None:
        chosen = splits.stratified(strata, val_percent, groups=groups)
        names = [f"{percent}% of every class" for percent in (100 - val_percent, val_percent)]
    else:
        order = np.random.default_rng(0).permutation(len(images))
        chosen = order[~held_out[order]], order[held_out[order]]
        names = ["the folder of training images", "the folder of held-out images"]
    if not len(chosen[1]):
        raise ValueError(
            f"{name!r} has no two images of one class to split for validation; "
            "give each class two or more"
        )
    datasets = []
    for indices in chosen:
        example = {"image": images[indices]}
        if labels is not None:
            example["label"] = strata[indices]
        datasets.append(tf.data.Dataset.from_tensor_slices(example))
    return Source(
        name, *datasets, image_shape, *map(len, chosen), class_names,
        None if labels is None else lambda: tuple(strata[indices] for indices in chosen),
        train_split=names[0], val_split=names[1],
    )  # fmt: skip


PRESETS = "digits, mnist, fashion_mnist, cifar10, oxford_flowers102, moving_mnist"


def _prepared_builder(tensorflow_datasets, name, data_dir):
    base = re.split(r"[:/]", name)[0]
    known = dict.fromkeys([*tensorflow_datasets.list_builders(), "digits", "moving_mnist"])
    if base not in known and not (data_dir and os.path.isdir(os.path.join(data_dir, base))):
        close = difflib.get_close_matches(base, known)
        close += [other for other in known if base in other and other not in close]
        hint = (
            f"; did you mean {', '.join(close[:5])}?"
            if base and close
            else f"; the presets are {PRESETS}"
        )
        raise ValueError(f"unknown data set {name!r}{hint}")
    try:
        builder = tensorflow_datasets.builder(name, data_dir=data_dir)
    except Exception as error:  # an unknown version or configuration, a damaged folder
        raise ValueError(f"cannot open the data set {name!r}: {_brief(error)}") from error
    if not builder.is_prepared():
        try:
            builder.download_and_prepare()
        except Exception as error:  # no network, a moved file, a missing library, a full disk
            raise FileNotFoundError(
                f"the data set {name!r} is not in {builder.data_dir} and its download failed "
                f"({_brief(error)}); give --data-dir with a prepared copy, or --folder with "
                "your own images"
            ) from error
    return builder


def _feature_keys(tensorflow_datasets, info):
    """Keys of the image and, if there is one, of the class label of a tfds data set."""
    features = dict(info.features) if hasattr(info.features, "items") else {}
    kinds = tensorflow_datasets.features
    images = [
        key
        for key, feature in features.items()
        if isinstance(feature, kinds.Image) and feature.np_dtype == np.uint8
    ]
    if not images:
        actual = ", ".join(features) or "no named features"
        raise ValueError(f"the data set {info.name!r} has no 8 bit image (it has {actual})")
    labels = [key for key in ("label", *(info.supervised_keys or ())) if key in features]
    labels = [key for key in labels if isinstance(features[key], kinds.ClassLabel)]
    return "image" if "image" in images else images[0], labels[0] if labels else None


def _split_size(builder, split):
    try:
        size = builder.info.splits[split].num_examples
    except Exception as error:  # tfds raises several types for what it cannot parse
        names = ", ".join(builder.info.splits)
        raise ValueError(
            f"bad split {split!r} of the data set {builder.name!r}, whose splits are {names} "
            "(write for example 'train[:80%]' or 'train+test')"
        ) from error
    if not size:
        raise ValueError(
            f"the split {split!r} of the data set {builder.name!r} has no images; "
            f"{builder.name!r} has {', '.join(builder.info.splits)}"
        )
    return size


def _brief(error):
    """An error in one short line."""
    line = next((part for part in str(error).splitlines() if part.strip()), "")
    return f"{type(error).__name__}: {line.strip()[:160]}" if line else type(error).__name__
