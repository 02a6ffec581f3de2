"""Reading a folder of images with Pillow: files, classes, pixels."""

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import unicodedata
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """The readable images of a folder.

    Attributes:
        paths: tuple of N file names, sorted.
        labels: int64 array (N,), or None if the folder has no class sub-folders.
        class_names: tuple of the sub-folders' names, empty without labels.
        image_shape: (height, width, channels); height and width are None where they vary.
        skipped: tuple of "file: reason" for files that cannot be used.
    """

    paths: tuple
    labels: np.ndarray | None
    class_names: tuple
    image_shape: tuple
    skipped: tuple


def scan(root):
    """Lists the images in a folder, and decodes each once to be sure that it can be read.

    Sub-folders are the classes and are searched at any depth. Images of a folder without
    sub-folders are unlabelled. Hidden files are ignored. An image of more than 89 million pixels,
    Pillow's limit, is skipped before it is decoded.

    Args:
        root: path of the folder.

    Returns:
        `ImageFolder`. Its channels suffice for all files: 1 if all are gray, 4 if any is
        transparent somewhere, else 3.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it has no readable image.
    """
    root = pathlib.Path(root)
    if not root.is_dir():
        if root.exists():
            raise NotADirectoryError(f"{str(root)!r} is a file, not a folder")
        raise FileNotFoundError(f"there is no folder {str(root)!r}")
    groups, skipped = _groups(root)
    files = [(path, _normalised(name)) for name, paths in groups.items() for path in paths]
    with _only_bomb_warnings(), concurrent.futures.ThreadPoolExecutor() as pool:
        probes = list(pool.map(_probe_by_name, (path for path, _ in files)))  # without the GIL
    readable = []
    for (path, name), probe in zip(files, probes, strict=True):
        if isinstance(probe, str):
            skipped.append(f"{path.relative_to(root)}: {probe}")
        else:
            readable.append((str(path), name, probe))
    if not readable:
        detail = f" (skipped {skipped[0]})" if skipped else ""
        raise ValueError(
            f"no readable image in the folder {str(root)!r}{detail}; put {', '.join(EXTENSIONS)} "
            "files directly inside, or into one sub-folder per class"
        )
    paths, names, probes = zip(*readable, strict=True)
    class_names = tuple(sorted(set(names) - {None}))
    labels = np.array([class_names.index(n) for n in names], np.int64) if class_names else None
    return ImageFolder(paths, labels, class_names, _common_shape(probes), tuple(skipped))


def read(path):
    """Reads one image of any format that Pillow supports.

    Args:
        path: file name.

    Returns:
        uint8 array (height, width, channels); channels as in `scan`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as an image.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(f"there is no image {str(path)!r}")
    with _only_bomb_warnings():
        probe = _probe(pathlib.Path(path))
        if isinstance(probe, str):
            raise ValueError(f"{str(path)!r} cannot be read: {probe}")
        return decode(path, probe[2])


def decode(path, channels):
    """Decodes one image, upright by its EXIF orientation.

    Args:
        path: file name (str or bytes). Of an animation, the first frame is read.
        channels: 1 (gray by luma), 3, or 4 (with alpha, 255 where the file has none).

    Returns:
        uint8 array (height, width, channels).
    """
    image = _open(path)
    if image.mode.startswith("I"):  # 16 bit gray: Pillow would clip it at 255 instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    if image.mode == "P" and "transparency" in image.info:  # only RGBA keeps all of it
        image = image.convert("RGBA")
    pixels = np.array(image.convert(_MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def _open(path):
    with Image.open(os.fsdecode(path)) as image:
        image.load()
        return ImageOps.exif_transpose(image)


@contextlib.contextmanager
def _only_bomb_warnings():
    """Turns Pillow's warning about huge images into an error, and hides its other warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _probe_by_name(path):
    return _probe(path) if path.suffix.lower() in EXTENSIONS else "not an image by its name"


def _probe(path):
    """Returns (height, width, channels) of the decoded file, or str: why it cannot be decoded."""
    if not path.is_file():  # reading a pipe would block
        return "not a file" if path.exists() else "a broken link"
    try:
        if not path.stat().st_size:
            return "an empty file"
        image = _open(path)
        transparent = _is_transparent(image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return f"more than {Image.MAX_IMAGE_PIXELS} pixels"
    except UnidentifiedImageError:
        return "not an image by its content"
    except Exception as error:  # noqa: BLE001  decoders raise anything on damaged bytes
        brief = str(error).partition("\n")[0].replace(repr(str(path)), "file")
        return brief or type(error).__name__
    if transparent:
        channels = 4
    else:
        gray = image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I")
        channels = 1 if gray else 3
    return image.height, image.width, channels


def _is_transparent(image):
    """Whether any pixel is transparent: many programs write an alpha of 255 everywhere."""
    if image.mode not in ("LA", "PA", "RGBA", "La", "RGBa") and "transparency" not in image.info:
        return False
    return image.convert("RGBA").getchannel("A").getextrema()[0] < 255


def _common_shape(shapes):
    heights, widths, channels = (set(values) for values in zip(*shapes, strict=True))
    height, width = (values.pop() if len(values) == 1 else None for values in (heights, widths))
    if 4 in channels:
        return height, width, 4
    return height, width, 1 if channels == {1} else 3


def _normalised(name):
    """Returns a class name in Unicode NFC, as keyboards type it; macOS stores names in NFD."""
    return name and unicodedata.normalize("NFC", name)


def _groups(root):
    """Returns ({class name: sorted files}, notes); the class is None without sub-folders."""
    entries = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    folders = {path.name: _files_below(path) for path in entries if path.is_dir()}
    notes = [f"{name}: a folder without files" for name, files in folders.items() if not files]
    folders = {name: files for name, files in folders.items() if files}
    loose = [path for path in entries if not path.is_dir()]
    if not folders:
        return {None: loose}, notes
    return folders, notes + [f"{path.name}: not in a class folder" for path in loose]


def _files_below(folder):
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [pathlib.Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(files)
