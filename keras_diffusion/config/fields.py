"""One option of a run: its default, rule, help and flag, all in one dataclass field."""

import ast
import dataclasses
import operator
import typing

LARGEST_INT = 2**31 - 1  # of TensorFlow's int32

# Types of options, in words.
KINDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a tuple such as (64, 64) or (False, True)",
}
# nan fulfils none of them: no comparison with it is true.
BOUNDS = {
    "at_least": operator.ge,
    "above": operator.gt,
    "below": operator.lt,
    "at_most": operator.le,
}


def option(
    default,
    *,
    help,
    flag=False,
    metavar=None,
    const=None,
    parse=None,
    choices=(),
    at_least=None,
    above=None,
    below=None,
    at_most=None,
    check=None,
    needs=None,
    unless=None,
    networks=(),
    movable=False,
    path=None,
):
    """Returns the dataclass field of an option.

    Args:
        default: its value; with None, the option may be None, and the data set decides.
        help: str, for `--help` and docs/cli.md.
        flag: bool, whether train.py has a flag for it; all others are given by `--set`.
        metavar: str, the value in `--help`.
        const: the value of a flag that is given without one.
        parse: function from text to a value; None: by the type of the option.
        choices: the values that are allowed.
        at_least, above, below, at_most: bounds of a number.
        check: (function from a value to bool, "must be ..." in words).
        needs: name of another option; this one has an effect only if that one is on.
        unless: name of another option; this one has no effect if that one is on.
        networks: the networks that have this option; (): it is not about the network.
        path: None, or for the path of a file or folder the names that are none.
        movable: bool, whether it may change when a run is resumed: no weight depends on it.
    """
    metadata = locals()
    return dataclasses.field(default=metadata.pop("default"), metadata=metadata)


def flag(name):
    """Returns the command-line spelling of an option: "batch_size" -> "--batch-size"."""
    return "--" + name.replace("_", "-")


def argument(field):
    """Returns how train.py is given an option: "--batch-size", or "--set dropout"."""
    return flag(field.name) if field.metadata["flag"] else f"--set {field.name}"


def kind_of(field):
    """Returns the type of an option, whether it may be None or not."""
    return (typing.get_args(field.type) or (field.type,))[0]


def bounds(field):
    """Returns the bounds of a number in words: "at least 1 and at most 100", or ""."""
    limits = {name: field.metadata[name] for name in BOUNDS}
    return " and ".join(
        f"{name.replace('_', ' ')} {limit}" for name, limit in limits.items() if limit is not None
    )


def check(field, value):
    """Raises ValueError for a value that an option does not take."""
    kind, rule, name = kind_of(field), field.metadata, argument(field)
    if value is None and field.default is None:
        return
    if type(value) is not kind and (kind, type(value)) != (float, int):
        raise ValueError(f"{name}: {value!r} is not {KINDS[kind]}.")
    if value == "":
        raise ValueError(f"{name}: is empty. Give a value, or leave the option out.")
    if rule["choices"] and value not in rule["choices"]:
        choices = ", ".join(map(str, sorted(rule["choices"])))
        raise ValueError(f"{name}: unknown {value!r}. Choose from: {choices}.")
    for bound, holds in BOUNDS.items():
        if rule[bound] is not None and not holds(value, rule[bound]):
            raise ValueError(f"{name}: {value} must be {bounds(field)}.")
    if rule["check"]:
        valid, words = rule["check"]
        if not valid(value):
            raise ValueError(f"{name}: {value} {words}.")


PARSERS = {
    bool: {"True": True, "False": False}.__getitem__,
    int: int,
    float: float,
    str: str,
    tuple: lambda text: tuple(ast.literal_eval(text)),
}


def parse(field, text):
    """Parses the text of a flag or of `--set` as a value of an option.

    Raises:
        ValueError: it is of another type, or not a value that the option takes.
    """
    kind, rule = kind_of(field), field.metadata
    try:
        value = (rule["parse"] or PARSERS[kind])(text)
    except Exception as error:  # whatever Python raises for such a text
        words = rule["check"][1] if rule["check"] else f"is not {KINDS[kind]}"
        raise ValueError(f"{argument(field)}: {text!r} {words}.") from error
    check(field, value)
    return value
