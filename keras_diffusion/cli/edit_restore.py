"""Commands of edit.py that restore what is missing: resolution, colours, frames of a clip."""

from pathlib import Path

import numpy as np

from keras_diffusion.cli.edit_inputs import (
    Results,
    add_class_flags,
    add_common_flags,
    add_images,
    add_seed_flag,
    conditions,
    resized,
    settings,
)
from keras_diffusion.cli.parsing import within
from keras_diffusion.config.fields import LARGEST_INT


def add_commands(command):
    """Adds the commands; command(name, function, help) returns the parser of one."""
    # fmt: off
    sub = command("upscale", upscale, "enlarge images to the size of the model's")
    add_images(sub, "small images; larger ones are reduced first, which shows what comes back")
    sub.add_argument("--factor", type=within(2, LARGEST_INT), metavar="N",
        help="by how much; default: the least that the images need, and 4 if all are as large as "
        "the model's")
    add_flags(sub, 3)

    sub = command("colorize", colorize, "give grey images colours; their brightness stays")
    add_images(sub, "images of any size; of coloured ones the brightness is taken")
    add_flags(sub, 3)

    sub = command("fill-frames", fill_frames, "generate the frames between two images")
    for name in ("first", "last"):
        sub.add_argument("images", action="append", type=Path, metavar=name.upper(),
            help=f"the {name} frame, of any size; the model must be one of clips")
    add_flags(sub, 1)
    # fmt: on


def add_flags(sub, num):
    """Adds the flags that `restore` reads; `num` is the default of --num."""
    add_class_flags(sub)
    add_common_flags(sub, num)
    add_seed_flag(sub)


def upscale(options, images, model):
    """Enlarges small images; see `Results`."""
    from keras_diffusion.data import fitting
    from keras_diffusion.diffusion import operators

    shape = model.image_shape
    windows = [fitting.largest_window(pixels.shape[:2], shape) for pixels in images.values()]
    factor = _factor(options.factor, min(window[2:] for window in windows), shape)
    operator, size = operators.downscale(factor), (shape[0] // factor, shape[1] // factor)
    small, rows, lines = [], [], []
    for (name, pixels), window in zip(images.items(), windows, strict=True):
        if window[2] < shape[0]:
            part = fitting.fit(pixels, window, (*size, shape[2]))
        else:  # as the operator reduces images: the mean of each block
            part = fitting.fit(pixels, window, shape)[None].astype("float32")
            part = np.asarray(operator.apply(part))[0].round().astype("uint8")
        small.append(part)
        rows.append([fitting.cut(pixels, window), part, fitting.resize_bicubic(part, shape[:2])])
        lines.append(f"{name}: {resized(pixels, window, size)}; then enlarged by {factor}")
    results = restore(options, model, small, operator)
    rows = list(zip(images, rows, results, strict=True))
    return Results(rows, ("given", "reduced", "bicubic"), lines)


def factors(shape):
    """Returns the factors by which images can be enlarged to a shape (height, width, ...)."""
    height, width = shape[:2]
    return [n for n in range(2, min(height, width) + 1) if height % n == width % n == 0]


def _factor(factor, least, shape):
    """Returns the factor for images of `least` (height, width) or more."""
    fitting = [n for n in factors(shape) if shape[0] // n <= least[0] and shape[1] // n <= least[1]]
    if factor is None and fitting:
        return 4 if 4 in fitting and least[0] >= shape[0] else fitting[0]
    if factor not in fitting:
        sizes = ", ".join(f"{n} (to {shape[0] // n}x{shape[1] // n})" for n in fitting) or "none"
        raise ValueError(
            f"--factor: {factor} does not fit the model of {shape[0]}x{shape[1]} pixels and images "
            f"of {least[0]}x{least[1]}. Choose from: {sizes}."
        )
    return factor


def colorize(options, images, model):
    """Gives images colours; see `Results`."""
    from keras_diffusion.data import fitting
    from keras_diffusion.diffusion import operators

    shape, parts, rows, lines = model.image_shape, [], [], []
    if shape[2] != 3:
        raise ValueError(f"--model: {model.name} is of images without colours. Choose another.")
    for name, pixels in images.items():
        grey = fitting.convert_channels(pixels, 1)
        window = fitting.whole_window(pixels.shape[:2], shape)
        parts.append(fitting.fit(grey, window, (*shape[:2], 1), mode="reflect"))
        rows.append((name, [pixels, grey], window))
        lines.append(f"{name}: {resized(pixels, window, shape)}; its colours are enlarged again")
    results = restore(options, model, parts, operators.grayscale())
    rows = [
        (name, given, [fitting.colour(given[1], window, result) for result in edited])
        for (name, given, window), edited in zip(rows, results, strict=True)
    ]
    return Results(rows, ("given", "grey"), lines)


def fill_frames(options, images, model):
    """Generates the frames between two; see `Results`."""
    from keras_diffusion.data import fitting
    from keras_diffusion.diffusion import operators
    from keras_diffusion.plotting.images import split_frames

    (height, width, channels), count = model.image_shape, model.frames
    shape, clip = (height, width, channels // count), np.zeros(model.image_shape, "uint8")
    parts, lines = [], []
    for name, pixels in images.items():
        window = fitting.largest_window(pixels.shape[:2], shape)
        parts.append(fitting.fit(pixels, window, shape))
        lines.append(f"{name}: {resized(pixels, window, shape)}")
    clip[..., : shape[2]], clip[..., -shape[2] :] = parts
    [clips] = restore(options, model, [clip], operators.frames([0, count - 1], count))
    name = "-".join(images)
    names = [f"{name}-{i + 1}" for i in range(len(clips))] if len(clips) > 1 else [name]
    clips = {name: list(split_frames(clip, count)) for name, clip in zip(names, clips, strict=True)}
    rows = [(name, list(images.values()), frames) for name, frames in clips.items()]
    return Results(rows, ("first", "last"), lines, animations=clips)


def restore(options, model, measurements, operator):
    """Restores images as `kd.editing.restore`.

    Args:
        options: parsed flags.
        model: `LoadedModel`.
        measurements: list of N arrays of one shape.
        operator: `Operator`; its arrays have a row for each result.

    Returns:
        uint8 (N, num, H, W, C), `options.num` results for each measurement.
    """
    from keras_diffusion.sampling import editing

    results = editing.restore(
        model,
        np.stack(measurements).repeat(options.num, axis=0),
        operator,
        **conditions(options, model, len(measurements)),
        **settings(options),
    )
    return results.reshape(len(measurements), options.num, *results.shape[1:])
