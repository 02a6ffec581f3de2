"""What `fit` may be given, brought into one form, and into parts."""

import keras
import tensorflow as tf


def unpack(data, image_shape, num_classes, x_shape=None):
    """Returns a batch as {"image" or "latent"[, "label", "valid"][, "endpoint"][, "index"]}.

    Args:
        data: images; (images, labels); or a dict with "image" and, where it has them,
            "label", "endpoint" (what sits at t = 1 instead of noise) and "index" (numbers
            that fix time and noise of each image in evaluation; else its place in the batch).
            "latent" may stand for "image": x as the codec has encoded it before.
        image_shape: (H, W, C) of the images that the model takes.
        num_classes: classes of the network; 0: labels are left out.
        x_shape: (H, W, C) of x; None: it must be images.

    Raises:
        ValueError: images of another shape, or no labels for a labelled network.
        tf.errors.InvalidArgumentError: when run, labels outside of 0 .. num_classes - 1, or
            between two of them. XLA leaves such checks out: there "valid" (B,) says it.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if sample_weight is not None:
        raise ValueError("sample_weight: a diffusion model takes none.")
    batch = dict(x) if isinstance(x, dict) else {"image": x}
    if y is not None:
        if "label" in batch:
            raise ValueError('labels: given twice, in the dict as "label" and beside it.')
        batch["label"] = y
    if "image" not in batch and (x_shape is None or "latent" not in batch):
        raise ValueError(f'data: no "image" among the keys {sorted(batch)}.')
    for name, shape in (("image", image_shape), ("endpoint", image_shape), ("latent", x_shape)):
        if name in batch and shape:
            _check_shape(tf.TensorShape(batch[name].shape), shape, f"{name}s")
    if not num_classes:
        batch.pop("label", None)
    elif "label" not in batch:
        raise ValueError(
            f"labels: the network has {num_classes} classes, but the data has no labels. "
            'Give (images, labels) or {"image": ..., "label": ...}.'
        )
    else:
        batch["label"], batch["valid"] = _checked(batch["label"], num_classes)
    return batch


def size_of(batch):
    """Returns how many images a batch stands for, a scalar tensor."""
    return tf.shape(next(iter(batch.values())))[0]


def _check_shape(shape, image_shape, kind):
    if shape.rank is None:
        raise ValueError(
            f"{kind}: of unknown shape; the network takes {image_shape}. "
            "In a tf.data pipeline, tf.ensure_shape tells it."
        )
    if tuple(shape[1:]) != image_shape:
        raise ValueError(f"{kind}: shape {tuple(shape[1:])}; the network takes {image_shape}.")


def _checked(labels, num_classes):
    """Returns labels as int32 (B,), and which of them are classes."""
    given = tf.convert_to_tensor(labels)
    if not (given.dtype.is_floating or given.dtype.is_integer or given.dtype.is_bool):
        raise ValueError(f"labels: dtype {given.dtype.name}; give whole numbers.")
    if given.shape.rank is None:
        raise ValueError("labels: of unknown shape; give one class number for each image.")
    if given.shape.rank == 2 and given.shape[1] == 1:
        given = tf.squeeze(given, axis=1)
    if given.shape.rank != 1:
        raise ValueError(
            f"labels: shape {tuple(given.shape)}; give one class number for each image."
        )
    labels = tf.cast(given, tf.int32)
    whole = tf.cast(labels, given.dtype) == given  # nothing was lost
    valid = whole & (labels >= 0) & (labels < num_classes)
    message = f"labels: must lie in 0 .. {num_classes - 1} and be whole; found:"
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(valid), [message, given])]):
        return tf.identity(labels), valid


def told(batch, prompts, draws=None):
    """Returns a batch with prompts in the place of its labels, as "tokens" (B, L) int32.

    Args:
        batch: dict of tensors (B, ...), with "label" in 0 .. num_classes, the last one for none.
        prompts: `Prompts`, or None: the batch stays as it is.
        draws: (B,) uniform numbers in [0, 1) that choose the templates; None: the plain prompts.
    """
    if not prompts:
        return batch
    template = tf.zeros_like(batch["label"])
    if draws is not None:
        template = tf.cast(draws * len(prompts.templates), tf.int32)
    rows = tf.stack([batch["label"], template], axis=1)
    rest = {name: values for name, values in batch.items() if name != "label"}
    return {**rest, "tokens": tf.gather_nd(prompts.table, rows)}


def mean_over_parts(function, batch, parts):
    """Works through a batch part after part, so that only one part's memory is needed.

    Args:
        function: batch -> (list of means over that batch, dict of values of each image).
        batch: dict of tensors (B, ...).
        parts: int, how many; B must be a multiple of it.

    Returns:
        What the function returns for the whole batch, but for rounding.

    Raises:
        ValueError: the parts would be of unequal size.
    """
    if parts == 1:
        return function(batch)
    size = next(iter(batch.values())).shape[0]
    if size is not None and size % parts:
        raise ValueError(f"accumulate: {size} images do not fall into {parts} equal parts.")
    folded = {name: tf.reshape(v, (parts, -1, *v.shape[1:])) for name, v in batch.items()}

    def part(number):
        return function({name: values[number] for name, values in folded.items()})

    def add(number, sums, arrays):
        means, values = part(number)
        sums = [total + mean for total, mean in zip(sums, means, strict=True)]
        return number + 1, sums, {k: a.write(number, values[k]) for k, a in arrays.items()}

    sums, values = part(0)
    arrays = {k: tf.TensorArray(v.dtype, parts).write(0, v) for k, v in values.items()}
    _, sums, arrays = tf.while_loop(
        lambda number, *_: number < parts, add, (1, sums, arrays), parallel_iterations=1
    )
    return [total / parts for total in sums], {k: a.concat() for k, a in arrays.items()}
