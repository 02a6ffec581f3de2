"""Batches of `fit`: one form for all accepted data, and microbatches."""

import keras
import numpy as np
import tensorflow as tf

from keras_diffusion.models.codecs import PixelCodec

WEIGHT = "sample_weight"


def check_network(network):
    """Raises ValueError if a network does not take a dict with "x" and "logsnr"."""
    inputs = getattr(network, "input", None) if getattr(network, "built", False) else None
    if not isinstance(inputs, dict) or not {"x", "logsnr"} <= inputs.keys():
        raise ValueError(
            "network: must be a functional keras.Model whose inputs are a dict, "
            '{"x": (B, H, W, C), "logsnr": (B,)}, as those of kd.networks.unet(...).'
        )
    dtypes = {str(w.dtype) for w in network.weights if "float" in str(w.dtype)}
    if dtypes - {"float32"}:
        raise ValueError(
            f"network: its weights are {', '.join(sorted(dtypes))}; build it under the dtype "
            'policy "float32" or "mixed_bfloat16" (keras.config.set_dtype_policy).'
        )


def unpack(data, image_shape, num_classes, x_shape=None, values=False):
    """Returns a batch as {"image" or "latent"[, "label", "valid"][, ...]}, with keys as below.

    Args:
        data: images, (images, labels), (images, labels, weights), or a dict with these keys:
            "image": (B, H, W, C), uint8 or float in [0, 1].
            "latent": instead of "image", x as encoded by the codec.
            "label": (B,) or (B, 1), whole numbers in 0 .. num_classes - 1.
            "endpoint": (B, H, W, C), images at t = 1 instead of noise.
            "index": (B,), in evaluation time and noise of an image depend on it; default: its
                position in the batch.
            "sample_weight": (B,) or (B, 1), factor of the loss of each image.
        image_shape: (H, W, C) of the model's images.
        num_classes: number of classes; 0: labels are ignored.
        x_shape: (H, W, C) of x; None: "latent" is not accepted.
        values: check the dtype of images, too, as `PixelCodec.encode` does.

    Raises:
        ValueError: another shape or dtype, or missing labels.
        tf.errors.InvalidArgumentError: at run time, labels out of range or not whole. XLA omits
            such checks, so "valid" (B,) holds the result as well.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if isinstance(x, (list, tuple)):
        raise ValueError("data: several inputs; give images, or (images, labels), or a dict.")
    batch = dict(x) if isinstance(x, dict) else {"image": x}
    if sample_weight is not None:
        if WEIGHT in batch:
            raise ValueError(f"{WEIGHT}: given both in the dict and as a third value.")
        batch[WEIGHT] = sample_weight
    if y is not None:
        if "label" in batch:
            raise ValueError('labels: given both in the dict as "label" and as a second value.')
        batch["label"] = y
    if "image" not in batch and (x_shape is None or "latent" not in batch):
        raise ValueError(f'data: no "image" among the keys {sorted(batch)}.')
    for name, shape in (("image", image_shape), ("endpoint", image_shape), ("latent", x_shape)):
        if name in batch and shape:
            _check_shape(tf.TensorShape(batch[name].shape), shape, f"{name}s")
            if values and name != "latent":
                PixelCodec().encode(batch[name])
    if WEIGHT in batch:
        batch[WEIGHT] = _one_per_image(tf.cast(batch[WEIGHT], tf.float32), WEIGHT)
    if not num_classes:
        batch.pop("label", None)
    elif "label" not in batch:
        raise ValueError(
            f"labels: the network has {num_classes} classes, but the data has no labels. "
            'Give (images, labels) or {"image": ..., "label": ...}.'
        )
    else:
        batch["label"], batch["valid"] = _check_labels(batch["label"], num_classes)
    return batch


def size_of(batch):
    """Returns the number of images of a batch, a scalar tensor."""
    return tf.shape(next(iter(batch.values())))[0]


def _check_shape(shape, image_shape, kind):
    if shape.rank is None:
        raise ValueError(
            f"{kind}: unknown shape; the network takes {image_shape}. "
            "Set it in the tf.data pipeline with tf.ensure_shape."
        )
    if tuple(shape[1:]) != image_shape:
        raise ValueError(f"{kind}: shape {tuple(shape[1:])}; the network takes {image_shape}.")


def _check_labels(labels, num_classes):
    """Returns (labels as int32 (B,), bool (B,) whether each of them is valid)."""
    values = tf.convert_to_tensor(labels)
    if not (values.dtype.is_floating or values.dtype.is_integer or values.dtype.is_bool):
        raise ValueError(f"labels: dtype {values.dtype.name}; must be whole numbers.")
    values = _one_per_image(values, "labels")
    labels = tf.cast(values, tf.int32)
    whole = tf.cast(labels, values.dtype) == values
    valid = whole & (labels >= 0) & (labels < num_classes)
    message = f"labels: must be whole numbers in 0 .. {num_classes - 1}; got:"
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(valid), [message, values])]):
        return tf.identity(labels), valid


def _one_per_image(values, name):
    """Returns values (B,) or (B, 1) as (B,)."""
    if values.shape.rank is None:
        raise ValueError(f"{name}: unknown shape; must be one number for each image.")
    if values.shape.rank == 2 and values.shape[1] == 1:
        values = tf.squeeze(values, axis=1)
    if values.shape.rank != 1:
        raise ValueError(f"{name}: shape {tuple(values.shape)}; must be one number for each image.")
    return values


def check_values(batch, num_classes, weight_name=WEIGHT):
    """Raises ValueError if arrays hold values out of range: before a graph runs, for one line.

    Args:
        batch: dict of arrays as in `unpack`.
        num_classes: number of classes; 0: labels are ignored.
        weight_name: what the message calls the weights.
    """
    for name in ("image", "endpoint"):
        values = batch.get(name)
        if values is not None and np.dtype(tf.as_dtype(values.dtype).as_numpy_dtype) != np.uint8:
            lowest, highest = np.min(values), np.max(values)
            if not (lowest >= -1e-3 and highest <= 1.001):  # as in PixelCodec
                raise ValueError(
                    f"{name}s: floats must lie in [0, 1], integers must be uint8; "
                    f"got {lowest:g} .. {highest:g}."
                )
    if num_classes and "label" in batch:
        labels = np.asarray(batch["label"]).astype("float64")
        wrong = labels[~((labels % 1 == 0) & (labels >= 0) & (labels < num_classes))]
        if wrong.size:
            raise ValueError(
                f"labels: must be whole numbers in 0 .. {num_classes - 1}; got {wrong.flat[0]:g}."
            )
    if WEIGHT in batch:
        weights = np.asarray(batch[WEIGHT], "float64")
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError(f"{weight_name}: must be finite numbers of at least 0.")


def with_tokens(batch, prompts, uniform=None):
    """Returns a batch in which "tokens" (B, L) int32 replace "label".

    Args:
        batch: dict of tensors (B, ...), "label" in 0 .. num_classes (the null class).
        prompts: `Prompts`; None: the batch is returned unchanged.
        uniform: (B,) in [0, 1), chooses the template of each image; None: the first template.
    """
    if not prompts:
        return batch
    template = tf.zeros_like(batch["label"])
    if uniform is not None:
        template = tf.cast(uniform * len(prompts.templates), tf.int32)
    rows = tf.stack([batch["label"], template], axis=1)
    rest = {name: values for name, values in batch.items() if name != "label"}
    return {**rest, "tokens": tf.gather_nd(prompts.table, rows)}


def mean_over_microbatches(function, batch, count):
    """Calls a function on one microbatch after the other, to need the memory of only one.

    Args:
        function: batch -> (list of means over the batch, dict of values (B, ...) of each image).
        batch: dict of tensors (B, ...).
        count: number of microbatches. Another batch than a multiple of it is not divided, if B is
            unknown before: the last batch of an epoch may be smaller.

    Returns:
        What `function` returns for the whole batch, up to rounding.

    Raises:
        ValueError: B is known, and not a multiple of `count`.
    """
    if count == 1:
        return function(batch)
    size = next(iter(batch.values())).shape[0]
    if size is not None and size % count:
        raise ValueError(f"accumulate: {size} images are no multiple of {count} microbatches.")
    if size is not None:
        return _mean_over_parts(function, batch, count, size // count)
    rows = size_of(batch)
    return tf.cond(
        rows % count == 0,
        lambda: _mean_over_parts(function, batch, count, rows // count),
        lambda: function(batch),
    )


def _mean_over_parts(function, batch, count, size):
    folded = {
        name: tf.reshape(values[: count * size], (count, size, *values.shape[1:]))
        for name, values in batch.items()
    }

    def microbatch(index):
        return function({name: values[index] for name, values in folded.items()})

    def add(index, sums, arrays):
        means, values = microbatch(index)
        sums = [total + mean for total, mean in zip(sums, means, strict=True)]
        return index + 1, sums, {k: a.write(index, values[k]) for k, a in arrays.items()}

    sums, values = microbatch(0)
    arrays = {k: tf.TensorArray(v.dtype, count).write(0, v) for k, v in values.items()}
    _, sums, arrays = tf.while_loop(
        lambda index, *_: index < count, add, (1, sums, arrays), parallel_iterations=1
    )
    return [total / count for total in sums], {k: a.concat() for k, a in arrays.items()}
