"""What one call of a sampling graph is given: which arguments there are, and whether they fit."""

import numpy as np
import tensorflow as tf

# Of labelled models, in the order of the graphs' arguments: all float32, the interval (2,).
GUIDANCE = ("guidance_scale", "guidance_interval", "guidance_rescale")


def signature(model, endpoints=None, images=None):
    """Returns what varies from one call of a sampling graph to the next, {name: TensorSpec}.

    Args:
        model: a `DiffusionModel` or `trained.Trained`: classes or prompts are arguments, too.
        endpoints: None, or the TensorSpec of pictures to start from instead of noise.
        images: None, or the TensorSpec of pictures to start from at t = strength.
    """
    shapes = {"seed": (), "indices": (None,), "num_steps": ()}
    if model.prompts:
        shapes.update(dict.fromkeys(("tokens", "negative_tokens"), (None, model.prompts.length)))
    elif model.num_classes:
        shapes["labels"] = (None,)
    specs = {name: tf.TensorSpec(shape, tf.int32, name) for name, shape in shapes.items()}
    if model.num_classes:
        for name in GUIDANCE:
            shape = (2,) if name == "guidance_interval" else ()
            specs[name] = tf.TensorSpec(shape, tf.float32, name)
    if endpoints is not None:
        specs["endpoints"] = endpoints
    if images is not None:
        specs.update(images=images, strength=tf.TensorSpec((), tf.float32, "strength"))
    return specs


def checked(
    model,
    num_images,
    *,
    num_steps,
    labels,
    prompts,
    negative_prompts,
    guidance_scale,
    guidance_interval,
    guidance_rescale,
    seed,
    **pictures,
):
    """Returns what `SamplingGraphs.draw` takes, checked: (rows, common).

    Args:
        pictures: "endpoints" or "images", (N, H, W, C) each; None values are left out.

    The others: see `DiffusionModel.generate`.

    Raises:
        ValueError: bad numbers; labels, prompts, guidance or pictures that do not fit.
    """
    if num_images < 1 or num_steps < 1:
        raise ValueError("num_images and num_steps must be at least 1.")
    rows = {"indices": np.arange(num_images, dtype="int32")}
    common = {"seed": checked_seed(seed), "num_steps": np.int32(num_steps)}
    if prompts is not None and labels is not None:
        raise ValueError("prompts: stand in the place of labels; give one of the two.")
    labels = checked_labels(labels, rows["indices"], model.num_classes)
    guidance = checked_guidance(
        guidance_scale, guidance_interval, guidance_rescale, model.num_classes
    )
    if labels is not None:
        common.update(zip(GUIDANCE, guidance, strict=True))
    if model.prompts:
        if negative_prompts is not None and guidance_scale == 1:
            raise ValueError(
                "negative_prompts: change nothing at guidance_scale 1; give a higher one."
            )
        none = np.full_like(labels, model.num_classes)
        rows["tokens"] = checked_tokens("prompts", prompts, model.prompts, labels)
        rows["negative_tokens"] = checked_tokens(
            "negative_prompts", negative_prompts, model.prompts, none
        )
    elif prompts is not None or negative_prompts is not None:
        raise ValueError("prompts: this model was trained without prompts.")
    elif labels is not None:
        rows["labels"] = labels
    for name, images in pictures.items():
        if images is not None:
            rows[name] = checked_pictures(name, images, (num_images, *model.image_shape))
    return rows, common


def checked_seed(seed):
    """Returns the seed as an int32.

    Raises:
        ValueError: it does not fit.
    """
    if not -(2**31) <= seed < 2**31:
        raise ValueError(f"seed: {seed} does not fit into 32 bits.")
    return np.int32(seed)


def checked_tokens(name, texts, prompts, labels):
    """Returns the tokens of each picture, int32 (N, L).

    Args:
        name: of the argument, for errors.
        texts: a text for all pictures, or one for each; None: the plain prompts of `labels`.
        prompts: `Prompts` of the model.
        labels: int32 (N,).

    Raises:
        ValueError: another number of texts; words that the model does not know.
    """
    if texts is None:
        return prompts.table[labels, 0]
    texts = [texts] * len(labels) if isinstance(texts, str) else list(texts)
    if len(texts) != len(labels):
        raise ValueError(f"{name}: {len(texts)} given for {len(labels)} images.")
    try:
        return prompts.tokens(texts)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def checked_guidance(scale, interval, rescale, num_classes):
    """Returns the values of `GUIDANCE`, see below.

    Raises:
        ValueError: one of them does not fit a model of so many classes.
    """
    return (
        checked_scale(scale, num_classes),
        checked_interval(interval, num_classes),
        checked_rescale(rescale, num_classes),
    )


def checked_scale(scale, num_classes):
    """Returns the scale of guidance as a float32.

    Raises:
        ValueError: it is not in [0, 100], or not 1 for a model without labels (`num_classes` 0).
    """
    if not 0 <= scale <= 100:
        raise ValueError(f"guidance_scale: {scale} is not in 0 .. 100.")
    if scale != 1 and not num_classes:
        raise ValueError("guidance_scale: this model was trained without labels.")
    return np.float32(scale)


def checked_rescale(share, num_classes):
    """Returns the rescale of guidance as a float32.

    Raises:
        ValueError: it is not in [0, 1], or not 0 for a model without labels (`num_classes` 0).
    """
    if not 0 <= share <= 1:
        raise ValueError(f"guidance_rescale: {share} is not in [0, 1].")
    if share and not num_classes:
        raise ValueError("guidance_rescale: this model was trained without labels.")
    return np.float32(share)


def checked_labels(labels, indices, num_classes):
    """Returns the label of each picture, int32 (N,), or None for a model without labels.

    Args:
        labels: (N,) ints in 0 .. num_classes, the last one "no class"; None: the classes in turn.
        indices: (N,) array, the numbers of the pictures.
        num_classes: of the model; 0: without labels.

    Raises:
        ValueError: labels that do not fit.
    """
    if not num_classes:
        if labels is not None:
            raise ValueError("labels: this model was trained without labels.")
        return None
    if labels is None:
        return indices % num_classes
    given = np.asarray(labels)
    with np.errstate(invalid="ignore"):  # what is no number becomes one, and is found out below
        labels = given.astype("int32")
    if labels.shape != indices.shape:
        raise ValueError(f"labels: {labels.shape} given for {len(indices)} images.")
    if (labels != given).any() or labels.min() < 0 or labels.max() > num_classes:
        raise ValueError(f"labels: must be 0 .. {num_classes - 1}, or {num_classes} for none.")
    return labels


def checked_interval(interval, num_classes):
    """Returns (low, high), the times between which guidance is on, as float32 (2,).

    Raises:
        ValueError: it is not 0 <= low <= high <= 1; a part of [0, 1] for a model without labels
            (`num_classes` 0), which cannot be guided.
    """
    ends = np.asarray(interval, dtype="float64")
    if ends.shape != (2,) or not 0 <= ends[0] <= ends[1] <= 1:
        raise ValueError(f"guidance_interval: {interval} is not two times, 0 <= low <= high <= 1.")
    if not num_classes and (ends[0], ends[1]) != (0, 1):
        raise ValueError("guidance_interval: this model was trained without labels.")
    return ends.astype("float32")


def checked_pictures(name, images, shape):
    """Returns the pictures to start from, uint8 or float32, of the shape (N, H, W, C).

    Raises:
        ValueError: another shape, or another dtype than uint8 or a float.
    """
    images = np.asarray(images)
    if images.shape != shape:
        raise ValueError(f"{name}: shape {images.shape}; it must be {shape}.")
    if images.dtype.kind == "f":
        return images.astype("float32")
    if images.dtype != np.uint8:
        what = "give uint8 in 0..255 or floats in [0, 1]"
        raise ValueError(f"{name}: dtype {images.dtype}; {what}.")
    return images
