"""Decoding image files with Pillow, and finding out whether they can be decoded."""

import concurrent.futures
import contextlib
import os
import pathlib
import threading
import warnings

import numpy as np
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".apng")
ANIMATIONS = (".gif", ".webp", ".png", ".apng")
# Images of formats that are not read, or only by some builds of Pillow.
OTHER_EXTENSIONS = (".tif", ".tiff", ".jfif", ".jp2", ".avif", ".heic", ".heif", ".svg", ".dng")
NOT_AN_IMAGE = "not an image by its name"
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_GREY_MODES = ("1", "L", "LA", "La")


def read(path, max_pixels=None):
    """Reads one image of any format that Pillow supports.

    Args:
        path: file name.
        max_pixels: None, or the most pixels that are decoded, to limit memory and time.

    Returns:
        uint8 array (height, width, channels); channels as in `folder.scan`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as an image.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(f"there is no image {str(path)!r}")

    def measure(image):
        if max_pixels and image.width * image.height > max_pixels:
            raise ValueError(f"{image.width}x{image.height} are more than {max_pixels:,} pixels")
        return _measure(image)

    with _caught_warnings():
        probe = _probe(pathlib.Path(path), measure)
        if isinstance(probe, str):
            raise ValueError(f"{str(path)!r} cannot be read: {probe}")
        return decode(path, probe[2])


def decode(path, channels):
    """Decodes one image, upright by its EXIF orientation.

    Args:
        path: file name. Of an animation, the first frame is read.
        channels: 1 (gray by luma) or 3, both over white where the file is transparent, or 4 (with
            alpha, 255 where the file has none).

    Returns:
        uint8 array (height, width, channels).
    """
    with Image.open(path) as image:
        return _pixels(_upright(image), channels)


def decode_animation(path, first, count, channels):
    """Decodes some frames of an animated GIF, WebP or PNG.

    Args:
        path: file name.
        first: int from 0, the first of the frames.
        count: int.
        channels: 1 or 3, as in `decode`.

    Returns:
        uint8 array (count, height, width, channels).
    """
    with Image.open(path) as image:
        first += _skipped_frames(image)
        frames = enumerate(ImageSequence.Iterator(image))  # most formats decode in order only
        wanted = [_pixels(_upright(f), channels) for i, f in frames if first <= i < first + count]
    return np.stack(wanted)


def is_animated(path):
    """bool: a file that can be opened, and has several frames."""
    if path.suffix.lower() not in ANIMATIONS or not path.is_file():
        return False
    try:
        with Image.open(path) as image:
            return image.is_animated and image.n_frames - _skipped_frames(image) > 1
    except Exception:  # noqa: BLE001  decoders raise anything on damaged bytes
        return False  # `probe` says why


def probe(paths):
    """Decodes each file once, to be sure that it can be read.

    Args:
        paths: list of Path.

    Returns:
        A list of (result, messages): result is (height, width, channels), or text: why the file
        cannot be decoded; messages is the list of Pillow's warnings about it.
    """
    return _in_threads(_measure, paths)


def probe_animations(paths):
    """As `probe`, for animations: each result is (height, width, channels, number of frames)."""
    return _in_threads(_measure_animation, paths)


def _in_threads(measure, paths):
    def one(path):
        _current.messages = messages = []
        return _probe_by_name(path, measure), messages

    with _caught_warnings(), concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(one, paths))  # decoders run without the GIL


def is_image_name(path):
    """bool: the extension is that of an image, one that can be read or not."""
    return path.suffix.lower() in (*EXTENSIONS, *OTHER_EXTENSIONS)


def _upright(image):
    """Loads an image in a mode that Pillow converts correctly to L, RGB and RGBA."""
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bit gray: Pillow would clip it at 255 instead of scaling
        pixels = np.asarray(image)
        key = image.info.get("transparency")
        image = Image.fromarray((pixels >> 8).clip(0, 255).astype(np.uint8))
        if isinstance(key, int):  # the value that is transparent
            image.putalpha(Image.fromarray(np.where(pixels == key, 0, 255).astype(np.uint8)))
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    return image


def _pixels(image, channels):
    """uint8 array (height, width, channels) of an image as from `_upright`."""
    if _has_alpha(image):  # of a palette, only RGBA keeps all of it
        image = image.convert("RGBA")
        if channels < 4:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image).convert("RGB")
    pixels = np.array(image.convert(_MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def _skipped_frames(image):
    """int: 1 if an animated PNG begins with a still image that is not part of the animation."""
    return int(getattr(image, "default_image", False))


_current = threading.local()  # .messages: the warnings about the file that this thread reads


@contextlib.contextmanager
def _caught_warnings():
    """Turns Pillow's warning about huge images into an error, and collects its other warnings."""

    def collect(message, *_, **__):
        getattr(_current, "messages", []).append(" ".join(str(message).split()))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.showwarning = collect
        yield


def _probe_by_name(path, measure):
    suffix = path.suffix.lower()
    if suffix in EXTENSIONS:
        return _probe(path, measure)
    if suffix in OTHER_EXTENSIONS:
        return f"{suffix} is not read, convert it to PNG"
    return NOT_AN_IMAGE


def _probe(path, measure):
    """Returns what `measure` returns of the open image, or text: why it cannot be decoded."""
    if not path.is_file():  # reading a pipe would block
        return "not a file" if path.exists() else "a broken link"
    try:
        if not path.stat().st_size:
            return "an empty file"
        with Image.open(path) as image:
            return measure(image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return f"more than {Image.MAX_IMAGE_PIXELS} pixels"
    except UnidentifiedImageError:
        return "not an image by its content"
    except Exception as error:  # noqa: BLE001  decoders raise anything on damaged bytes
        brief = str(error).partition("\n")[0].replace(repr(str(path)), "file")
        return brief or type(error).__name__


def _measure(image):
    """(height, width, channels) of an image."""
    image = _upright(image)
    channels = 4 if _is_transparent(image) else 1 if image.mode in _GREY_MODES else 3
    return image.height, image.width, channels


def _measure_animation(image):
    """(height, width, channels, number of frames) of an animation; GIF has no grey mode."""
    skipped, channels, count = _skipped_frames(image), 1, 0
    for index, frame in enumerate(ImageSequence.Iterator(image)):
        if index >= skipped:
            pixels, count = _pixels(_upright(frame), 3), count + 1
            channels = max(channels, 1 if np.ptp(pixels, axis=-1).max() == 0 else 3)
    return *pixels.shape[:2], channels, count


def _has_alpha(image):
    return image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info


def _is_transparent(image):
    """Whether any pixel is transparent: many programs write an alpha of 255 everywhere."""
    return _has_alpha(image) and image.convert("RGBA").getchannel("A").getextrema()[0] < 255
