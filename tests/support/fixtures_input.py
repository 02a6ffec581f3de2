"""What every refusal has in common, and how to see that nothing was touched."""

import json
import os
import pathlib
import re
import shlex

import pytest


def refusal(main, arguments, capsys):
    """Calls a script that must end with exit code 2; returns the lines on stderr."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err.strip().splitlines()


def contents(folder):
    """{path: bytes of a file, target of a link, None} of everything below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kept = path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = os.readlink(path) if path.is_symlink() else kept
    return found


def check(main, arguments, pattern, capsys):
    """Calls a script that must refuse in one line, and leave the current folder as it was."""
    folder = pathlib.Path.cwd()
    before = contents(folder)
    lines = refusal(main, shlex.split(arguments), capsys)
    assert len(lines) == 1, lines
    assert lines[0].startswith(("train.py: error: ", "sample.py: error: ", "evaluate.py: error: "))
    assert re.search(pattern, lines[0]), lines[0]
    assert contents(folder) == before


# What rows find in their folder: functions that are called in it --------------------------


def file(path, content=""):
    """A file, of text or bytes."""

    def prepare():
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(path).write_bytes(content.encode() if isinstance(content, str) else content)

    return prepare


def saved(config):
    """A run whose config.json holds these options."""
    return file("old/config.json", json.dumps({"config": config}))


def thesis():
    """A folder of something else."""
    file("thesis/chapter1.tex", "years of work")()
