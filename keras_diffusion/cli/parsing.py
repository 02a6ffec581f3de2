"""What the command lines have in common: errors of one line, and parsers of values."""

import argparse
import os
from pathlib import Path


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message):
        message = message.removeprefix("argument ").replace("\n", " ")
        self.exit(2, f"{self.prog}: error: {message}\n")


def within(low, high, kind=int):
    """Returns a parser of numbers with two ends; nan is outside of them."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low} to {high}")
        return value

    return parse


def listed(one):
    """Returns a parser of values with commas between them, each parsed by `one`."""

    def parse(text):
        return list(dict.fromkeys(one(part.strip()) for part in text.split(",")))

    return parse


def image_size(text):
    """Parses 64 or 48x64 (height x width)."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 64 or 48x64")
    return int(sides[0]), int(sides[-1])


def folder(text):
    """Parses the path of a folder that is there and writable, or can be made."""
    path = Path(text)
    try:
        nearest = next(found for found in (path, *path.absolute().parents) if found.exists())
        if text and nearest.is_dir() and os.access(nearest, os.W_OK):
            return path
        reason = f"{nearest} is {'not writable' if nearest.is_dir() else 'a file'}"
    except (OSError, ValueError) as error:  # a name that no file system takes
        reason = str(error)
    reason = reason if text else "it is empty"
    raise argparse.ArgumentTypeError(f"{text!r} is not a folder to write to: {reason}")
