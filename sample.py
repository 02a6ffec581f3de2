"""Draw pictures from an exported model:  python sample.py

Needs TensorFlow, numpy and Pillow, and nothing of keras_diffusion: all of the sampler is
inside the SavedModel, and what it can draw is in its assets.extra/config.json.
"""

import argparse
import json
import os
import re
import sys
import time
import unicodedata
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont


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


def is_share(value):
    """Whether a value is a number from 0 to 1."""
    return type(value) in (int, float) and 0 <= value <= 1


def are_names(value):
    """Whether a value is a list of strings."""
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def are_prompts(value):
    """Whether a value says how prompts are read, or is None."""
    if not isinstance(value, dict):
        return value is None
    words, plain = value.get("words"), value.get("plain")
    named = are_names(words) and are_names(plain) and len(plain) > 0
    return named and is_count(value.get("length"), 1)


# Of the newest exports that can be read. Their endpoints take so many of GUIDANCE; prompts came
# with format 3.
FORMAT = 3
GUIDANCE = ("guidance_scale", "guidance_interval", "guidance_rescale")
LATER = {"guidance_interval": [0.0, 1.0], "guidance_rescale": 0.0, "prompts": None}
START, FIRST_WORD = 1, 2  # tokens of a prompt, which is filled up with 0
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
    "guidance_rescale": (is_share, "a number from 0 to 1"),
    "prompts": (are_prompts, "null, or words, length and plain of prompts"),
}
CORNER = "guidance scale"  # of a grid with a column for each
SMALLEST_SIDE = 560  # pixels; smaller grids are enlarged by a whole factor, to be seen


def parse(arguments):
    """Returns the parsed flags; wrong ones end with one line and exit code 2."""
    flags = argparse.ArgumentParser(prog="sample.py", description=__doc__.split("\n")[0])
    flags.error = fail
    add = flags.add_argument
    add("--model", type=Path, help="SavedModel folder; default: the newest in saved_models/")
    add("--num", type=int, help="pictures at each scale; default: 8 of each class, or 64; of "
        "several scales one of each class")  # fmt: skip
    classes = flags.add_mutually_exclusive_group()
    classes.add_argument("--class-name", nargs="+", metavar="NAME", help="only these classes")
    classes.add_argument("--labels", nargs="+", type=int, help="the same by number")
    classes.add_argument("--prompt", nargs="+", metavar="TEXT", help="for models of prompts")
    add("--negative-prompt", metavar="TEXT", help="what guidance leads away from")
    add("--guidance-scale", nargs="+", type=float, metavar="S",
        help="1: off; more: more typical of the class; several: a column for each")  # fmt: skip
    add("--guidance-interval", nargs=2, type=float, metavar=("LOW", "HIGH"),
        help="times between which guidance is on, 0 (clean) to 1 (noise)")  # fmt: skip
    add("--guidance-rescale", type=float, metavar="SHARE",
        help="0 to 1: how much of the contrast that guidance adds is taken back")  # fmt: skip
    add("--sampler", help="cold, ddim, ddpm, dpmpp_2m or heun")
    add("--num-steps", type=int, help="sampler steps, 1 to 1000")
    add("--seed", type=int, default=0)
    add("--batch-size", type=int, default=64, help="pictures at once; changes none of them")
    add("--out", type=Path, help="PNG, or folder with --separate; default: under samples/")
    add("--separate", action="store_true", help="one PNG for each picture")
    add("--gif", action="store_true", help="also an animation from noise to picture")
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
    if number < FORMAT:
        config.update({name: LATER[name] for name in (*GUIDANCE[number:], "prompts")})
    for name, (valid, words) in CONFIG.items():
        if name not in config:
            fail(f"--model: {path} has no {name}; it must be {words}.")
        if not valid(config[name]):
            fail(f"--model: {path}: {name} is {config[name]!r}; it must be {words}.")
    of_classes = {"class_names": config["class_names"]}
    if config["prompts"]:
        of_classes["plain prompts"] = config["prompts"]["plain"]
    for what, names in of_classes.items():
        if len(names) not in (0, config["num_classes"]):
            fail(f"--model: {path}: {len(names)} {what} for {config['num_classes']} classes; they "
                 "must be as many.")  # fmt: skip
    return config


def choose(flags, config):
    """Returns what to draw in turn, [(name, label or tokens)]; [] for a model without classes."""
    count, names, prompts = config["num_classes"], config["class_names"], config["prompts"]
    if not count:
        for flag in ("class_name", "labels", *GUIDANCE):
            if getattr(flags, flag) is not None:
                fail(f"--{flag.replace('_', '-')}: this model was trained without labels.")
    if not prompts and (flags.prompt or flags.negative_prompt is not None):
        flag = "--prompt" if flags.prompt else "--negative-prompt"
        fail(f"{flag}: this model was trained without prompts (train.py --text).")
    for label in flags.labels or ():
        if not 0 <= label < count:
            fail(f"--labels: {label} is not in 0 .. {count - 1}.")
    for name in flags.class_name or ():
        if not names:
            fail(f"--class-name: this model has no class names; --labels takes 0 .. {count - 1}.")
        if name not in names:
            near = get_close_matches(name, names, n=5, cutoff=0.4) or names[:20]
            fail(f"--class-name: unknown {name!r}. Choose from: {', '.join(near)}.")
    if prompts:
        text = flags.negative_prompt or ""
        flags.negative_tokens = tokens_of(text, prompts, "--negative-prompt")
    if flags.prompt:
        return [(text, tokens_of(text, prompts, "--prompt")) for text in flags.prompt]
    labels = [names.index(name) for name in flags.class_name or ()] or flags.labels or range(count)
    if prompts:
        texts = [prompts["plain"][label] for label in labels]
        return [(text, tokens_of(text, prompts, "--model")) for text in texts]
    return [(names[label] if names else str(label), label) for label in labels]


def tokens_of(text, prompts, flag):
    """Returns what a model reads of a text, as keras_diffusion/conditioning/prompts/py has it."""
    known, read = prompts["words"], unicodedata.normalize("NFC", text).lower()
    found = re.findall(r"[^\W_]+(?:'[^\W_]+)*", read)
    if text.strip() and not found:
        fail(f"{flag}: {text!r} has no words.")
    unknown = []
    for word in dict.fromkeys(found):
        if word not in known:
            near = get_close_matches(word, known) or get_close_matches(word, known, 1, 0)
            unknown.append(f"{word!r} (nearest: {', '.join(near)})")
    if unknown:
        fail(f"{flag}: {text!r} has unknown word{'s' * (len(unknown) > 1)} {', '.join(unknown)}.")
    if len(found) >= prompts["length"]:
        most = prompts["length"] - 1
        fail(f"{flag}: {text!r} has {len(found)} words; the model reads {most}.")
    tokens = [START, *(FIRST_WORD + known.index(word) for word in found)]
    return tokens + [0] * (prompts["length"] - len(tokens))


def resolve(flags, config, chosen):
    """Fills in what was not given with the defaults of the model; checks the rest."""
    for name in GUIDANCE[config["format"] :]:
        if getattr(flags, name) is not None:
            fail(f"--{name.replace('_', '-')}: this model was exported before there was any "
                 f"(format {config['format']}); leave the flag out, or export the model again."
            )  # fmt: skip
    only = [name for name in ("negative_prompt", *GUIDANCE[1:]) if getattr(flags, name) is not None]
    for name in ("sampler", "num_steps", *GUIDANCE):
        if getattr(flags, name) is None:
            setattr(flags, name, config[name])
    if not isinstance(flags.guidance_scale, list):
        flags.guidance_scale = [flags.guidance_scale]
    if flags.num is None and len(flags.guidance_scale) > 1:
        flags.num = len(chosen)
    if flags.num is None:
        flags.num = 8 * len(chosen) if 0 < len(chosen) <= 12 else 64
        flags.num = max(flags.num, len(chosen))  # every class at least once
    if flags.sampler not in config["samplers"]:
        choices = ", ".join(config["samplers"])
        fail(f"--sampler: unknown {flags.sampler!r}. Choose from: {choices}.")
    ends = {"num": MOST_PICTURES, "num_steps": MOST_STEPS, "batch_size": MOST_PICTURES}
    for name, most in ends.items():
        if not 1 <= getattr(flags, name) <= most:
            what = f"--{name.replace('_', '-')}: {getattr(flags, name)}"
            fail(f"{what} must be at least 1 and at most {most}.")
    for scale in flags.guidance_scale:
        if not is_scale(scale):
            fail(f"--guidance-scale: {scale} must be 0 to {STRONGEST_GUIDANCE}.")
    if not is_interval(flags.guidance_interval):
        low, high = flags.guidance_interval
        fail(f"--guidance-interval: {low} {high} must be two times, 0 <= LOW <= HIGH <= 1.")
    if not is_share(flags.guidance_rescale):
        fail(f"--guidance-rescale: {flags.guidance_rescale} must be 0 to 1.")
    if only and set(flags.guidance_scale) == {1}:
        fail(f"--{only[0].replace('_', '-')}: changes nothing at --guidance-scale 1; give another.")
    if not -(2**31) <= flags.seed < 2**31:
        fail(f"--seed: {flags.seed} must fit in 32 bits.")


def load(path, endpoint):
    """Returns a SavedModel, if it has the endpoint."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    try:
        model = tf.saved_model.load(str(path))
    except Exception as error:  # whatever TensorFlow makes of a broken file
        fail(f"--model: {path} cannot be loaded; it is damaged: {str(error)[:200]}")
    if not hasattr(model, endpoint):
        fail(f"--model: {path} has no {endpoint}; it must be an export of keras_diffusion.")
    return model


def inputs_of(indices, scale, flags, config, chosen):
    """Returns the arguments of an endpoint for the pictures of these numbers, as arrays."""
    inputs = [np.int32(flags.seed), indices, np.int32(flags.num_steps)]
    if not chosen:
        return inputs
    inputs.append(np.int32([told for _, told in chosen])[indices % len(chosen)])
    if config["prompts"]:
        inputs.append(np.int32([flags.negative_tokens] * len(indices)))
    values = scale, flags.guidance_interval, flags.guidance_rescale
    return inputs + [np.float32(value) for value in values[: config["format"]]]


def draw(path, flags, config, chosen):
    """Draws in batches; returns pictures ([F,] N, H, W, C), those of each scale side by side."""
    name = f"{'trajectory' if flags.gif else 'generate'}_{flags.sampler}"
    model = load(path, name)
    import tensorflow as tf

    total, done, columns = len(flags.guidance_scale) * flags.num, 0, []
    for scale in flags.guidance_scale:
        parts = []
        for first in range(0, flags.num, flags.batch_size):
            indices = np.arange(first, min(first + flags.batch_size, flags.num), dtype="int32")
            inputs = inputs_of(indices, scale, flags, config, chosen)
            try:
                parts.append(getattr(model, name)(*map(tf.constant, inputs)).numpy())
            except (MemoryError, tf.errors.ResourceExhaustedError):
                fail("out of memory: choose a smaller --batch-size.", after_progress=done)
            except Exception as error:  # a graph of another program
                fail(f"--model: {path} cannot be sampled, it is not what its config.json says: "
                     f"{str(error)[:200]}", after_progress=done)  # fmt: skip
            shape = (len(indices), *config["image_shape"])
            if parts[-1].dtype != np.uint8 or parts[-1].shape[-4:] != shape:
                fail(f"--model: {path} gives {parts[-1].dtype} {parts[-1].shape}, but by its "
                     f"config.json it must be uint8 {shape}.")  # fmt: skip
            done += len(indices)
            print(f"\r{done}/{total}", end="", file=sys.stderr, flush=True)
        columns.append(np.concatenate(parts, axis=-4))
    print(file=sys.stderr)
    rows = np.stack(columns, axis=-4)  # one for each picture, with a column for each scale
    return rows.reshape(*rows.shape[:-5], -1, *config["image_shape"])


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


def labelled(sheet, rows, columns):
    """Writes the names of rows and columns beside a grid, and above it."""
    font = ImageFont.load_default(14)
    left, top = 16 + round(max(font.getlength(name) for name in (CORNER, *rows))), 28
    page = Image.new("RGB", (left + sheet.width, top + sheet.height), "white")
    page.paste(sheet, (left, top))
    pen = ImageDraw.Draw(page)
    pen.text((left - 8, top - 8), CORNER, "black", font, anchor="rs")
    for row, name in enumerate(rows):
        middle = top + (row + 0.5) * sheet.height / len(rows)
        pen.text((left - 8, middle), name, "black", font, anchor="rm")
    for column, name in enumerate(columns):
        middle = left + (column + 0.5) * sheet.width / len(columns)
        pen.text((middle, top - 8), name, "black", font, anchor="ms")
    return page


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


def arranged(flags, chosen):
    """Returns the function from pictures to a grid: a column for each class, or for each scale."""
    if len(flags.guidance_scale) > 1:
        rows = [chosen[row % len(chosen)][0] for row in range(flags.num)]
        columns = [f"{scale:g}" for scale in flags.guidance_scale]
        return lambda images: labelled(to_grid(images, len(columns)), rows, columns)
    columns = len(chosen) if 1 < len(chosen) <= 12 else round(flags.num**0.5)
    return lambda images: to_grid(images, max(1, min(columns, flags.num)))


def write(images, frames, out, flags, arrange):
    """Writes the pictures and, where there are frames, the way to them."""
    if flags.separate:
        for index, image in enumerate(images):
            save(to_picture(image), out / f"{index:05d}.png")
    else:
        save(arrange(images), out, optimize=True)
    if frames is not None:
        sheets = [arrange(frame) for frame in frames]
        sheets = [sheet.convert("P", palette=Image.Palette.ADAPTIVE) for sheet in sheets]
        durations = [120] * (len(sheets) - 1) + [2000]  # milliseconds
        moving = out.parent / f"{out.absolute().name if flags.separate else out.stem}.gif"
        save(sheets[0], moving, save_all=True, append_images=sheets[1:],
             duration=durations, loop=0)  # fmt: skip
        print(f"wrote {moving}")


def main(arguments=None):
    """Runs the command."""
    flags = parse(arguments)
    model = flags.model or newest_model()
    name = model.resolve().name
    config = read_config(model)
    chosen = choose(flags, config)
    resolve(flags, config, chosen)
    try:
        out = choose_out(flags, name)
        began = time.monotonic()
        images = draw(model, flags, config, chosen)
        seconds = time.monotonic() - began
        frames, images = (images, images[-1]) if flags.gif else (None, images)
        write(images, frames, out, flags, arranged(flags, chosen))
    except MemoryError:
        fail("out of memory: choose a smaller --num.")
    except OSError as error:
        fail(f"--out: {flags.out or 'samples/'} cannot be written: {error}")
    how = f"{flags.num_steps} steps of {flags.sampler}, seed {flags.seed}"
    print(f"wrote {out}: {len(images)} pictures of {model}, {how}, in {seconds:.1f} s")


if __name__ == "__main__":
    main()
