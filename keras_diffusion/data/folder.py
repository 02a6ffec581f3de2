"""Reading a folder of images with Pillow: files, splits, classes, pixels."""

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import threading
import unicodedata
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from keras_diffusion.runtime import console

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
# Images of formats that are not read, or only by some builds of Pillow.
OTHER_EXTENSIONS = (".tif", ".tiff", ".jfif", ".jp2", ".avif", ".heic", ".heif", ".svg", ".dng")
SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
NOT_AN_IMAGE = "not an image by its name"
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}

# `scan` has named the file; Python's warning would name a line of Pillow, once for each image.
warnings.filterwarnings("ignore", message="(?i).*corrupt EXIF|Truncated File Read")


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """The readable images of a folder.

    Attributes:
        paths: tuple of N file names, sorted.
        labels: int64 array (N,), or None if the folder has no class sub-folders.
        class_names: tuple of the sub-folders' names, empty without labels.
        image_shape: (height, width, channels); height and width are None where they vary.
        skipped: tuple of "file: reason" for files that are not used.
        channels: int64 array (N,), what each file needs: 1 grey, 3 colour, 4 transparent.
        held_out: bool array (N,), the images for validation; None: not split by folders.
        notes: tuple of text, one line each: how the folder was read.
    """

    paths: tuple
    labels: np.ndarray | None
    class_names: tuple
    image_shape: tuple
    skipped: tuple
    channels: np.ndarray
    held_out: np.ndarray | None = None
    notes: tuple = ()

    def channel_notes(self, channels):
        """Lines about the few files that determine the channels of all, if these are trained on.

        Args:
            channels: int, those of the training.
        """
        few = np.flatnonzero(self.channels == channels)
        if channels == 1 or channels != self.image_shape[-1] or len(few) == len(self.paths):
            return ()
        if channels == 3 and len(few) > max(1, 0.1 * len(self.paths)):
            return ()  # grey images among coloured ones
        kind = "transparent" if channels == 4 else "in colour"
        names = console.names([pathlib.Path(self.paths[i]).name for i in few], 3)
        fewer = "3 shows them over white" if channels == 4 else "1 converts them to grey"
        return (
            f"{kind}: {len(few)} of {len(self.paths)} images ({names}), so all get {channels} "
            f"channels; --channels {fewer}",
        )


def scan(root):
    """Lists the images in a folder, and decodes each once to be sure that it can be read.

    Sub-folders are the classes and are searched at any depth. Images of a folder without
    sub-folders are unlabelled. Sub-folders `train` and `val` (or `valid`, `validation`, else
    `test`) are the splits, and the classes are below them; `train` alone is split at random.
    Links are followed; within a class, a file or folder is read once. Hidden files are not used.
    An image of more than 89 million pixels, Pillow's limit, is skipped before it is decoded.

    Args:
        root: path of the folder.

    Returns:
        `ImageFolder`. Its channels suffice for all files: 1 if all are gray, 4 if any is
        transparent somewhere, else 3.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it has no readable image, or held-out images only.
    """
    root = pathlib.Path(root)
    if not root.is_dir():
        if root.exists():
            raise NotADirectoryError(f"{str(root)!r} is a file, not a folder")
        raise FileNotFoundError(f"there is no folder {str(root)!r}")
    listing = _Listing(root)
    files, skipped = listing.files, listing.skipped
    with _caught_warnings(), concurrent.futures.ThreadPoolExecutor() as pool:
        probes = list(pool.map(_probe_by_name, (path for path, _, _ in files)))  # without the GIL
    readable, warned = [], []
    for (path, name, held_out), (probe, messages) in zip(files, probes, strict=True):
        if isinstance(probe, str):
            skipped.append(f"{_printable(path.relative_to(root))}: {probe}")
        else:
            readable.append((str(path), name, held_out, probe))
            name = _printable(path.relative_to(root))
            warned += [f"{name} may be damaged: {text}" for text in messages[:1]]
    if not readable:
        detail = f" (skipped {skipped[0]})" if skipped else ""
        raise ValueError(
            f"no readable image in the folder {str(root)!r}{detail}; put {', '.join(EXTENSIONS)} "
            "files directly inside, or into one sub-folder per class"
        )
    paths, names, held_out, probes = zip(*readable, strict=True)
    class_names = tuple(sorted(set(names) - {None}))
    skipped += [
        f"{name}: a class folder without a readable image"
        for name in sorted({name for _, name, _ in files if name} - set(names))
    ]
    labels = np.array([class_names.index(n) for n in names], np.int64) if class_names else None
    held_out = np.array(held_out) if any(held_out) and not all(held_out) else None
    notes = (*listing.notes, *_name_notes(class_names), *warned[:3])
    if len(warned) > 3:
        notes += (f"{len(warned) - 3} more files may be damaged",)
    channels = np.array([probe[2] for probe in probes])
    shape = _common_shape(probes)
    return ImageFolder(paths, labels, class_names, shape, tuple(skipped), channels, held_out, notes)


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
    with _caught_warnings():
        probe = _probe(pathlib.Path(path))
        if isinstance(probe, str):
            raise ValueError(f"{str(path)!r} cannot be read: {probe}")
        return decode(path, probe[2])


def decode(path, channels):
    """Decodes one image, upright by its EXIF orientation.

    Args:
        path: file name (str or bytes). Of an animation, the first frame is read.
        channels: 1 (gray by luma) or 3, both over white where the file is transparent, or 4 (with
            alpha, 255 where the file has none).

    Returns:
        uint8 array (height, width, channels).
    """
    image = _open(path)
    if _has_alpha(image):  # of a palette, only RGBA keeps all of it
        image = image.convert("RGBA")
        if channels < 4:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image).convert("RGB")
    pixels = np.array(image.convert(_MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def _open(path):
    """Opens an image in a mode that Pillow converts correctly to L, RGB and RGBA."""
    with Image.open(os.fsdecode(path)) as image:
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


def _probe_by_name(path):
    """Returns (as `_probe`, the list of Pillow's warnings)."""
    _current.messages = messages = []
    suffix = path.suffix.lower()
    if suffix in EXTENSIONS:
        return _probe(path), messages
    if suffix in OTHER_EXTENSIONS:
        return f"{suffix} is not read, convert it to PNG", messages
    return NOT_AN_IMAGE, messages


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
    gray = image.mode in ("1", "L", "LA", "La")
    channels = 4 if transparent else 1 if gray else 3
    return image.height, image.width, channels


def _has_alpha(image):
    return image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info


def _is_transparent(image):
    """Whether any pixel is transparent: many programs write an alpha of 255 everywhere."""
    return _has_alpha(image) and image.convert("RGBA").getchannel("A").getextrema()[0] < 255


def _common_shape(shapes):
    heights, widths, channels = (set(values) for values in zip(*shapes, strict=True))
    height, width = (values.pop() if len(values) == 1 else None for values in (heights, widths))
    if 4 in channels:
        return height, width, 4
    return height, width, 1 if channels == {1} else 3


def _normalised(name):
    """Returns a class name in Unicode NFC, as keyboards type it; macOS stores names in NFD."""
    return name and unicodedata.normalize("NFC", _printable(name))


def _printable(name):
    """Returns a file name with escapes for bytes that are not UTF-8."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def _name_notes(class_names):
    """Lines about class names that differ in case or spaces only."""
    alike = {}
    for name in class_names:
        alike.setdefault("".join(name.casefold().split()), []).append(name)
    return [
        f"the classes {console.names(map(repr, names))} differ in case or spaces only"
        for names in alike.values()
        if len(names) > 1
    ]


class _Listing:
    """The files of a folder by split and class; opens none of them.

    Attributes:
        files: list of (path, class name or None, bool: held out), sorted within a class.
        skipped, notes: as in `ImageFolder`, lists.
    """

    def __init__(self, root):
        self.root, self.skipped, self.notes = root, [], []
        self._real_root = os.path.realpath(root)
        groups = self._grouped(self._walk(root, set(), 0), root)
        splits = self._splits(groups)
        if splits:
            self.files = self._split_files(groups, *splits)
        else:
            self.files = [(path, name, False) for name, path, _ in self._unique(groups)]
            self._note_lower_folders(groups)

    def _skip(self, path, reason):
        self.skipped.append(f"{_printable(path.relative_to(self.root))}: {reason}")

    def _walk(self, folder, seen, depth):
        """Lists the files below a folder: (path, the file that it is without links).

        Links are followed, but no folder is read twice below one that can be a class (depth 1,
        or 2 in splits), so that circles end.
        """
        real = os.path.realpath(folder)
        if real in seen or (depth and os.path.commonpath([real, self._real_root]) == real):
            self._skip(folder, "a link to a folder that is read already, or that contains it")
            return []
        seen.add(real)
        try:
            with os.scandir(folder) as entries:
                entries = sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError as error:
            if not depth:
                raise
            self._skip(folder, f"cannot be opened ({error.strerror})")
            return []
        files, below = [], False
        for entry in entries:
            path = pathlib.Path(folder, entry.name)
            if entry.name.startswith("."):
                self._skip(path, "hidden")
            elif entry.name in SYSTEM_FOLDERS:
                self._skip(path, "a folder of the operating system")
            elif path.is_dir():
                below = True
                files += self._walk(path, set(seen) if depth < 2 else seen, depth + 1)
            elif entry.is_symlink():
                if path.exists():
                    files.append((path, os.path.realpath(path)))
                else:
                    below = True
                    self._skip(path, "a broken link")
            else:
                files.append((path, os.path.join(real, entry.name)))
        if depth and not files and not below:
            self._skip(folder, "a folder without files")
        return files

    def _grouped(self, files, base):
        """Groups files by the sub-folder of `base` that they are in: {name: files}.

        Without sub-folders of images, the name is None.
        """
        groups, loose = {}, []
        for file in files:
            parts = file[0].relative_to(base).parts
            (groups.setdefault(parts[0], []) if len(parts) > 1 else loose).append(file)
        for name in [name for name in groups if not any(_is_named_image(f) for f in groups[name])]:
            for path, _ in groups.pop(name):
                self._skip(path, NOT_AN_IMAGE)
        if not groups:
            return {None: loose}
        for file in loose:
            self._skip(file[0], "not in a class folder" if _is_named_image(file) else NOT_AN_IMAGE)
        return dict(sorted(groups.items()))

    def _splits(self, names):
        """Returns (names of training folders, names of held-out ones), or None if they are classes.

        Raises:
            ValueError: there are folders for held-out images only.
        """
        roles = {name: SPLITS.get(name.casefold()) for name in names if name}
        roles = {name: role for name, role in roles.items() if role}
        if not roles:
            return None
        found, only_splits = console.names(roles), len(roles) == len(names)
        if "train" in roles.values() and (only_splits or len(set(roles.values())) > 1):
            other = "val" if "val" in roles.values() else "test"
            return [[name for name in roles if roles[name] == role] for role in ("train", other)]
        if only_splits:
            raise ValueError(
                f"{str(self.root)!r} has {found}, but no train folder; give the folder to train on"
            )
        self.notes.append(f"{found}: read as a class, since other classes are beside it")
        return None

    def _split_files(self, groups, train_names, held_out_names):
        """The files of a folder of splits, as in `files`; notes what is not used."""

        def of(names):
            parts = [self._grouped(groups[split], self.root / split) for split in names]
            return [row for part in parts for row in self._unique(part)]

        train, held_out = of(train_names), of(held_out_names)
        used = f"{console.names(held_out_names)}/" if held_out_names else "random images of train"
        for name, files in groups.items():
            if name not in (*train_names, *held_out_names):
                for path, _ in files:
                    self._skip(path, f"in {name}/, and the held-out images are {used}")
        classes, keys, kept = {row[0] for row in train}, {row[2] for row in train}, []
        for name, path, key in held_out:
            if key in keys:
                self._skip(path, "also a training image")
            elif name not in classes and None not in classes:
                self._skip(path, f"held out, but without a class of {train_names[0]}/")
            else:
                kept.append((path, None if None in classes else name, True))
        train_name = f"{console.names(train_names)}/"
        if kept:
            self.notes.append(f"read as splits: training from {train_name}, held-out from {used}")
        else:
            self.notes.append(f"read as a split: training and held-out images from {train_name}")
        return [(path, name, False) for name, path, _ in train] + kept

    def _unique(self, groups):
        """Yields (class name, path, file) of each file once in its class."""
        merged = {}
        for name, files in groups.items():
            merged.setdefault(_normalised(name), []).append(files)
        for name, several in merged.items():
            if len(several) > 1:
                self.notes.append(f"{len(several)} folders are the class {name!r}")
            files, keys, unique = sum(several, []), set(), []
            for path, key in sorted(files, key=lambda file: (self._is_linked(*file), file[0])):
                if key in keys:
                    self._skip(path, "a link to a file that is read already")
                else:
                    keys.add(key)
                    unique.append((name, path, key))
            yield from sorted(unique, key=lambda row: row[1])

    def _is_linked(self, path, key):
        return os.path.join(self._real_root, path.relative_to(self.root)) != key

    def _note_lower_folders(self, groups):
        """Notes folders below classes that may be meant as classes or as splits."""
        if None in groups:
            return
        lower = {
            path.relative_to(self.root).parts[1]
            for files in groups.values()
            for path, _ in files
            if len(path.relative_to(self.root).parts) > 2
        }
        if len(groups) == 1 and lower:
            [name] = groups
            self.notes.append(
                f"all images are one class, {name!r}; --folder {self.root / name} reads its "
                "sub-folders as classes"
            )
        elif splits := sorted(name for name in lower if name.casefold() in SPLITS):
            self.notes.append(f"{console.names(splits)} below the classes: not read as splits")


def _is_named_image(file):
    return file[0].suffix.lower() in (*EXTENSIONS, *OTHER_EXTENSIONS)
