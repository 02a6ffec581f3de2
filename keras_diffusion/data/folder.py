"""A folder of images or clips: what is read, its classes and splits."""

import dataclasses
import pathlib
import warnings

import numpy as np

from keras_diffusion.data import clips, decoding
from keras_diffusion.data.listing import Listing, printable
from keras_diffusion.runtime import console


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """The readable images or clips of a folder.

    Attributes:
        items: tuple of N file names or `Clip`s.
        paths: tuple of N names: of the file, or of the animation or the folder of a clip; sorted.
        labels: int64 array (N,), or None if the folder has no class sub-folders.
        class_names: tuple of the sub-folders' names, empty without labels.
        image_shape: (height, width, channels), of a clip those of a frame; height and width are
            None where they vary.
        skipped: tuple of "file: reason" for files that are not used.
        channels: int64 array (N,), what each item needs: 1 grey, 3 colour, 4 transparent.
        held_out: bool array (N,), the images for validation; None: not split by folders.
        notes: tuple of text, one line each: how the folder was read.
        frames: int, of each clip; 1: images.
    """

    items: tuple
    paths: tuple
    labels: np.ndarray | None
    class_names: tuple
    image_shape: tuple
    skipped: tuple
    channels: np.ndarray
    held_out: np.ndarray | None = None
    notes: tuple = ()
    frames: int = 1

    def decode(self, index, channels):
        """Decodes an image or a clip: uint8 (height, width, frames * channels)."""
        item = self.items[index]
        if self.frames == 1:
            return decoding.decode(item, channels)
        return item.decode(self.frames, channels)

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


def scan(root, frames=1):
    """Lists the images or clips in a folder, and decodes each once to be sure that it can be read.

    Sub-folders are the classes and are searched at any depth. Images of a folder without
    sub-folders are unlabelled. Sub-folders `train` and `val` (or `valid`, `validation`, else
    `test`) are the splits, and the classes are below them; `train` alone is split at random.
    Links are followed; within a class, a file or folder is read once. Hidden files are not used.
    An image of more than 89 million pixels, Pillow's limit, is skipped before it is decoded.

    For clips, an animated GIF, WebP or PNG is a sequence of frames, and so are the still images
    in one folder whose names have numbers, in natural order. A sequence is cut into clips one
    after the other; a rest of less than `frames` frames is not used.

    Args:
        root: path of the folder.
        frames: int, of each clip; 1 reads images, and of an animation the first frame.

    Returns:
        `ImageFolder`. Its channels suffice for all files: 1 if all are gray, 4 if any is
        transparent somewhere, else 3. Clips are shown over white instead of having 4.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it has no readable image or clip, or held-out images only.
    """
    root = pathlib.Path(root)
    if not root.is_dir():
        if root.exists():
            raise NotADirectoryError(f"{str(root)!r} is a file, not a folder")
        raise FileNotFoundError(f"there is no folder {str(root)!r}")
    listing = Listing(root, clips=frames > 1)
    files = _Files(listing)
    rows = files.clips(frames) if frames > 1 else files.images()
    # They are named now; Python would name a line of Pillow, at each file that is decoded again.
    warnings.filterwarnings("ignore", message="(?i).*corrupt EXIF|Truncated File Read")
    skipped, notes = listing.skipped, listing.notes
    if not rows:
        what, inputs = "image", f"{', '.join(decoding.EXTENSIONS)} files"
        if frames > 1:
            what = f"clip of {frames} frames"
            inputs = (
                f"animated {', '.join(decoding.ANIMATIONS)} files, or folders of numbered frames,"
            )
        detail = f" (skipped {skipped[0]})" if skipped else ""
        raise ValueError(
            f"no readable {what} in the folder {str(root)!r}{detail}; put {inputs} directly "
            "inside, or into one sub-folder per class"
        )
    items, paths, names, held_out, shapes = zip(*rows, strict=True)
    class_names = tuple(sorted(set(names) - {None}))
    skipped += [
        f"{name}: a class folder without a readable {'clip' if frames > 1 else 'image'}"
        for name in sorted({name for _, name, _ in listing.files if name} - set(names))
    ]
    notes += [*_name_notes(class_names), *files.warned[:3]]
    if len(files.warned) > 3:
        notes.append(f"{len(files.warned) - 3} more files may be damaged")
    return ImageFolder(
        items,
        paths,
        np.array([class_names.index(n) for n in names], np.int64) if class_names else None,
        class_names,
        _common_shape(shapes),
        tuple(skipped),
        np.array([shape[2] for shape in shapes]),
        np.array(held_out) if any(held_out) and not all(held_out) else None,
        tuple(notes),
        frames,
    )


class _Files:
    """Decodes the files of a `Listing` once; adds to its notes and to the files not used.

    Attributes:
        warned: list of lines about files that may be damaged.
    """

    def __init__(self, listing):
        self.listing, self.warned = listing, []

    def images(self):
        """Returns rows of (file name, the same, class name, held out, shape)."""
        files = self.listing.files
        shapes = self._probe(decoding.probe, [path for path, _, _ in files])
        animated = sum(map(decoding.is_animated, filter(_may_move, shapes)))
        if animated:
            self.listing.notes.append(
                f"{animated} of {len(shapes)} files are animations, of which the first frame is "
                "read; --frames K reads clips of K frames"
            )
        return [
            (str(path), str(path), name, held_out, shapes[path])
            for path, name, held_out in files
            if path in shapes
        ]

    def clips(self, frames):
        """Returns rows as `images`, with a `Clip` and the name of its animation or folder."""
        files, of_folder = self.listing.files, self.listing.frames
        frame_paths = [p for path, _, _ in files for p in of_folder.get(path, ())]
        shapes = self._probe(decoding.probe, frame_paths)
        animations = [path for path, _, _ in files if path not in of_folder]
        probes = self._probe(decoding.probe_animations, animations)
        rows, used, rest = [], 0, 0
        for path, name, held_out in files:
            try:
                if path in of_folder:
                    readable = [frame for frame in of_folder[path] if frame in shapes]
                    count = len(readable)
                    parts = clips.of_folder(readable, [shapes[p] for p in readable], frames)
                elif path in probes:
                    count = probes[path][-1]
                    parts = clips.of_animation(path, probes[path], frames)
                else:
                    continue
            except ValueError as error:
                alone = len(of_folder.get(path, ())) == 1
                self._skip(of_folder[path][0] if alone else path, error)
                continue
            used, rest = used + 1, rest + count % frames
            rows += [(clip, str(path), name, held_out, shape) for clip, shape in parts]
        unused = f"; {rest} frames at the ends of these are not used" if rest else ""
        if rows:
            self.listing.notes.append(
                f"{len(rows)} clips of {frames} frames from {used} animations or folders{unused}"
            )
        return rows

    def _probe(self, probe, paths):
        """Returns {path: shape} of the files that can be decoded."""
        shapes = {}
        for path, (result, messages) in zip(paths, probe(paths), strict=True):
            if isinstance(result, str):
                self._skip(path, result)
            else:
                shapes[path] = result
                name = printable(path.relative_to(self.listing.root))
                self.warned += [f"{name} may be damaged: {text}" for text in messages[:1]]
        return shapes

    def _skip(self, path, reason):
        self.listing.skipped.append(f"{printable(path.relative_to(self.listing.root))}: {reason}")


def _may_move(path):
    """bool: the extension is one that most animations have; opening every PNG would take long."""
    return path.suffix.lower() in (".gif", ".webp", ".apng")


def _common_shape(shapes):
    heights, widths, channels = (set(values) for values in zip(*shapes, strict=True))
    height, width = (values.pop() if len(values) == 1 else None for values in (heights, widths))
    if 4 in channels:
        return height, width, 4
    return height, width, 1 if channels == {1} else 3


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
