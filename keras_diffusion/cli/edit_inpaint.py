"""The command `inpaint` of edit.py, and its masks."""

import numpy as np

from keras_diffusion.cli.edit_inputs import Results, add_images, read_image, resized
from keras_diffusion.cli.edit_restore import add_flags, restore
from keras_diffusion.cli.parsing import within
from keras_diffusion.config.fields import LARGEST_INT
from keras_diffusion.plotting.comparisons import shade


def add_commands(command):
    """Adds the command; command(name, function, help) returns its parser."""
    # fmt: off
    sub = command("inpaint", inpaint, "fill a part of images; all other pixels stay as they are")
    add_images(sub, "images of any size")
    part = sub.add_mutually_exclusive_group(required=True)
    part.add_argument("--mask", nargs="+", metavar="MASK",
        help="what is filled: a PNG of the size of the image that is white there, one for all "
        "images or one for each; or alpha: where the image is transparent")
    part.add_argument("--box", nargs=4, type=within(0, LARGEST_INT), metavar=("X", "Y", "W", "H"),
        help="fill a box instead: left, top, width and height in pixels")
    add_flags(sub, 3)
    # fmt: on


def inpaint(options, images, model):
    """Fills what is masked; see `Results`."""
    from keras_diffusion.data import fitting
    from keras_diffusion.diffusion import operators

    images, masks = _masked(options, images)
    windows, parts, known = [], [], []
    for pixels, mask in zip(images.values(), masks, strict=True):
        size, box = pixels.shape[:2], fitting.bounding_box(mask)
        window = fitting.largest_window(size, model.image_shape, box)
        if not fitting.contains(window, box):
            window = fitting.whole_window(size, model.image_shape)
        fitted = fitting.fit_masked(pixels, mask, window, model.image_shape)
        windows.append(window), parts.append(fitted[0]), known.append(fitted[1])
    known = np.repeat(np.stack(known), options.num, axis=0)
    results = restore(options, model, parts, operators.mask(known))
    rows, lines = [], []
    for (name, pixels), mask, window, edited in zip(
        images.items(), masks, windows, results, strict=True
    ):
        edited = [fitting.put_back(pixels, mask, window, result) for result in edited]
        rows.append((name, [pixels, shade(pixels, mask)], edited))
        lines.append(f"{name}: {resized(pixels, window, model.image_shape)}; only the "
                     f"{mask.sum():,} masked pixels of the file change")  # fmt: skip
    return Results(rows, ("given", "masked"), lines)


def _masked(options, images):
    """Returns ({name: image without transparency}, list of bool (H, W): what is filled)."""
    if options.mask and len(options.mask) not in (1, len(images)):
        raise ValueError(
            f"--mask: {len(options.mask)} masks for {len(images)} images. Give one for all, or one "
            "for each."
        )
    given = options.mask or [None]
    given = given * len(images) if len(given) == 1 else given
    masks = []
    for (name, pixels), mask in zip(images.items(), given, strict=True):
        flag, size, what = "--mask", pixels.shape[:2], "white"
        if mask is None:
            flag, mask = "--box", _box(options.box, name, size)
        elif isinstance(mask, str) and mask == "alpha":
            what = "transparent"
            mask = pixels[..., -1] < 255 if pixels.shape[-1] == 4 else np.zeros(size, bool)
            images[name] = pixels[..., :3]
        elif isinstance(mask, str):
            mask = _read_mask(mask, size)
        if not mask.any():
            raise ValueError(f"{flag}: nothing of {name} is {what}. Mark what is to be filled.")
        if mask.all():
            raise ValueError(f"{flag}: all of {name} would be filled. Leave a part as it is.")
        masks.append(mask)
    return images, masks


def _read_mask(path, size):
    """Returns bool (H, W), True where a file is white; what is transparent counts as black."""
    pixels = read_image("--mask", path).astype("float32")
    if pixels.shape[:2] != size:
        actual, expected = ("x".join(map(str, pair)) for pair in (pixels.shape[:2], size))
        raise ValueError(
            f"--mask: {path} has {actual} pixels (height x width), its image {expected}. Give a "
            "mask of the size of the image."
        )
    bright = pixels[..., :3].mean(axis=-1)
    return (bright * pixels[..., 3] / 255 if pixels.shape[-1] == 4 else bright) >= 128


def _box(box, name, size):
    """Returns bool (H, W), True in a box (x, y, width, height)."""
    left, top, width, height = box
    if not (width and height) or left + width > size[1] or top + height > size[0]:
        raise ValueError(
            f"--box: {left} {top} {width} {height} is not within {name}, which is {size[1]} wide "
            f"and {size[0]} high. Give left, top, width and height in pixels."
        )
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = True
    return mask
