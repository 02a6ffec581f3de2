"""`--set KEY=VALUE`: options as text, and options that exclude each other."""

import ast
import typing

from keras_diffusion.config import Config, flag, in_words, kinds

EXCLUSIVE = (
    ("dataset", "folder"),
    ("dataset", "image"),
    ("folder", "image"),
    ("epochs", "minutes"),
)


def parse_setting(text):
    """Parses "key=value" of `--set`, the value as the type of the option: (key, value).

    Raises:
        ValueError: no "=", an unknown key, or a value of the wrong type.
    """
    name, equals, written = text.partition("=")
    types = typing.get_type_hints(Config)
    if not equals or name not in types:
        raise ValueError(
            f"--set: {text!r} is not KEY=VALUE with one of the keys: {', '.join(types)}."
        )
    try:
        value = ast.literal_eval(written)
    except Exception:  # whatever Python makes of it
        value = written  # a bare word is a string
    if isinstance(value, list):
        value = tuple(value)
    allowed = kinds(name)
    if float in allowed and type(value) is int and abs(value) < 2**53:  # a float holds it
        value = float(value)
    if type(value) not in allowed:
        raise ValueError(f"--set: {text!r} is not {in_words(allowed)}.")
    return name, value


def add_settings(given, texts):
    """Adds the options of `--set` to those given as flags, a dict.

    Raises:
        ValueError: as `parse_setting`; two values for one option, or options that exclude
            each other.
    """
    for text in texts:
        name, value = parse_setting(text)
        if given.get(name) not in (None, value):
            raise ValueError(f"--set: {text!r} contradicts {given[name]!r}; give one of the two.")
        given[name] = value
    for one, other in EXCLUSIVE:
        if given.get(one) is not None and given.get(other) is not None:
            raise ValueError(f"{flag(one)}: not allowed with {flag(other)}; give one of the two.")
