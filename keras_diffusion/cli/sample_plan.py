"""From the flags of sample.py to images, without reading or writing files."""

import dataclasses
from collections.abc import Callable
from difflib import get_close_matches

import numpy as np

from keras_diffusion.config.guidance import Guidance
from keras_diffusion.plotting.images import add_labels, grid, readable, strips
from keras_diffusion.sampling.request import Request
from keras_diffusion.saving import export_folder

MAX_COLUMNS = 12  # of a grid with a column for each class
CLIPS = 12  # by default


@dataclasses.dataclass(frozen=True)
class Plan:
    """What flags ask of a model.

    Attributes:
        sampler: its name.
        requests: list of `Request`, one for each guidance scale, for the same number of images.
        arrange: function from uint8 images, those of the requests side by side, to a Pillow grid.
    """

    sampler: str
    requests: list
    arrange: Callable


def make_plan(options, config):
    """Returns the `Plan` of parsed flags.

    Args:
        config: `ExportConfig` of the model.

    Raises:
        ValueError: a flag that does not fit the model.
    """
    sampler = options.sampler or config.sampler
    if sampler not in config.samplers:
        choices = ", ".join(config.samplers)
        raise ValueError(f"--sampler: unknown {sampler!r}. Choose from: {choices}.")
    if options.gif and config.frames > 1:
        raise ValueError("--gif: this model makes clips, which get a GIF anyway. Leave it out.")
    names, conditions = choose_conditions(options, config)
    numbers = conditions.get("labels", range(1, len(names) + 1))  # prompts count from 1
    names = [readable(name, number) for name, number in zip(names, numbers, strict=False)]
    guidances = choose_guidances(options, config)
    requests = make_requests(options, config, conditions, guidances)
    arrange = grid_function(names, guidances, requests[0].num_images, config.frames)
    return Plan(sampler, requests, arrange)


def choose_conditions(options, config):
    """Returns the classes or prompts to generate in turn, as flags choose them.

    Returns:
        (names, {argument of `Request`: list of values}); both empty for a model without labels.
    """
    count, names = config.num_classes, config.class_names
    if options.prompt:
        if not config.prompts:
            raise ValueError(
                "--prompt: this model was trained without prompts. "
                f"Choose another one, such as --model {export_folder.SHIPPED_DEFAULT}."
            )
        return options.prompt, {"prompts": options.prompt}
    if not count:
        if options.class_name:
            raise ValueError("--class-name: this model was trained without labels.")
        if options.labels:
            raise ValueError("--labels: this model was trained without labels.")
        return [], {}
    for label in options.labels or ():
        if not 0 <= label < count:
            raise ValueError(f"--labels: {label} is not in 0 .. {count - 1}.")
    for name in options.class_name or ():
        if not names:
            raise ValueError(
                f"--class-name: this model has no class names; --labels takes 0 .. {count - 1}."
            )
        if name not in names:
            near = get_close_matches(name, names, n=5, cutoff=0.4) or names[:20]
            raise ValueError(f"--class-name: unknown {name!r}. Choose from: {', '.join(near)}.")
    labels = [names.index(name) for name in options.class_name or ()]
    labels = labels or options.labels or list(range(count))
    titles = config.prompts.plain if config.prompts else names or list(map(str, range(count)))
    return [titles[label] for label in labels], {"labels": labels}


def choose_guidances(options, config):
    """Returns the list of `Guidance`, one for each scale."""
    scales = options.guidance_scale or [None]
    changed = {name: getattr(options, name) for name in Guidance.NAMES}
    changed["guidance_scale"] = max(scales, key=lambda scale: scale != 1)  # 1 only if all are
    guidance = config.guidance.changed(changed, config.num_classes)
    if scales == [None]:
        return [guidance]
    return [dataclasses.replace(guidance, scale=scale) for scale in scales]


def make_requests(options, config, conditions, guidances):
    """Returns the list of `Request`, one for each `Guidance`."""
    num, count = options.num, max([0, *map(len, conditions.values())])
    if num is None and len(guidances) > 1:
        num = count
    elif num is None and config.frames > 1:
        num = max(CLIPS, count)
    elif num is None:
        num = 8 * count if 0 < count <= MAX_COLUMNS else max(64, count)
    requests = []
    for guidance in guidances:
        negative = options.negative_prompt
        if guidance.scale == 1 and any(other.scale != 1 for other in guidances):
            negative = None  # without effect
        requests.append(
            Request(
                model=config,
                num_images=num,
                num_steps=options.num_steps or config.num_steps,
                seed=options.seed,
                guidance=guidance,
                negative_prompts=negative,
                **{name: [each[i % len(each)] for i in range(num)]
                   for name, each in conditions.items()},
            )
        )  # fmt: skip
    return requests


def grid_function(names, guidances, num, frames=1):
    """Returns the function from images to a Pillow grid: a column for each class, or scale.

    Of clips, a row is for one clip, or for one clip at each scale.
    """
    if len(guidances) > 1:
        rows = [names[row % len(names)] for row in range(num)]
        columns = [f"{guidance.scale:g}" for guidance in guidances]
        return lambda images: add_labels(
            grid(strips(images, frames), len(columns)), rows, columns, "guidance scale"
        )
    columns = len(names) if 1 < len(names) <= MAX_COLUMNS else round(num**0.5)
    return lambda images: grid(strips(images, frames), 1 if frames > 1 else max(1, columns))


def generate(endpoint, path, image_shape, requests, batch_size, progress):
    """Returns uint8 images ([F,] N, H, W, C), those of the requests side by side.

    Args:
        endpoint: function {argument: tensor} -> uint8 tensor ([F,] n, H, W, C).
        path: of the model, for messages.
        image_shape: (H, W, C).
        requests: list of `Request` for the same number of images.
        batch_size: images at once.
        progress: function (done, total), called with numbers of images before the first batch and
            after each. What it raises ends the call.
    """
    total, done, columns = sum(request.num_images for request in requests), 0, []
    progress(done, total)
    for request in requests:
        parts = []
        for rows in request.batches(batch_size):
            shape = (len(rows["indices"]), *image_shape)
            parts.append(_call(endpoint, path, {**rows, **request.shared}, shape))
            done += len(rows["indices"])
            progress(done, total)
        columns.append(np.concatenate(parts, axis=-4))
    images = np.stack(columns, axis=-4)  # a row for each image, with a column for each request
    return images.reshape(*images.shape[:-5], -1, *image_shape)


def _call(endpoint, path, arguments, shape):
    import tensorflow as tf

    try:
        images = endpoint({name: tf.constant(value) for name, value in arguments.items()}).numpy()
        if images.dtype != np.uint8 or images.shape[-4:] != shape:
            raise ValueError(f"its images are {images.dtype} {images.shape}")
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise ValueError("--batch-size: out of memory. Choose a smaller one.") from error
    except Exception as error:  # a graph of another program
        raise ValueError(
            f"--model: {path} cannot be sampled as its config.json says: {str(error)[:200]}"
        ) from error
    return images
