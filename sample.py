"""Draw pictures from an exported model:  python sample.py

Needs TensorFlow, numpy and Pillow, and nothing of keras_diffusion: all of the sampler is
inside the SavedModel, and what it can draw is in its assets.extra/config.json.
"""

import argparse
import difflib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image


def is_count(value, least=0, most=2**31 - 1):
    """Whether a value is an int (not a bool) within two ends."""
    return type(value) is int and least <= value <= most


def is_scale(value):
    """Whether a value is a guidance scale; nan and infinity are none."""
    return type(value) in (int, float) and 0 <= value <= STRONGEST_GUIDANCE


def is_interval(value):
    """Whether a value is a list of two times with 0 <= low <= high <= 1."""
    if not isinstance(value, list) or [type(end) in (int, float) for end in value] != [True] * 2:
        return False
    return 0 <= value[0] <= value[1] <= 1


def are_names(value):
    """Whether a value is a list of strings."""
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


FORMAT = 2  # of the newest exports that can be read; 1: without an interval of guidance
MOST_STEPS = 1000
MOST_PICTURES = 1_000_000
STRONGEST_GUIDANCE = 100
# What config.json must hold: a check of the value, and that in words.
CONFIG = {
    "image_shape": (
        lambda shape: isinstance(shape, list) and [is_count(n, 1) for n in shape] == [True] * 3,
        "[height, width, channels]",
    ),
    "num_classes": (is_count, "a whole number from 0"),
    "class_names": (are_names, "a list of names"),
    "samplers": (are_names, "a list of names"),
    "sampler": (lambda name: isinstance(name, str), "a name"),
    "num_steps": (lambda n: is_count(n, 1, MOST_STEPS), f"a whole number from 1 to {MOST_STEPS}"),
    "guidance_scale": (is_scale, f"a number from 0 to {STRONGEST_GUIDANCE}"),
    "guidance_interval": (is_interval, "[low, high], two times with 0 <= low <= high <= 1"),
}
SMALLEST_SIDE = 560  # pixels; smaller grids are enlarged by a whole factor, to be seen


def parse(arguments):
    """Returns the parsed flags; wrong ones end with one line and exit code 2."""
    flags = argparse.ArgumentParser(prog="sample.py", description=__doc__.split("\n")[0])
    flags.error = fail
    add = flags.add_argument
    add("--model", type=Path, help="SavedModel folder; default: the newest in saved_models/")
    add("--num", type=int, help="pictures; default: 8 of each class, or 64")
    classes = flags.add_mutually_exclusive_group()
    classes.add_argument("--class-name", nargs="+", metavar="NAME", help="only these classes")
    classes.add_argument("--labels", nargs="+", type=int, help="the same by number")
    add("--guidance-scale", type=float, help="1: off; more: more typical of the class")
    add("--guidance-interval", nargs=2, type=float, metavar=("LOW", "HIGH"),
        help="times between which guidance is on, 0 (clean) to 1 (noise)")  # fmt: skip
    add("--sampler", help="cold, ddim, ddpm, dpmpp_2m or heun")
    add("--num-steps", type=int, help="sampler steps, 1 to 1000")
    add("--seed", type=int, default=0)
    add("--batch-size", type=int, default=64, help="pictures at once; changes none of them")
    add("--out", type=Path, help="PNG, or folder with --separate; default: under samples/")
    add("--separate", action="store_true", help="one PNG for each picture")
    add("--gif", action="store_true", help="also the way from noise to picture")
    return flags.parse_args(arguments)


def fail(message, after_progress=False):
    """Ends with one line on stderr and exit code 2."""
    if after_progress:
        print(file=sys.stderr)
    message = " ".join(str(message).split()).removeprefix("argument ")
    print(f"sample.py: error: {message}", file=sys.stderr)
    sys.exit(2)


def newest_model(root=Path("saved_models")):
    """Returns the SavedModel folder that was written last."""
    found = [path for path in root.glob("*/saved_model.pb") if path.parent.name[0] != "."]
    found.sort(key=lambda path: path.stat().st_mtime)
    if not found:
        fail(f"--model: there is no model in {root}/; train.py writes them, or name a folder.")
    return found[-1].parent


def read_config(model):
    """Returns the config.json of an export."""
    if not model.is_dir():
        what = "is a file" if model.exists() else "does not exist"
        fail(f"--model: {model} {what}; give the folder of an export, as under saved_models/.")
    path = model / "assets.extra" / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        number = config.get("format", 1)  # the first exports had no number
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        what = f"{path}: {type(error).__name__}: {str(error)[:100]}"
        fail(f"--model: {model} is not an export of keras_diffusion ({what}).")
    if not is_count(number, 1):
        fail(f"--model: {path}: format is {number!r}; it must be a whole number from 1.")
    if number > FORMAT:
        fail(
            f"--model: {model} was written by a newer keras_diffusion (format {number}; this "
            f"sample.py reads up to {FORMAT}); take its sample.py."
        )
    config["format"] = number
    if number == 1:
        config["guidance_interval"] = [0.0, 1.0]
    for name, (valid, words) in CONFIG.items():
        if name not in config:
            fail(f"--model: {path} has no {name}; it must be {words}.")
        if not valid(config[name]):
            fail(f"--model: {path}: {name} is {config[name]!r}; it must be {words}.")
    if len(config["class_names"]) not in (0, config["num_classes"]):
        names, classes = len(config["class_names"]), config["num_classes"]
        fail(f"--model: {path}: {names} class_names for {classes} classes; they must be as many.")
    return config


def choose_labels(flags, config):
    """Returns the classes to draw in turn, or None for a model without classes."""
    count, names = config["num_classes"], config["class_names"]
    if not count:
        for flag in ("class_name", "labels", "guidance_scale", "guidance_interval"):
            if getattr(flags, flag) is not None:
                fail(f"--{flag.replace('_', '-')}: this model was trained without labels.")
        return None
    for label in flags.labels or ():
        if not 0 <= label < count:
            fail(f"--labels: {label} is not in 0 .. {count - 1}.")
    for name in flags.class_name or ():
        if not names:
            fail(f"--class-name: this model has no class names; --labels takes 0 .. {count - 1}.")
        if name not in names:
            near = difflib.get_close_matches(name, names, n=5, cutoff=0.4) or names[:20]
            fail(f"--class-name: unknown {name!r}. Choose from: {', '.join(near)}.")
    if flags.class_name:
        return [names.index(name) for name in flags.class_name]
    return flags.labels or list(range(count))


def resolve(flags, config, classes):
    """Fills in what was not given with the defaults of the model; checks the rest."""
    if flags.guidance_interval is not None and config["format"] == 1:
        fail("--guidance-interval: this model was exported before there were intervals (format 1); "
             "leave the flag out, or export the model again.")  # fmt: skip
    for name in ("sampler", "num_steps", "guidance_scale", "guidance_interval"):
        if getattr(flags, name) is None:
            setattr(flags, name, config[name])
    if flags.num is None:
        flags.num = 8 * len(classes) if classes and len(classes) <= 12 else 64
        if classes:
            flags.num = max(flags.num, len(classes))  # every class at least once
    if flags.sampler not in config["samplers"]:
        choices = ", ".join(config["samplers"])
        fail(f"--sampler: unknown {flags.sampler!r}. Choose from: {choices}.")
    ends = {"num": MOST_PICTURES, "num_steps": MOST_STEPS, "batch_size": MOST_PICTURES}
    for name, most in ends.items():
        if not 1 <= getattr(flags, name) <= most:
            what = f"--{name.replace('_', '-')}: {getattr(flags, name)}"
            fail(f"{what} must be at least 1 and at most {most}.")
    if not is_scale(flags.guidance_scale):
        fail(f"--guidance-scale: {flags.guidance_scale} must be 0 to {STRONGEST_GUIDANCE}.")
    if not is_interval(flags.guidance_interval):
        low, high = flags.guidance_interval
        fail(f"--guidance-interval: {low} {high} must be two times, 0 <= LOW <= HIGH <= 1.")
    if not -(2**31) <= flags.seed < 2**31:
        fail(f"--seed: {flags.seed} must fit in 32 bits.")


def draw(model_path, kind, flags, config, classes):
    """Calls the endpoint KIND_SAMPLER in batches; returns all its pictures."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    try:
        model = tf.saved_model.load(str(model_path))
    except Exception as error:  # whatever TensorFlow makes of a broken file
        fail(f"--model: {model_path} cannot be loaded; it is damaged: {str(error)[:200]}")
    endpoint = getattr(model, f"{kind}_{flags.sampler}", None)
    if endpoint is None:
        fail(f"--model: {model_path} has no {kind}_{flags.sampler}; it must be an export of "
             "keras_diffusion.")  # fmt: skip
    parts = []
    for first in range(0, flags.num, flags.batch_size):
        indices = np.arange(first, min(first + flags.batch_size, flags.num), dtype="int32")
        inputs = [np.int32(flags.seed), indices, np.int32(flags.num_steps)]
        if classes:
            inputs += [np.int32(classes)[indices % len(classes)], np.float32(flags.guidance_scale)]
            inputs += [np.float32(flags.guidance_interval)] if config["format"] > 1 else []
        try:
            parts.append(endpoint(*map(tf.constant, inputs)).numpy())
        except (MemoryError, tf.errors.ResourceExhaustedError):
            fail("out of memory: choose a smaller --batch-size.", after_progress=first)
        except Exception as error:  # a graph of another program
            fail(f"--model: {model_path} cannot be sampled, it is not what its config.json says: "
                 f"{str(error)[:200]}", after_progress=first)  # fmt: skip
        shape = (len(indices), *config["image_shape"])
        if parts[-1].dtype != np.uint8 or parts[-1].shape[-4:] != shape:
            fail(f"--model: {model_path} gives {parts[-1].dtype} {parts[-1].shape}, but by its "
                 f"config.json it must be uint8 {shape}.")  # fmt: skip
        print(f"\r{indices[-1] + 1}/{flags.num}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return np.concatenate(parts, axis=parts[0].ndim - 4)


def to_picture(image):
    """uint8 (H, W, C) -> Pillow image."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def to_grid(images, columns):
    """uint8 (N, H, W, C) -> one Pillow image, rows of `columns` with thin gaps."""
    height, width = images.shape[1:3]
    gap = max(1, height // 16)
    rows = -(-len(images) // columns)
    size = columns * (width + gap) + gap, rows * (height + gap) + gap
    picture = to_picture(images[0])
    sheet = Image.new(picture.mode, size, "white")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet.paste(to_picture(image), (gap + column * (width + gap), gap + row * (height + gap)))
    factor = max(1, round(SMALLEST_SIDE / max(size)))
    return sheet.resize((size[0] * factor, size[1] * factor), Image.Resampling.NEAREST)


def save(picture, path, **options):
    """Writes a picture whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    picture.save(part, format=path.suffix[1:].upper(), **options)
    os.replace(part, path)


def choose_out(flags, name):
    """Returns where the pictures go, once it is sure that they can."""
    out = flags.out or Path("samples") / (name if flags.separate else f"{name}.png")
    if not flags.separate and out.suffix.lower() != ".png":
        fail(f"--out: {out} must end in .png (or give --separate for a folder).")
    if flags.separate and out.exists() and not out.is_dir():
        fail(f"--out: {out} is a file; --separate needs a folder.")
    if not flags.separate and out.is_dir():
        fail(f"--out: {out} is a folder; it must be a PNG (or give --separate for a folder).")
    nearest = next(path for path in out.absolute().parents if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        what = "is not writable" if nearest.is_dir() else "is a file"
        fail(f"--out: {out} cannot be written: {nearest} {what}; it must be a folder to write to.")
    return out


def write(images, frames, out, flags, columns):
    """Writes the pictures and, where there are frames, the way to them."""
    if flags.separate:
        for index, image in enumerate(images):
            save(to_picture(image), out / f"{index:05d}.png")
    else:
        save(to_grid(images, columns), out, optimize=True)
    if frames is not None:
        sheets = [to_grid(frame, columns) for frame in frames]
        sheets = [sheet.convert("P", palette=Image.Palette.ADAPTIVE) for sheet in sheets]
        durations = [120] * (len(sheets) - 1) + [2000]  # milliseconds
        moving = out.with_name((out.name if flags.separate else out.stem) + ".gif")
        save(sheets[0], moving, save_all=True, append_images=sheets[1:],
             duration=durations, loop=0)  # fmt: skip
        print(f"wrote {moving}")


def main(arguments=None):
    """Runs the command."""
    flags = parse(arguments)
    model = flags.model or newest_model()
    name = model.resolve().name
    config = read_config(model)
    classes = choose_labels(flags, config)
    resolve(flags, config, classes)
    try:
        out = choose_out(flags, name)
        began = time.monotonic()
        images = draw(model, "trajectory" if flags.gif else "generate", flags, config, classes)
        seconds = time.monotonic() - began
        frames, images = (images, images[-1]) if flags.gif else (None, images)
        columns = len(classes) if classes and 1 < len(classes) <= 12 else round(flags.num**0.5)
        write(images, frames, out, flags, max(1, min(columns, flags.num)))
    except MemoryError:
        fail("out of memory: choose a smaller --num.")
    except OSError as error:
        fail(f"--out: {flags.out or 'samples/'} cannot be written: {error}")
    how = f"{flags.num_steps} steps of {flags.sampler}, seed {flags.seed}"
    print(f"wrote {out}: {flags.num} pictures of {model}, {how}, in {seconds:.1f} s")


if __name__ == "__main__":
    main()
