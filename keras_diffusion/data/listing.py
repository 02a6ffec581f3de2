"""Listing the files of a folder of images or clips: splits, classes, links."""

import os
import pathlib
import unicodedata

from keras_diffusion.data import decoding
from keras_diffusion.data.clips import is_numbered, natural_key
from keras_diffusion.runtime import console

SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
MAX_REASONS = 10  # that have lines
SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")


def _normalised(name):
    """Returns a class name in Unicode NFC, as keyboards type it; macOS stores names in NFD."""
    return name and unicodedata.normalize("NFC", printable(name))


def printable(name):
    """Returns a file name with escapes for bytes that are not UTF-8."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def lines_of_skipped(skipped):
    """Returns lines of text, by reason, of texts "file: reason"; none if there are none."""
    reasons = {}
    for file, _, reason in (entry.partition(": ") for entry in skipped):
        reasons.setdefault(reason, []).append(file)
    lines = [f"not used: {len(skipped)} files or folders"] if skipped else []
    rows = sorted(reasons.items(), key=lambda item: -len(item[1]))
    for reason, files in rows[:MAX_REASONS]:
        lines.append(f"  {len(files)} {reason}: {console.names(files, 3)}")
    if len(rows) > MAX_REASONS:
        rest = sum(len(files) for _, files in rows[MAX_REASONS:])
        lines.append(f"  {rest} for {len(rows) - MAX_REASONS} other reasons")
    return lines


class Listing:
    """The files of a folder by split and class; decodes none of them.

    Args:
        root: Path of the folder.
        clips: bool, whether the still images in a folder are the frames of one sequence.

    Attributes:
        files: list of (path, class name or None, bool: held out), sorted within a class. The path
            of a sequence of frames is that of its folder; of one directly in the root, or in a
            folder of a split, it is that of its first frame.
        frames: {path: its frames, a list of Path in natural order} of the sequences.
        skipped, notes: as in `ImageFolder`, lists.
    """

    def __init__(self, root, clips=False):
        self.root, self.skipped, self.notes, self.frames = root, [], [], {}
        self._clips = clips
        self._real_root = os.path.realpath(root)
        groups = self._grouped(self._walk(root, set(), 0), root)
        splits = self._splits(groups)
        if splits:
            self.files = self._split_files(groups, *splits)
        else:
            self.files = [(path, name, False) for name, path, _ in self._unique(groups)]
            self._note_lower_folders(groups)

    def _skip(self, path, reason):
        self.skipped.append(f"{printable(path.relative_to(self.root))}: {reason}")

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
        return self._with_sequence(folder, real, files, depth) if self._clips else files

    def _with_sequence(self, folder, real, files, depth):
        """The files below a folder, with one entry for the still images directly in it."""
        stills = [
            file
            for file in files
            if file[0].parent == folder
            and file[0] not in self.frames
            and decoding.is_image_name(file[0])
            and not decoding.is_animated(file[0])
        ]
        for path, _ in stills:
            if not is_numbered(path):
                self._skip(path, "a still image without a number")
        frames = sorted(
            (file for file in stills if is_numbered(file[0])),
            key=lambda file: natural_key(file[0].name),
        )
        files = [file for file in files if file not in stills]
        if frames:
            has_name = depth > 1 or (depth and folder.name.casefold() not in SPLITS)
            entry = (folder, real) if has_name else frames[0]
            self.frames[entry[0]] = [path for path, _ in frames]
            files.append(entry)
        return files

    def _grouped(self, files, base):
        """Groups files by the sub-folder of `base` that they are in: {name: files}.

        Without sub-folders of images, the name is None.
        """
        groups, loose = {}, []
        for file in files:
            parts = file[0].relative_to(base).parts
            (groups.setdefault(parts[0], []) if len(parts) > 1 else loose).append(file)
        for name in [
            name for name in groups if not any(self._is_named_image(f) for f in groups[name])
        ]:
            for path, _ in groups.pop(name):
                self._skip(path, decoding.NOT_AN_IMAGE)
        if not groups:
            return {None: loose}
        for file in loose:
            self._skip(
                file[0],
                "not in a class folder" if self._is_named_image(file) else decoding.NOT_AN_IMAGE,
            )
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
        splits, only_splits = console.names(roles), len(roles) == len(names)
        if "train" in roles.values() and (only_splits or len(set(roles.values())) > 1):
            other = "val" if "val" in roles.values() else "test"
            return [[name for name in roles if roles[name] == role] for role in ("train", other)]
        if only_splits:
            raise ValueError(
                f"{str(self.root)!r} has {splits}, but no train folder; give the folder to train on"
            )
        self.notes.append(f"{splits}: read as a class, since other classes are beside it")
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

    def _is_named_image(self, file):
        return file[0] in self.frames or decoding.is_image_name(file[0])
