"""From decoded images to batches: crop, resize, shuffle, flip.

The order of epoch e is a function of (seed, e) only. Training batches are a function
`epoch_batches(epoch) -> tf.data.Dataset`: `endless` chains its epochs from any step on, which is
how a run resumes; `one_epoch_per_iteration` makes a finite data set for plain `model.fit`.
"""

import math

import numpy as np
import tensorflow as tf

# Bytes. Resized images up to this size are held in memory and shuffled completely (60000 images
# of 32x32x3 take 0.17 GiB); larger data sets are read again in every epoch.
MEMORY_LIMIT = 4 * 2**30


def convert_channels(image, channels):
    """Converts between gray, RGB and RGBA.

    Args:
        image: uint8 tensor (..., H, W, C) with a static C of 1, 3 or 4.
        channels: 1 (luma) or 3, both over white if the image has alpha, or 4 (alpha 255 if new).

    Returns:
        uint8 tensor (..., H, W, channels).

    Raises:
        ValueError: for another number of channels.
    """
    have = image.shape[-1]
    if have == channels:
        return image
    if have not in (1, 3, 4) or channels not in (1, 3, 4):
        raise ValueError(f"channels must be 1, 3 or 4: cannot convert {have} to {channels}")
    color = tf.image.grayscale_to_rgb(image) if have == 1 else image[..., :3]
    if have == 4:
        alpha = tf.cast(image[..., 3:], tf.float32) / 255
        color = tf.round(tf.cast(color, tf.float32) * alpha + 255 * (1 - alpha))
        color = tf.saturate_cast(color, tf.uint8)
    if channels == 1:
        return tf.image.rgb_to_grayscale(color)
    if channels == 3:
        return color
    return tf.concat([color, tf.fill(tf.shape(color[..., :1]), tf.constant(255, tf.uint8))], -1)


def centre_crop(image, height, width):
    """Cuts the largest centred part with the aspect ratio height : width.

    Args:
        image: tensor (H, W, C).
        height, width: ints; only their ratio matters.

    Returns:
        Tensor (h, w, C) with h == H or w == W.
    """
    shape = tf.shape(image)
    crop_height = tf.clip_by_value(shape[1] * height // width, 1, shape[0])
    crop_width = tf.clip_by_value(shape[0] * width // height, 1, shape[1])
    top, left = (shape[0] - crop_height) // 2, (shape[1] - crop_width) // 2
    return image[top : top + crop_height, left : left + crop_width]


def resize(image, height, width):
    """Centre crop and antialiased resize; an image of that size is unchanged.

    Colours are weighted by alpha; where the result is fully transparent they are white.

    Args:
        image: uint8 tensor (H, W, C) with a static C.
        height, width: ints, pixels.

    Returns:
        uint8 tensor (height, width, C).
    """

    def resized():
        # A triangle filter, as wide as the reduction requires; bilinear when enlarging.
        pixels = centre_crop(image, height, width)
        if image.shape[-1] == 4:
            pixels = tf.cast(pixels, tf.float32)
            pixels = tf.concat([pixels[..., :3] * pixels[..., 3:] / 255, pixels[..., 3:]], -1)
        pixels = tf.image.resize(pixels, (height, width), antialias=True)
        if image.shape[-1] == 4:
            alpha = pixels[..., 3:]
            color = tf.where(alpha < 0.5, 255.0, pixels[..., :3] * 255 / tf.maximum(alpha, 0.5))
            pixels = tf.concat([color, alpha], -1)
        return tf.saturate_cast(tf.round(pixels), tf.uint8)

    same = tf.reduce_all(tf.shape(image)[:2] == (height, width))
    return tf.ensure_shape(tf.cond(same, lambda: image, resized), (height, width, image.shape[-1]))


def flip(images, mask):
    """Mirrors some images of a batch left to right.

    Args:
        images: tensor (B, H, W, C).
        mask: bool tensor (B,), which images.

    Returns:
        Tensor (B, H, W, C).
    """
    return tf.where(mask[:, None, None, None], tf.reverse(images, [2]), images)


def epoch_order(num_images, seed, epoch, labels=None):
    """The order of one epoch: every image once or, with labels, every class equally often.

    With labels, the images of small classes are repeated evenly, and those of large ones change
    from epoch to epoch; the length of an epoch is the same.

    Args:
        num_images: int, N.
        seed: int, of the run.
        epoch: int, from 0.
        labels: int array (N,) to balance by, or None.

    Returns:
        int64 array (N,) of indices.
    """
    rng = np.random.default_rng((seed, epoch, 0))
    if labels is None:
        return rng.permutation(num_images)
    classes = rng.permutation(np.unique(labels))
    quotas = np.full(len(classes), num_images // len(classes))
    quotas[: num_images % len(classes)] += 1  # the remainder goes to random classes
    indices = [
        np.resize(rng.permutation(np.flatnonzero(labels == label)), quota)
        for label, quota in zip(classes, quotas, strict=True)
    ]
    return rng.permutation(np.concatenate(indices))


def epoch_flips(num_images, seed, epoch):
    """Mask of the mirrored images of an epoch: bool array (N,) in the epoch's order."""
    return np.random.default_rng((seed, epoch, 1)).random(num_images) < 0.5


def prepared(dataset, height, width, channels, frames=1):
    """A source's data set with every image resized to (height, width, channels).

    With `frames`, every frame of its clips is; these are then (height, width, frames * channels).
    """
    if dataset.element_spec["image"].shape == (height, width, frames * channels):
        return dataset  # checking each image takes twice as long as decoding it

    def prepare(example):
        images = tf.split(example["image"], frames, axis=-1)
        images = [convert_channels(resize(image, height, width), channels) for image in images]
        return {**example, "image": tf.concat(images, axis=-1)}

    return dataset.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)


def read(dataset, num_images):
    """Reads a whole data set into memory.

    Args:
        dataset: of {"image": uint8 (H, W, C), "label": int64 if any}, as from `prepared`.
        num_images: int, the number of its images.

    Returns:
        A dict of arrays with a leading axis of num_images.

    Raises:
        ValueError: the data set has fewer images.
    """
    arrays = {
        key: np.empty((num_images, *spec.shape), spec.dtype.as_numpy_dtype)
        for key, spec in dataset.element_spec.items()
    }
    start = 0
    for batch in dataset.batch(256).prefetch(2).as_numpy_iterator():
        stop = start + len(batch["image"])
        for key, values in batch.items():
            arrays[key][start:stop] = values
        start = stop
    if start < num_images:
        raise ValueError(f"the data set ended after {start:,} of {num_images:,} images")
    return arrays


def steps_per_epoch(num_images, batch_size):
    """Training batches per epoch: full ones only, or one smaller batch if there is no full one."""
    return max(1, num_images // batch_size)


def repeated(epoch_batches, repeats, num_images, batch_size):
    """Epochs of several passes over few images, in batches that may hold an image several times.

    Args:
        epoch_batches: as from `batches_in_memory`; a pass is one of its epochs.
        repeats: int, passes in each epoch.
        num_images: int, images in a pass.
        batch_size: int.

    Returns:
        epoch_batches(epoch), of `steps_per_epoch(repeats * num_images, batch_size)` batches.
    """
    if repeats == 1:
        return epoch_batches

    def passes(epoch):
        images = tf.data.Dataset.range(repeats * epoch, repeats * (epoch + 1))
        images = images.flat_map(epoch_batches).unbatch()
        return images.batch(batch_size, drop_remainder=repeats * num_images >= batch_size)

    return passes


def batch_rows(rows, num_images, batch_size):
    """tf.data.Dataset of the training batches of a tensor with one row per image."""
    dataset = tf.data.Dataset.from_tensor_slices(rows)
    return dataset.batch(batch_size, drop_remainder=num_images >= batch_size)


def batches_in_memory(arrays, batch_size, *, seed=0, balance=None, horizontal_flip=False):
    """Training batches of images in memory, completely shuffled.

    Args:
        arrays: dict of arrays as from `read`.
        batch_size: int.
        seed: int, of the run.
        balance: "classes" to show every class equally often, or None.
        horizontal_flip: bool, mirror half of the images at random.

    Returns:
        epoch_batches(epoch) -> tf.data.Dataset of dicts of uint8 (B, H, W, C), int64 (B,).
    """
    num_images = len(arrays["image"])
    labels = arrays["label"] if balance else None

    def epoch_batches(epoch):
        order = per_epoch(lambda e: epoch_order(num_images, seed, e, labels), epoch, [num_images])
        batches = batch_rows(order, num_images, batch_size)
        batches = batches.map(lambda rows: gather(arrays, rows), tf.data.AUTOTUNE)
        return flipped(batches, num_images, seed, epoch) if horizontal_flip else batches

    return epoch_batches


def batches_from_stream(dataset, num_images, batch_size, *, seed=0, horizontal_flip=False):
    """Training batches of images that do not fit into memory, decoded again in every epoch.

    They are shuffled in blocks of a quarter of `MEMORY_LIMIT` (a block and its shuffled copy are
    in memory at the same time). `Dataset.shuffle` is not used because its order also depends on
    TensorFlow's global seed.

    Args:
        dataset: as from `prepared`.
        num_images: int, the number of its images.
        batch_size, seed, horizontal_flip: as in `batches_in_memory`.

    Returns:
        epoch_batches(epoch), as `batches_in_memory`.
    """
    image_bytes = math.prod(dataset.element_spec["image"].shape)
    block_size = min(num_images, max(1, MEMORY_LIMIT // 4 // image_bytes))

    def epoch_batches(epoch):
        key = tf.stack([tf.constant(seed, tf.int32), tf.cast(epoch, tf.int32)])

        def shuffle(number, block):
            block_key = tf.random.fold_in(key, tf.cast(number, tf.int32))
            rows = tf.argsort(tf.random.stateless_uniform(tf.shape(block["image"])[:1], block_key))
            return {name: tf.gather(values, rows) for name, values in block.items()}

        shuffled = dataset.batch(block_size).enumerate().map(shuffle).unbatch()
        batches = shuffled.batch(batch_size, drop_remainder=num_images >= batch_size)
        return flipped(batches, num_images, seed, epoch) if horizontal_flip else batches

    return epoch_batches


def validation_batches(data, batch_size):
    """Batches in the order of the source, with the remainder.

    Each image has its "index" in the source, which determines the noise that it is evaluated
    with: the loss does not depend on the batch size.

    Args:
        data: a dict of arrays, or a tf.data.Dataset.
        batch_size: int.
    """
    if isinstance(data, tf.data.Dataset):
        batches = data.enumerate().map(lambda index, row: {**row, "index": index}).batch(batch_size)
        return _untuned(batches.prefetch(2))
    rows = tf.data.Dataset.range(len(next(iter(data.values())))).batch(batch_size)
    batches = rows.map(lambda batch: {**gather(data, batch), "index": batch}, tf.data.AUTOTUNE)
    return _untuned(batches.prefetch(2))


def endless(epoch_batches, first_epoch=0, first_step=0):
    """All epochs from `first_epoch` on, one after the other; `fit` needs steps_per_epoch.

    Args:
        epoch_batches: as from `batches_in_memory`.
        first_epoch: int, the epoch to start or to resume with.
        first_step: int, the number of batches of that epoch to skip.

    Returns:
        Infinite tf.data.Dataset.
    """
    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
    return _untuned(epochs.flat_map(epoch_batches).skip(first_step).prefetch(2))


def one_epoch_per_iteration(epoch_batches, steps, done=None):
    """A finite data set whose k-th complete iteration is epoch k.

    An epoch counts when its last batch is returned. Counting iterators would be wrong: Keras
    makes two per epoch, and one more to build the model. `take(n)` of the data set is the first
    n batches of each epoch in turn, by the same rule; after other methods, such as `map`, it is
    tf.data's own, which repeats one epoch.

    Args:
        epoch_batches: as from `batches_in_memory`.
        steps: int, batches per epoch.
        done: None, or int64 array (), the number of complete epochs, which is counted up.

    Returns:
        tf.data.Dataset of `steps` batches.
    """
    done = np.zeros((), np.int64) if done is None else done

    def count(step):
        done[...] += step == steps - 1
        return np.True_

    def counted(step, batch):
        with tf.control_dependencies([tf.numpy_function(count, [step], tf.bool)]):
            return {key: tf.identity(value) for key, value in batch.items()}

    epoch = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(done.copy, [], tf.int64))
    batches = epoch.flat_map(lambda e: epoch_batches(tf.ensure_shape(e, ()))).prefetch(2)
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False  # it would count too early
    counting = _untuned(batches.enumerate().map(counted).with_options(options))
    counting = counting.apply(tf.data.experimental.assert_cardinality(steps))

    def take(count, name=None):
        if not 0 < count < steps:
            return tf.data.Dataset.take(counting, count, name)
        return one_epoch_per_iteration(lambda epoch: epoch_batches(epoch).take(count), count, done)

    counting.take = take
    return counting


def _untuned(dataset):
    """Turns off tf.data's autotuning: destroying an iterator waits for its tuning thread."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def per_epoch(function, epoch, shape, dtype=tf.int64):
    """Calls a numpy function of the epoch (int -> array) inside tf.data."""
    return tf.ensure_shape(tf.numpy_function(lambda e: function(int(e)), [epoch], dtype), shape)


def gather(arrays, rows):
    """Rows of the arrays, in numpy: captured tensors would be copied for every iterator."""
    batch = {}
    for key, values in arrays.items():
        selected = tf.numpy_function(values.__getitem__, [rows], values.dtype)
        batch[key] = tf.ensure_shape(selected, (rows.shape[0], *values.shape[1:]))
    return batch


def flipped(batches, num_images, seed, epoch):
    """The batches of an epoch with the images of `epoch_flips` mirrored."""
    mask = per_epoch(lambda e: epoch_flips(num_images, seed, e), epoch, [num_images], tf.bool)
    size = batches.element_spec["image"].shape[0] or num_images
    masks = tf.data.Dataset.from_tensor_slices(mask).batch(size)
    zipped = tf.data.Dataset.zip(batches, masks)
    return zipped.map(lambda batch, m: {**batch, "image": flip(batch["image"], m)})
