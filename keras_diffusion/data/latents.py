"""Latents in place of images: encoded once, held in memory, and batched like images."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_diffusion.data import pipeline

BATCH = 256  # images encoded at once


def encoded(data, encode, x_shape, *, batch_size, seed=0, balance=None):
    """Encodes training data: returns the same data with latents in place of images.

    If half of the training images are mirrored, their mirror images are encoded as well. The
    order and the flips of epoch e are the same functions of (seed, e) as for images.

    Args:
        data: `TrainingData` of images.
        encode: function, uint8 images (B, H, W, C) -> x, float32 (B, *x_shape).
        x_shape: (height, width, channels) of x.
        batch_size, seed, balance: as in `load_source`.

    Returns:
        `TrainingData` whose batches are dicts of "latent" float16 (B, *x_shape), "label" if
        there are classes and, for validation, "index"; None if the latents do not fit into
        memory.
    """
    source, copies = data.source, 1 + data.horizontal_flip
    count = copies * source.num_train + source.num_val
    if 2 * count * np.prod(x_shape) > pipeline.MEMORY_LIMIT:
        return None
    options = data.image_shape, encode, x_shape
    arrays = _read(source.train, source.num_train, copies, *options)
    validation = _read(source.validation, source.num_val, 1, *options)
    labels = arrays["label"][: source.num_train] if balance else None

    def rows(epoch):
        order = pipeline.epoch_order(source.num_train, seed, epoch, labels)
        if copies == 1:
            return order
        return order + source.num_train * pipeline.epoch_flips(source.num_train, seed, epoch)

    def epoch_batches(epoch):
        order = pipeline.per_epoch(rows, epoch, [source.num_train])
        batches = pipeline.batch_rows(order, source.num_train, batch_size)
        return batches.map(lambda indices: pipeline.gather(arrays, indices), tf.data.AUTOTUNE)

    return dataclasses.replace(
        data,
        epoch_batches=pipeline.repeated(epoch_batches, data.repeats, source.num_train, batch_size),
        validation=pipeline.validation_batches(validation, batch_size),
    )


def _read(dataset, num_images, copies, image_shape, encode, x_shape):
    """Encodes a whole data set; the second of two copies holds the mirrored images."""
    latents = np.empty((copies, num_images, *x_shape), np.float16)
    labels = np.empty((copies, num_images), np.int64)
    start = 0
    for batch in pipeline.prepared(dataset, *image_shape).batch(BATCH).prefetch(2):
        stop = start + len(batch["image"])
        latents[0, start:stop] = encode(batch["image"])
        if copies == 2:
            latents[1, start:stop] = encode(tf.reverse(batch["image"], [2]))
        labels[:, start:stop] = batch.get("label", 0)
        start = stop
    if start < num_images:
        raise ValueError(f"the data set ended after {start:,} of {num_images:,} images")
    arrays = {"latent": latents.reshape(-1, *x_shape), "label": labels.reshape(-1)}
    return arrays if "label" in dataset.element_spec else {"latent": arrays["latent"]}
