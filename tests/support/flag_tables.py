"""The tables of docs/cli.md, from the parsers and `Config`:  python tests/support/flag_tables.py

Called as a script, it writes them into the page.
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from keras_diffusion.cli import app, edit, evaluate, sample, train  # noqa: E402
from keras_diffusion.cli.parsing import help_of  # noqa: E402
from keras_diffusion.config.fields import KINDS, LARGEST_INT, bounds, flag, kind_of  # noqa: E402
from keras_diffusion.config.options import OPTIONS  # noqa: E402
from keras_diffusion.runtime.console import table  # noqa: E402

PAGE = ROOT / "docs/cli.md"


def cells(spelling, default, text):
    """A row: a flag or option, its default, and its meaning."""
    text, *words = text.split("; default: ")
    if words:
        default = words[0]
    elif isinstance(default, bool):
        default = "on" if default else "off"
    else:
        default = "" if default is None else f"`{default}`"
    return [f"`{spelling}`", default, re.sub(r"(?<!\w)(--[a-z-]+)", r"`\1`", text)]


def flag_row(parser, action):
    """The row of a flag, or of an argument without one."""
    name = action.option_strings[0] if action.option_strings else ""
    if isinstance(action, argparse.BooleanOptionalAction):
        name = name.replace("--", "--[no-]")
    default = action.default
    if action.nargs != 0:
        values = argparse.HelpFormatter("")._format_args(action, action.metavar)
        name = f"{name} {values}".strip()
    if default is None and parser.prog == "train.py" and action.dest in OPTIONS:
        default = OPTIONS[action.dest].default
    return cells(name, None if default == [] else default, action.help.replace("%%", "%"))


def flag_table(parser):
    """The table of the flags of a command."""
    actions = [action for action in parser._actions if action.dest != "help"]
    return table(
        ["flag", "default", "meaning"],
        [flag_row(parser, action) for action in actions],
        markdown=True,
    )


def commands_table(parser):
    """The table of the flags of several commands; a row for each meaning and default of a flag."""
    [action] = (action for action in parser._actions if action.dest != "help")
    rows = {}
    for name, command in action.choices.items():
        for flag_of in command._actions:
            if flag_of.dest != "help":
                rows.setdefault(tuple(flag_row(command, flag_of)), []).append(f"`{name}`")
    every = [f"`{name}`" for name in action.choices]

    def is_shared(row):
        return len(row[1]) > len(every) // 2

    return table(
        ["flag", "of", "default", "meaning"],
        [
            [spelling, "all" if names == every else ", ".join(names), default, text]
            for (spelling, default, text), names in sorted(rows.items(), key=is_shared)
        ],
        markdown=True,
    )


def option_table():
    """The table of the options of train.py that have no flag."""
    rows = []
    for name, field in OPTIONS.items():
        rule = field.metadata
        if not rule["flag"]:
            words = [rule["check"][1].removeprefix("must be ")] if rule["check"] else []
            words += [", ".join(sorted(rule["choices"])), bounds(field), KINDS[kind_of(field)]]
            values = next(filter(None, words)).removesuffix(f" and at most {LARGEST_INT}")
            spelling, default, text = cells(name, field.default, help_of(field))
            rows.append([spelling, default, values, text])
    return table(["option", "default", "values", "meaning"], rows, markdown=True)


def filled(page):
    """The page with all tables, each between `<!-- NAME -->` and `<!-- end -->`."""
    tables = {
        "train": flag_table(train.parser()),
        "set": option_table(),
        "sample": flag_table(sample.parser()),
        "movable": ", ".join(
            f"`{flag(name) if field.metadata['flag'] else name}`"
            for name, field in OPTIONS.items()
            if field.metadata["movable"]
        ),
        "edit": commands_table(edit.parser()),
        "evaluate": flag_table(evaluate.parser()),
        "app": flag_table(app.parser()),
    }
    for name, text in tables.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        page, count = re.subn(pattern, lambda m, t=text: f"{m[1]}{t}\n{m[2]}", page, flags=re.S)
        assert count == 1, name
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
