"""What the tab Edit computes: uploads and painted masks, the flags of edit.py, and its results."""

import re
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from keras_diffusion.cli import edit
from keras_diffusion.cli.app.conditions import with_text
from keras_diffusion.plotting.images import over_white, save_png, to_pillow

MAX_PIXELS = 16_000_000  # of an upload
SHOWN_SIDE = 768  # pixels, the longest side of an image that a mask is painted on
PAINTED = 64  # least alpha of a painted pixel, of 255; the edges of a brush are soft
BATCH_SIZE = 2  # results between two looks at Cancel
LONGEST_NAME = 60  # characters
_reading = threading.Lock()  # Pillow's warnings are settings of the whole process


# Given images -------------------------------------------------------------------------------


def read_upload(upload):
    """Returns (name of the file, uint8 (H, W, C)) of an upload.

    Args:
        upload: (path, the visitor's name of the file), or None.

    Raises:
        ValueError: there is none, it is no image, or too large; one line without the path.
    """
    from keras_diffusion.data import decoding

    if upload is None:
        raise ValueError("There is no image yet. Drop one first.")
    path, name = upload
    name = safe_name(name)
    with _reading:
        try:
            return name, decoding.read(path, MAX_PIXELS)
        except (OSError, ValueError) as error:
            reason = str(error).replace(repr(str(path)), repr(name))
            raise ValueError(f"{reason}. Choose another image.") from error


def safe_name(name):
    """Returns the name of an uploaded file with characters that every file system takes."""
    name = re.sub(r"[^\w.() +-]", "_", Path(name or "").name).lstrip("+.- ")
    stem, suffix = Path(name).stem[:LONGEST_NAME].rstrip(), Path(name).suffix[:10]
    return f"{stem or 'image'}{suffix or '.png'}"


def named(uploads):
    """Returns {file name: pixels} of uploads; a stem that is there already gets a number."""
    images = {}
    for name, pixels in uploads:
        path, number = Path(name), 2
        while path.stem in {Path(other).stem for other in images}:
            path = Path(f"{Path(name).stem}_{number}{path.suffix}")
            number += 1
        images[path.name] = pixels
    return images


def shown(pixels):
    """Returns an image as a Pillow image over white, reduced if it is large, to paint on."""
    image = to_pillow(over_white(pixels)).convert("RGB")
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    return image


def painted_mask(layer, size):
    """Returns what has been painted, as bool (H, W).

    Args:
        layer: file of an image that is transparent where nothing is painted; None: nowhere.
        size: (H, W) of the image; the layer is enlarged or reduced to it.

    Raises:
        ValueError: nothing is painted, or it cannot be read.
    """
    mask = np.zeros(size, bool)
    if layer is not None:
        try:
            with Image.open(layer) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError("too many pixels")
                alpha = image.convert("RGBA").getchannel("A")
        except Exception as error:  # decoders raise anything on damaged bytes
            raise ValueError("What is painted cannot be read. Paint again.") from error
        mask = np.asarray(alpha.resize(size[::-1], Image.Resampling.BILINEAR)) >= PAINTED
    if not mask.any():
        raise ValueError("Nothing is painted. Paint over the part of the image to fill.")
    return mask


# The command --------------------------------------------------------------------------------


def arguments(
    command,
    images,
    *,
    model,
    num,
    seed=None,
    num_steps=None,
    guidance_scale=None,
    condition=(),
    to=None,
    source=None,
    strength=None,
    invert=False,
    factor=None,
):
    """Returns the arguments of edit.py; what is None or empty is left out.

    Args:
        command: of edit.py.
        images: list of file names, or of seeds.
        model: what --model takes.
        condition: flags of the class or prompt of the images; with none there is no guidance.
        num, seed, num_steps, guidance_scale, to, source, strength, invert, factor: see edit.py;
            what the command does not take is left out.

    Raises:
        ValueError: a missing value.
    """
    words = [command, *map(str, images)]
    num = 1 if invert and command == "restyle" else num

    def add(flag, value):
        if value is not None and value != "":
            value = f"{value:g}" if isinstance(value, float) else str(value)
            words.extend(with_text(flag, value))

    if command == "inpaint":
        words += ["--mask", mask_name(images)]
    if command == "restyle":
        if not to:
            raise ValueError("--to: is missing. Give the class or prompt to change the image to.")
        add("--to", to)
        words += ["--invert"] if invert else []
        add("--from", source if invert else None)
    words += [] if command == "restyle" else condition
    if command == "restyle" or condition:
        add("--guidance-scale", guidance_scale)
    add("--factor", factor if command == "upscale" else None)
    if command == "variations" or command == "restyle" and not invert:
        add("--strength", strength)
    add("--num", num)
    add("--num-steps", num_steps)
    if command != "interpolate":
        add("--seed", seed or None)
    words += ["--gif"] if command == "interpolate" else []
    # Batches are small, as a job can only be cancelled between two. Their size can change the
    # rounding of an image, so that it is a part of the command.
    add("--batch-size", BATCH_SIZE if num > BATCH_SIZE else None)
    add("--model", model)
    return words


def mask_name(images):
    """Returns the name of the file of the mask of images with these names."""
    return "mask.png" if "mask.png" not in images else "mask_2.png"


# Results ------------------------------------------------------------------------------------


def compute(options, images, model, progress, mask=None):
    """Returns the `Results` of a command.

    Args:
        options: parsed flags.
        images: {file name: uint8 (H, W, C)}, or {text: seed}.
        model: `LoadedModel`.
        progress: function (done, total) of numbers of results.
        mask: None, or bool (H, W), True where the image is filled.

    Raises:
        ValueError: see `edit.compute`.
    """
    options.progress = lambda done: progress(done, options.num)
    if mask is not None:
        options.mask = [mask]
    progress(0, options.num)
    return edit.compute(options, {Path(name).stem: each for name, each in images.items()}, model)


def write(results, command, files):
    """Writes results as PNG files, and an animation as a GIF.

    Args:
        results: `Results` of one row.
        command: of edit.py.
        files: `Files`.

    Returns:
        (list of (path, caption), path of the GIF or None).
    """
    [(name, given, edited)] = results.rows
    captions = [f"result {i + 1}" if len(edited) > 1 else "result" for i in range(len(edited))]
    shown = [*zip(edited, captions, strict=True)]
    shown += [
        (image, title)
        for image, title in zip(given, results.titles, strict=True)
        if title in ("bicubic", "reduced", "grey")
    ]
    paths = []
    for number, (image, caption) in enumerate(shown, start=1):
        end = number if number <= len(edited) else caption
        path = files.new(f"{name}-{command}-{end}.png")
        save_png(path, image)
        paths.append((str(path), caption))
    animation = None
    for name, frames in results.animations.items():
        animation = files.new(f"{name}-{command}.gif")
        edit.save_animation(animation, frames)
    return paths, animation and str(animation)


def write_mask(mask, name, files):
    """Returns the path of a mask that is written under that name, as edit.py takes it."""
    path = files.new(name)
    save_png(path, np.where(mask, 255, 0).astype("uint8")[..., None])
    return str(path)
