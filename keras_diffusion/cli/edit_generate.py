"""Commands of edit.py that generate images from images: variations, another class, in-betweens."""

from pathlib import Path

import numpy as np

from keras_diffusion.cli.edit_inputs import (
    Results,
    add_class_flags,
    add_common_flags,
    add_guidance_flag,
    add_images,
    add_seed_flag,
    class_or_prompt,
    conditions,
    guidance,
    resized,
    settings,
)
from keras_diffusion.cli.parsing import within

STRENGTH = 0.6  # of restyle


def add_commands(command):
    """Adds the commands; command(name, function, help) returns the parser of one."""
    # fmt: off
    sub = command("variations", variations, "generate images that are similar to one")
    add_images(sub, "an image of any size", nargs=1)
    sub.add_argument("--strength", type=within(0.001, 1, float), default=0.5, metavar="S",
        help="how different: near 0 as the image, 1 as any other")
    add_class_flags(sub)
    add_common_flags(sub, 8)
    add_seed_flag(sub)

    sub = command("restyle", restyle, "change the class of images, or what a prompt says of them")
    add_images(sub, "images of any size")
    sub.add_argument("--to", required=True, metavar="CLASS",
        help="name or number of the new class, or a prompt")
    way = sub.add_mutually_exclusive_group()
    way.add_argument("--strength", type=within(0.001, 1, float), metavar="S",
        help=f"how different: near 0 as the image, 1 as any of the class; default: {STRENGTH}")
    way.add_argument("--invert", action="store_true",
        help="instead, turn images into the noise that gives them, and sample from it; this has "
        "one result, whatever the seed")
    sub.add_argument("--from", dest="source", metavar="CLASS",
        help="class or prompt of the images, for --invert; default: none")
    add_guidance_flag(sub)
    add_common_flags(sub, 1)
    add_seed_flag(sub)

    sub = command("interpolate", interpolate, "generate the images between two")
    for name in "AB":
        sub.add_argument("images", action="append", type=image_or_seed, metavar=name,
            help="an image of any size, or the seed of a sample")
    sub.add_argument("--gif", action="store_true", help="also an animation")
    add_class_flags(sub)
    add_common_flags(sub, 8)
    # fmt: on


def image_or_seed(text):
    """Parses a path, or a whole number that is no file."""
    if text.isdecimal() and not Path(text).exists():
        return within(0, 2**31 - 1)(text)
    return Path(text)


def variations(options, images, model):
    """Generates images that are similar to one; see `Results`."""
    from keras_diffusion.sampling import editing

    parts, lines = _fitted(images, model)
    results = editing.variations(
        model,
        parts[0],
        options.num,
        strength=options.strength,
        **conditions(options, model, 1),
        **settings(options),
    )
    rows = [(name, [part], list(results)) for name, part in zip(images, parts, strict=True)]
    return Results(rows, ("given",), lines)


def restyle(options, images, model):
    """Changes the class of images; see `Results`."""
    from keras_diffusion.sampling import editing

    name, target = class_or_prompt("--to", options.to, model)
    if options.source is not None and not options.invert:
        raise ValueError("--from: no effect without --invert. Give both, or leave it out.")
    if options.num > 1 and options.invert:
        raise ValueError("--num: there is one result with --invert. Leave one of them out.")
    parts, lines = _fitted(images, model)
    common = {**guidance(options, model), **settings(options)}
    if options.invert:
        source = None
        if options.source is not None:
            _, source = class_or_prompt("--from", options.source, model)
        del common["seed"]
        results = editing.translate(model, parts, source=source, target=target, **common)
    else:
        strength = options.strength or STRENGTH
        repeated = parts.repeat(options.num, axis=0)
        common[name] = [target] * len(repeated)
        results = editing.img2img(model, repeated, strength=strength, **common)
    results = results.reshape(len(parts), options.num, *results.shape[1:])
    rows = [(n, [part], edited) for n, part, edited in zip(images, parts, results, strict=True)]
    return Results(rows, ("given",), lines)


def interpolate(options, images, model):
    """Generates the images between two; see `Results`."""
    from keras_diffusion.sampling import editing

    name, ends = "-".join(images), list(images.values())
    given, lines = [], []
    if isinstance(ends[0], int) != isinstance(ends[1], int):
        raise ValueError("A: and B are an image and a seed. Give two images, or two seeds.")
    if not isinstance(ends[0], int):
        given, lines = _fitted(images, model)
        ends = given
    condition = conditions(options, model, 1)
    for flag in {"labels", "prompts"} & set(condition):
        condition[flag] = condition[flag][0]
        if len(given) and options.guidance_scale is None:  # which would change A and B
            condition = {flag: condition[flag]}
    frames = editing.interpolate(model, *ends, options.num, **condition, **settings(options))
    animations = {name: list(frames)} if options.gif else {}
    return Results([(name, list(given), list(frames))], ("A", "B")[: len(given)], lines, animations)


def _fitted(images, model):
    """Returns (uint8 (N, H, W, C) of the model's size, list of text: what was done)."""
    from keras_diffusion.data import fitting

    parts, lines = [], []
    for name, pixels in images.items():
        window = fitting.largest_window(pixels.shape[:2], model.image_shape)
        parts.append(fitting.fit(pixels, window, model.image_shape))
        lines.append(f"{name}: {resized(pixels, window, model.image_shape)}")
    return np.stack(parts), lines
