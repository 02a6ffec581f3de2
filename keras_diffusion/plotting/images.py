"""Pictures as arrays: grids, and PNG files that are whole or not there."""

import os

import numpy as np
from PIL import Image

from keras_diffusion.runtime.files import whole_file

SMALLEST_SIDE = 560  # pixels; smaller grids are enlarged by a whole factor, to be seen


def grid(images, columns=None):
    """Arranges pictures in rows, with a thin gap, enlarged if they are tiny.

    Args:
        images: uint8 (N, H, W, C), C = 1, 3 or 4.
        columns: pictures per row; None: a square, or about one.

    Returns:
        uint8 (height, width, C).
    """
    count, height, width, channels = images.shape
    columns = min(count, columns or int(np.ceil(np.sqrt(count))))
    rows = -(-count // columns)
    gap = max(1, height // 16)
    sheet = np.full(
        (rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 255, "uint8"
    )
    for index, image in enumerate(images):
        top = gap + index // columns * (height + gap)
        left = gap + index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    factor = max(1, round(SMALLEST_SIDE / max(sheet.shape[:2])))
    return sheet.repeat(factor, axis=0).repeat(factor, axis=1)


def save_png(path, image):
    """Writes one uint8 picture (H, W, C), C = 1, 3 or 4; folders are made as needed."""
    path = os.fspath(path)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    with whole_file(path) as part:
        picture.save(part, format="PNG", optimize=True)
