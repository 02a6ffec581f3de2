"""Clips of a folder: animations and sub-folders of numbered frames, cut into K frames each.

A clip of K frames is an image with K * C channels: channel c of frame f is channel f * C + c.
"""

import dataclasses
import os
import re

import numpy as np

from keras_diffusion.data import decoding


@dataclasses.dataclass(frozen=True)
class Clip:
    """K frames one after the other.

    Attributes:
        files: tuple of names: the K files of the frames, or one animation.
        first: None, or int from 0: the first of the frames in the animation.
    """

    files: tuple
    first: int | None = None

    def decode(self, frames, channels):
        """Decodes the clip: uint8 (height, width, frames * channels); channels is 1 or 3."""
        if self.first is None:
            return join([decoding.decode(file, channels) for file in self.files])
        return join(decoding.decode_animation(self.files[0], self.first, frames, channels))


def join(frames):
    """Joins frames (K, H, W, C) to a clip (H, W, K * C)."""
    return np.concatenate(list(frames), axis=-1)


def natural_key(name):
    """Sorting by it puts frame2.png before frame10.png."""
    return [(int(part), part) if part.isdecimal() else (-1, part)
            for part in re.split(r"(\d+)", name)]  # fmt: skip


def is_numbered(path):
    """bool: the name of the file has a number, as those of frames do."""
    return any(character.isdecimal() for character in path.stem)


def windows(num_frames, frames):
    """Returns the first frames of the clips that a sequence is cut into; the rest is left over."""
    return range(0, num_frames - frames + 1, frames)


def of_animation(path, probe, frames):
    """Returns the clips of an animation, a list of (`Clip`, (height, width, channels)).

    Args:
        path: Path.
        probe: as from `decoding.probe_animations`.
        frames: int, K.

    Raises:
        ValueError: it has no clip; why.
    """
    *shape, count = probe
    _check_length(count, frames)
    return [(Clip((os.fspath(path),), first), tuple(shape)) for first in windows(count, frames)]


def of_folder(paths, probes, frames):
    """Returns the clips of a folder of frames, as `of_animation`.

    Args:
        paths: list of Path, the readable frames in their order.
        probes: list of (height, width, channels).
        frames: int, K.
    """
    _check_length(len(paths), frames)
    if len({probe[:2] for probe in probes}) > 1:
        raise ValueError("frames of several sizes")
    names, clips = [os.fspath(path) for path in paths], []
    for first in windows(len(names), frames):
        part = slice(first, first + frames)
        channels = max(probe[2] for probe in probes[part])
        clips.append((Clip(tuple(names[part])), (*probes[0][:2], min(channels, 3))))
    return clips


def _check_length(count, frames):
    if count < frames:
        raise ValueError(f"shorter than {frames} frames")
