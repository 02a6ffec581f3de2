"""Comparison grids: images of different sizes side by side, one row for each given image."""

import numpy as np
from PIL import Image

from keras_diffusion.plotting.images import add_labels, grid, over_white, readable, to_pillow

CELL = 192  # pixels, the longest side of an image in a comparison; a multiple of 64, 32 and 16
MAX_RESULTS = 8  # in a row
GREY = 128  # of masked pixels
LONGEST_NAME = 24  # characters


def shade(pixels, mask):
    """Returns a uint8 image (H, W, C) that is grey, and opaque, where `mask` (H, W) is True."""
    grey = [GREY, GREY, GREY, 255] if pixels.shape[-1] == 4 else GREY
    return np.where(mask[..., None], np.array(grey, "uint8"), pixels)


def comparison(rows, titles, results="result"):
    """Arranges given images and results in rows, with labels.

    A small image is enlarged by a whole factor, a large one is reduced. More than 8 results of a
    row continue below it.

    Args:
        rows: list of (label, list of given images, list of results); each image is uint8
            (H, W, C), of any size. All rows have as many images.
        titles: list of text, above the given images.
        results: text above the results, with a number if there are several; or a list of text.

    Returns:
        Pillow image in RGB.
    """
    columns = min(MAX_RESULTS, len(rows[0][2]))
    if isinstance(results, str):
        several = [f"{results} {i + 1}" for i in range(columns)] if columns > 1 else [results]
        results = several if len(rows[0][2]) <= columns else [f"{results}s", *[""] * (columns - 1)]
    cells, labels = [], []
    for label, given, images in rows:
        for first in range(0, len(images), columns):
            part = images[first : first + columns]
            lead = given if first == 0 else [None] * len(given)
            cells += [*lead, *part, *[None] * (columns - len(part))]
            labels.append(readable(label, len(labels) + 1, LONGEST_NAME) if first == 0 else "")
    tiles = [cell if cell is None else tile(cell) for cell in cells]
    sizes = [shown.size for shown in tiles if shown]
    width, height = (max(side) for side in zip(*sizes, strict=True))
    sheet = np.stack([_placed(shown, (width, height)) for shown in tiles])
    return add_labels(grid(sheet, len(titles) + columns), labels, [*titles, *results])


def tile(pixels):
    """Returns an image as a comparison shows it: over white, enlarged or reduced; in RGB."""
    image = to_pillow(over_white(pixels)).convert("RGB")
    longest = max(image.size)
    if longest > CELL:
        size = [max(1, round(side * CELL / longest)) for side in image.size]
        return image.resize(size, Image.Resampling.BOX, reducing_gap=3.0)
    factor = CELL // longest
    return image.resize([side * factor for side in image.size], Image.Resampling.NEAREST)


def _placed(image, size):
    cell = Image.new("RGB", size, "white")
    if image:
        places = zip(size, image.size, strict=True)
        cell.paste(image, tuple((side - length) // 2 for side, length in places))
    return np.asarray(cell)
