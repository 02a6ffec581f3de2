"""What the commands of edit.py share: flags, given images and conditions, the form of results."""

import argparse
import dataclasses
from pathlib import Path

from keras_diffusion.cli.parsing import MODEL_HELP, folder, within
from keras_diffusion.cli.sample import MAX_IMAGES
from keras_diffusion.cli.sample_plan import choose_conditions
from keras_diffusion.config.guidance import LARGEST_SCALE
from keras_diffusion.config.options import MAX_STEPS


@dataclasses.dataclass(frozen=True)
class Results:
    """What a command returns, to be written and printed.

    Attributes:
        rows: list of (name, given images, results) of the comparison grid; the results are also
            written one by one. An image is uint8 (H, W, C).
        titles: tuple of text above the given images.
        lines: list of text: what was done with each image.
        animations: {name: list of images}, written as GIFs.
    """

    rows: list
    titles: tuple
    lines: list
    animations: dict = dataclasses.field(default_factory=dict)


# Flags --------------------------------------------------------------------------------------


def add_images(sub, text, nargs="+"):
    """Adds the images that are given; `text` is the help."""
    sub.add_argument("images", nargs=nargs, type=Path, metavar="IMAGE", help=text)


def add_common_flags(sub, num):
    """Adds the flags of all commands to the parser of one.

    Args:
        num: default of --num.
    """
    # fmt: off
    add, count = sub.add_argument, within(1, MAX_IMAGES)
    add("--num", type=count, default=num, metavar="N", help="number of results for each image")
    add("--model", metavar="NAME or PATH", help=MODEL_HELP)
    add("--num-steps", type=within(1, MAX_STEPS), metavar="N",
        help=f"sampler steps, 1 to {MAX_STEPS}; default: 20, or 25 where images are turned into "
        "noise")
    add("--batch-size", type=count, default=16, metavar="N",
        help="results that are computed at once, which decides the memory but not the results")
    add("--out", type=folder, default=Path("edits"), metavar="DIR",
        help="folder of the results, IMAGE-COMMAND-1.png and so on, and of COMMAND.png, which "
        "compares them with what was given")
    # fmt: on


def add_seed_flag(sub):
    """Adds --seed."""
    sub.add_argument(
        "--seed", type=within(-(2**31), 2**31 - 1), default=0, metavar="N", help="seed of the noise"
    )


def add_guidance_flag(sub):
    """Adds --guidance-scale."""
    sub.add_argument(
        "--guidance-scale", type=within(0, LARGEST_SCALE, float), metavar="S",
        help="1: off; above 1: more typical of the class or prompt; default: that of the model",
    )  # fmt: skip


def add_class_flags(sub):
    """Adds the flags that `conditions` reads."""
    # fmt: off
    classes = sub.add_mutually_exclusive_group()
    classes.add_argument("--class-name", nargs="+", metavar="NAME",
        help="class of the images, one for all or one for each; default: none")
    classes.add_argument("--labels", nargs="+", type=int, metavar="N", help="likewise, by number")
    classes.add_argument("--prompt", nargs="+", metavar="TEXT",
        help="likewise, as a prompt, for models trained with --text")
    # fmt: on
    add_guidance_flag(sub)


# Images -------------------------------------------------------------------------------------


def is_path(image):
    """Returns False for the seed of an image."""
    return isinstance(image, Path)


def check_images(images):
    """Raises ValueError for a path that is no file."""
    for path in filter(is_path, images):
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise ValueError(f"IMAGE: {path} {what}. Give the path of an image.")


def read_images(images):
    """Returns {unique name: uint8 (H, W, C), or a seed as it is} of paths and seeds."""
    named = {}
    for image in images:
        stem = image.stem if is_path(image) else str(image)
        name, number = stem, 2
        while name in named:
            name, number = f"{stem}_{number}", number + 1
        named[name] = read_image("IMAGE", image) if is_path(image) else image
    return named


def read_image(flag, path):
    """Returns uint8 (H, W, C); ValueError names the flag."""
    from keras_diffusion.data import decoding

    try:
        return decoding.read(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{flag}: {error}. Give the path of an image.") from error


# Conditions ---------------------------------------------------------------------------------


def conditions(options, model, count):
    """Returns condition and guidance of all results, as arguments of `kd.editing`.

    Without a class or prompt there is no condition, and nothing to guide to.

    Args:
        options: parsed flags.
        model: `LoadedModel`.
        count: number of given images; each has `options.num` results, one after the other.
    """
    flags = ("class_name", "labels", "prompt")
    flag = next((name for name in flags if getattr(options, name)), None)
    if not flag:
        if options.guidance_scale is not None:
            raise ValueError(
                "--guidance-scale: no effect without a class. Give --class-name, --labels or "
                "--prompt, too."
            )
        return {}
    _, chosen = choose_conditions(options, model)
    [(name, values)] = chosen.items()
    if len(values) not in (1, count):
        raise ValueError(
            f"--{flag.replace('_', '-')}: {len(values)} for {count} images. Give one for all, or "
            "one for each."
        )
    values = values * count if len(values) == 1 else values
    values = [value for value in values for _ in range(options.num)]
    return {name: values, **guidance(options, model)}


def settings(options):
    """Returns the other flags as arguments of `kd.editing`; what is not given is left out."""
    names = ("num_steps", "seed", "batch_size", "progress")
    values = {name: getattr(options, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def guidance(options, model):
    """Returns the guidance of the model, with the scale that a flag gives, as arguments."""
    changed = {"guidance_scale": options.guidance_scale}
    return model.guidance.changed(changed, model.num_classes).options()


def class_or_prompt(flag, text, model):
    """Returns ("labels", number) of a class name or number, or ("prompts", text).

    Raises:
        ValueError: the model has no such class, or does not know a word.
    """
    if model.prompts and not text.isdecimal():
        try:
            model.prompts.tokens([text])
        except ValueError as error:
            raise ValueError(f"{flag}: {error}") from error
        return "prompts", text
    number = text.isdecimal() and text not in model.class_names
    chosen = argparse.Namespace(
        prompt=None,
        labels=[int(text)] if number else None,
        class_name=None if number else [text],
    )
    try:
        return "labels", choose_conditions(chosen, model)[1]["labels"][0]
    except ValueError as error:
        raise ValueError(f"{flag}: {str(error).partition(': ')[2]}") from error


# What is printed ----------------------------------------------------------------------------


def resized(pixels, window, shape):
    """Returns text: how a window of an image became one of the model's.

    Args:
        pixels: array (H, W, C).
        window: see `data.fitting`.
        shape: (h, w, ...) of the model's images.
    """
    size, part, new = (
        "x".join(map(str, pair)) for pair in (pixels.shape[:2], window[2:], shape[:2])
    )
    if window == (0, 0, *shape[:2]) and size == new:
        return f"{size}, as it is"
    steps = []
    if window[2] > pixels.shape[0] or window[3] > pixels.shape[1]:
        steps.append(f"extended to {part}")
    elif part != size:
        steps.append(f"{part} of it, from x {window[1]} and y {window[0]}")
    if part != new:
        steps.append(f"resized to {new}")
    return f"{size} (height x width): {', '.join(steps)}"
