"""Draw pictures from an exported model:  python sample.py

Needs TensorFlow, numpy and Pillow, and nothing of keras_diffusion: all of the sampler is
inside the SavedModel, and what it can draw is in its assets.extra/config.json.
"""

import argparse
import difflib
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

CONFIG_KEYS = (
    "num_classes",
    "class_names",
    "samplers",
    "sampler",
    "num_steps",
    "guidance_scale",
)
MOST_STEPS = 1000
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
    add("--sampler", help="ddim, ddpm, dpmpp_2m or heun")
    add("--num-steps", type=int, help="sampler steps, 1 to 1000")
    add("--seed", type=int, default=0)
    add("--batch-size", type=int, default=64, help="pictures at once; changes none of them")
    add("--out", type=Path, help="PNG, or folder with --separate; default: under samples/")
    add("--separate", action="store_true", help="one PNG for each picture")
    add("--gif", action="store_true", help="also the way from noise to picture")
    return flags.parse_args(arguments)


def fail(message):
    """Ends with one line on stderr and exit code 2."""
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
    if not model.exists():
        fail(f"--model: {model} does not exist.")
    path = model / "assets.extra" / "config.json"
    try:
        config = json.loads(path.read_text())
        return {name: config[name] for name in CONFIG_KEYS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        fail(f"--model: {model} is not an export of this program ({path}: {error!r}).")


def choose_labels(flags, config):
    """Returns the classes to draw in turn, or None for a model without classes."""
    count, names = config["num_classes"], config["class_names"]
    if not count:
        for flag in ("class_name", "labels", "guidance_scale"):
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
    for name in ("sampler", "num_steps", "guidance_scale"):
        if getattr(flags, name) is None:
            setattr(flags, name, config[name])
    if flags.num is None:
        flags.num = 8 * len(classes) if classes and len(classes) <= 12 else 64
        if classes:
            flags.num = max(flags.num, len(classes))  # every class at least once
    if flags.sampler not in config["samplers"]:
        choices = ", ".join(config["samplers"])
        fail(f"--sampler: unknown {flags.sampler!r}. Choose from: {choices}.")
    for name in ("num", "num_steps", "batch_size"):
        if getattr(flags, name) < 1:
            fail(f"--{name.replace('_', '-')}: {getattr(flags, name)} must be at least 1.")
    if flags.num_steps > MOST_STEPS:
        fail(f"--num-steps: {flags.num_steps} must be at most {MOST_STEPS}.")
    if not math.isfinite(flags.guidance_scale):
        fail(f"--guidance-scale: {flags.guidance_scale} is not a finite number.")
    if not -(2**31) <= flags.seed < 2**31:
        fail(f"--seed: {flags.seed} must fit in 32 bits.")


def draw(model_path, kind, flags, classes):
    """Calls the endpoint KIND_SAMPLER in batches; returns all its pictures."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    try:
        model = tf.saved_model.load(str(model_path))
        endpoint = getattr(model, f"{kind}_{flags.sampler}")
    except Exception as error:  # whatever TensorFlow makes of a broken file
        fail(f"--model: {model_path} cannot be loaded: {str(error)[:200]}")
    parts = []
    for first in range(0, flags.num, flags.batch_size):
        indices = np.arange(first, min(first + flags.batch_size, flags.num), dtype="int32")
        inputs = [np.int32(flags.seed), indices, np.int32(flags.num_steps)]
        if classes:
            inputs += [np.int32(classes)[indices % len(classes)], np.float32(flags.guidance_scale)]
        parts.append(endpoint(*map(tf.constant, inputs)).numpy())
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


def main(arguments=None):
    """Runs the command."""
    flags = parse(arguments)
    model = flags.model or newest_model()
    name = model.resolve().name
    config = read_config(model)
    classes = choose_labels(flags, config)
    resolve(flags, config, classes)
    out = flags.out or Path("samples") / (name if flags.separate else f"{name}.png")
    if not flags.separate and out.suffix.lower() != ".png":
        fail(f"--out: {out} must end in .png (or give --separate for a folder).")
    if flags.separate and out.exists() and not out.is_dir():
        fail(f"--out: {out} is a file; --separate needs a folder.")
    began = time.monotonic()
    images = draw(model, "trajectory" if flags.gif else "generate", flags, classes)
    frames, images = (images, images[-1]) if flags.gif else (None, images)
    seconds = time.monotonic() - began
    columns = len(classes) if classes and 1 < len(classes) <= 12 else round(flags.num**0.5)
    columns = max(1, min(columns, flags.num))
    try:
        if flags.separate:
            for index, image in enumerate(images):
                save(to_picture(image), out / f"{index:05d}.png")
        else:
            save(to_grid(images, columns), out, optimize=True)
        if flags.gif:
            sheets = [to_grid(frame, columns) for frame in frames]
            sheets = [sheet.convert("P", palette=Image.Palette.ADAPTIVE) for sheet in sheets]
            durations = [120] * (len(sheets) - 1) + [2000]  # milliseconds
            moving = out.with_name((out.name if flags.separate else out.stem) + ".gif")
            save(sheets[0], moving, save_all=True, append_images=sheets[1:],
                 duration=durations, loop=0)  # fmt: skip
            print(f"wrote {moving}")
    except OSError as error:
        fail(f"--out: {out} cannot be written: {error}")
    how = f"{flags.num_steps} steps of {flags.sampler}, seed {flags.seed}"
    print(f"wrote {out}: {flags.num} pictures of {model}, {how}, in {seconds:.1f} s")


if __name__ == "__main__":
    main()
