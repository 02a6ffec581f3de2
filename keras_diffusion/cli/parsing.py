"""What the command lines share: errors on one line, parsers of values, options of `Config`."""

import argparse
from pathlib import Path

from keras_diffusion.config import fields
from keras_diffusion.config.options import OPTIONS, named
from keras_diffusion.runtime.console import one_line
from keras_diffusion.runtime.files import check_writable
from keras_diffusion.saving import export_folder

MODEL_HELP = (
    "an export, by its name in saved_models/ or its folder, a run directory or a .keras file; "
    "default: your newest in saved_models/, or without one the flowers that come with "
    "keras_diffusion"
)
METAVARS = {int: "N", float: "X", str: "TEXT", tuple: "VALUES"}


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message):
        message = one_line(message).removeprefix("argument ")
        self.exit(2, f"{self.prog}: error: {message}\n")


class RaisingParser(OneLineParser):
    """An argument parser that raises its errors as ValueError, for commands that run on."""

    def error(self, message):
        raise ValueError(one_line(message).removeprefix("argument "))

    def exit(self, status=0, message=None):  # of --help
        raise ValueError("There is a flag where a value should be.")


def within(low, high, kind=int):
    """Returns a parser of numbers from `low` to `high`; nan is rejected."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low} to {high}.")
        return value

    return parse


def one_of(choices):
    """Returns a parser of names."""

    def parse(text):
        if text not in choices:
            names = ", ".join(sorted(choices))
            raise argparse.ArgumentTypeError(f"unknown {text!r}. Choose from: {names}.")
        return text

    return parse


def split_commas(parse):
    """Returns a parser of values with commas between them, each parsed by `parse`."""
    return lambda text: list(dict.fromkeys(parse(part.strip()) for part in text.split(",")))


def folder(text):
    """Parses the path of a folder that can be written or created."""
    reason = "it is empty"
    try:
        if text:
            check_writable(text)
            return Path(text)
    except (OSError, ValueError) as error:  # ValueError: a null byte
        reason = str(error)
    raise argparse.ArgumentTypeError(f"{text!r} is not a folder to write to: {reason}.")


def locate_model(model):
    """Returns the path of the model that --model names, or of the default, and prints it.

    Raises:
        ValueError: there is none.
    """
    try:
        path, reason = export_folder.locate(model)
    except ValueError as error:
        raise ValueError(f"--model: {error}") from error
    print(f"model: {path}" + (f" ({reason})" if reason else ""), flush=True)
    return path


def help_of(field):
    """Returns the help of an option of `Config`, with the options that it depends on."""
    rule = field.metadata
    notes = [f"only with {named(rule['needs'])}"] if rule["needs"] else []
    if rule["unless"]:
        notes.append(f"not with {named(rule['unless'])}")
    if 0 < len(rule["networks"]) < len(OPTIONS["network"].metadata["choices"]):
        notes.append(f"only for --network {' or '.join(rule['networks'])}")
    text, *default = rule["help"].split("; default: ")
    return "; default: ".join([f"{text} ({', '.join(notes)})" if notes else text, *default])


def add_options(parser):
    """Adds the flags of the options of `Config`, and --set for all others."""
    for name, field in OPTIONS.items():
        rule, kind = field.metadata, fields.kind_of(field)
        if not rule["flag"]:
            continue
        settings = {"default": None, "help": help_of(field).replace("%", "%%")}
        if kind is bool:
            optional = field.default is None
            settings["action"] = argparse.BooleanOptionalAction if optional else "store_true"
        else:
            choices = "{" + ",".join(map(str, rule["choices"])) + "}"
            settings["metavar"] = rule["metavar"] or (
                choices if rule["choices"] else METAVARS[kind]
            )
        if rule["const"]:
            settings.update(nargs="?", const=rule["const"])
        parser.add_argument(fields.flag(name), **settings)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other option of docs/cli.md, such as dropout=0.1 or 'widths=(64,128)'",
    )


def parse_options(args):
    """Returns {option of `Config`: value} of the flags and of --set.

    Raises:
        ValueError: a value that the option does not take, or two values for one option.
    """
    pairs = [(name, getattr(args, name, None)) for name in OPTIONS]
    for text in args.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set: {text!r} is not KEY=VALUE, such as dropout=0.1.")
        if name not in OPTIONS:
            names = ", ".join(OPTIONS)
            raise ValueError(f"--set: unknown option {name!r}. Choose from: {names}.")
        pairs.append((name, value))
    options = {}
    for name, value in pairs:
        if value is None:
            continue
        if isinstance(value, str):
            value = fields.parse(OPTIONS[name], value)
        if options.setdefault(name, value) != value:
            raise ValueError(
                f"{named(name)}: {value!r} contradicts {options[name]!r}. Give only one."
            )
    return options


def with_flag(error, flags):
    """Returns the message of an error about an argument, "labels: ...", with its flag instead.

    Args:
        flags: {name of an argument: flag}.
    """
    name, colon, rest = one_line(error).partition(": ")
    return f"{flags.get(name, name)}{colon}{rest}"
