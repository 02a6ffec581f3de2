"""Grids of images and clips, labels beside them, PNG and GIF files (numpy and Pillow only).

Images are uint8 arrays (H, W, C) with C = 1, 3 or 4. What is shown, a grid or an animation, has
transparent images over white. A clip has frames * C channels, see `split_frames`. Files are
written whole or not at all.
"""

import functools
import importlib.util
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_diffusion.runtime.files import whole_file

MIN_SIDE = 560  # pixels; smaller grids are enlarged by a whole factor
GIF_COLOURS = (256, 64, 16, 8)  # per frame; fewer only if the file would be too large
LONGEST_LABEL = 48  # characters


def to_pillow(image):
    """Converts uint8 (H, W, C) to a Pillow image."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def over_white(images):
    """Composites uint8 (..., 4) over white: (..., 3); other images are unchanged."""
    if images.shape[-1] != 4:
        return images
    alpha = images[..., 3:].astype("uint16")
    color = images[..., :3] * alpha + 255 * (255 - alpha)  # at most 255 * 255
    return ((color + 127) // 255).astype("uint8")


def grid(images, columns=None):
    """Arranges images in rows with thin white gaps, and enlarges the grid if it is small.

    Transparent images are shown over white.

    Args:
        images: uint8 (N, H, W, C).
        columns: int, images per row. None: ceil(sqrt(N)).

    Returns:
        Pillow image.
    """
    images = over_white(images)
    count, height, width, channels = images.shape
    columns = min(count, columns or int(np.ceil(np.sqrt(count))))
    rows = -(-count // columns)
    gap = max(1, height // 16)
    sheet = np.full(
        (rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 255, "uint8"
    )
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        sheet[top : top + height, left : left + width] = image
    factor = max(1, round(MIN_SIDE / max(sheet.shape[:2])))
    return to_pillow(sheet.repeat(factor, axis=0).repeat(factor, axis=1))


def split_frames(clips, frames):
    """Splits clips (..., H, W, frames * C) into their frames: (..., frames, H, W, C)."""
    height, width, channels = clips.shape[-3:]
    clips = clips.reshape(*clips.shape[:-1], frames, channels // frames)
    return np.moveaxis(clips, -2, -4)


def strips(clips, frames):
    """Shows clips with their frames side by side.

    Args:
        clips: uint8 (N, H, W, frames * C).
        frames: int.

    Returns:
        uint8 (N, H, width, C), with thin white gaps between the frames. Images (frames 1) are
        unchanged.
    """
    if frames == 1:
        return clips
    parts = split_frames(clips, frames)
    gap = max(1, clips.shape[1] // 32)
    parts = np.pad(parts, [(0, 0)] * 3 + [(0, gap), (0, 0)], constant_values=255)
    return np.concatenate(list(np.moveaxis(parts, 1, 0)), axis=2)[:, :, :-gap]


@functools.cache
def _font(size):
    """matplotlib's DejaVu Sans, found without importing matplotlib, else Pillow's font."""
    spec = importlib.util.find_spec("matplotlib")
    if spec and spec.origin:
        path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def readable(text, number, longest=LONGEST_LABEL):
    """Returns text for an image or a figure, in one line.

    Args:
        text: any text.
        number: what replaces it if the font lacks a character of it.
        longest: characters.
    """
    text, font = " ".join(text.split()), _font(14)
    missing = bytes(font.getmask("\uffff"))
    if any(bytes(font.getmask(character)) == missing for character in set(text) - {" "}):
        return str(number)
    return text if len(text) <= longest else text[: longest - 3] + "..."


def add_labels(sheet, rows, columns, corner=""):
    """Writes a label to the left of each row of a grid and above each column.

    Args:
        sheet: Pillow image, a grid of `len(rows)` x `len(columns)` images.
        rows, columns: lists of text.
        corner: text above the row labels.

    Returns:
        Pillow image in RGB, larger than the grid.
    """
    font = _font(14)
    rows, columns = ([readable(t, i) for i, t in enumerate(texts)] for texts in (rows, columns))
    left, top = 16 + round(max(font.getlength(text) for text in (corner, *rows))), 28
    labelled = Image.new("RGB", (left + sheet.width, top + sheet.height), "white")
    labelled.paste(sheet, (left, top))
    canvas = ImageDraw.Draw(labelled)
    canvas.text((left - 8, top - 8), corner, "black", font, anchor="rs")
    for row, text in enumerate(rows):
        middle = top + (row + 0.5) * sheet.height / len(rows)
        canvas.text((left - 8, middle), text, "black", font, anchor="rm")
    for column, text in enumerate(columns):
        middle = left + (column + 0.5) * sheet.width / len(columns)
        canvas.text((middle, top - 8), text, "black", font, anchor="ms")
    return labelled


def save_png(path, image):
    """Writes a uint8 array (H, W, C) or a Pillow image as PNG; creates missing folders."""
    image = image if isinstance(image, Image.Image) else to_pillow(image)
    with _new_file(path) as part:
        image.save(part, format="PNG", optimize=True)


def save_gif(path, frames, durations, max_bytes=None):
    """Writes an endless GIF; creates missing folders.

    Args:
        path: of the file.
        frames: list of Pillow images of one size, without alpha.
        durations: list, milliseconds per frame.
        max_bytes: None, or a limit that is kept by using fewer colours.

    Raises:
        ValueError: the file is larger even with the fewest colours.
    """
    with _new_file(path) as part:
        for colours in GIF_COLOURS:
            first, *others = (frame.quantize(colours) for frame in frames)
            first.save(part, format="GIF", append_images=others, save_all=True,
                       duration=durations, loop=0)  # fmt: skip
            if max_bytes is None or os.path.getsize(part) <= max_bytes:
                return
        raise ValueError(f"{path}: larger than {max_bytes} bytes. Use fewer frames.")


def _new_file(path):
    path = os.fspath(path)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    return whole_file(path)
