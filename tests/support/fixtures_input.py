"""Rejected calls of commands: exit code 2, one line on stderr, and no file is changed."""

import json
import os
import pathlib
import re
import shlex

import pytest


def rejection(main, arguments, capsys):
    """Calls a command that must end with exit code 2; returns the lines on stderr."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err.strip().splitlines()


def contents(folder):
    """{path: bytes of a file, target of a link, None} of everything below a folder."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink()
        else path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }  # fmt: skip


def check(main, arguments, pattern, capsys):
    """Calls a command that must be rejected in one line; the current folder must stay the same."""
    folder = pathlib.Path.cwd()
    before = contents(folder)
    lines = rejection(main, shlex.split(arguments), capsys)
    assert len(lines) == 1, lines
    assert re.match(r"(train|sample|evaluate|edit|app)\.py( [a-z-]+)?: error: ", lines[0]), lines[0]
    assert re.search(pattern, lines[0]), lines[0]
    assert contents(folder) == before


# What prepares the folder of a test: functions that are called in it ------------------------


def file(path, content=""):
    """A file, of text or bytes."""

    def prepare():
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(path).write_bytes(content.encode() if isinstance(content, str) else content)

    return prepare


def run_with(config):
    """A run "old" whose config.json holds these options."""
    return file("old/config.json", json.dumps({"config": config}))


def other_files():
    """A folder "thesis" that must not be overwritten."""
    file("thesis/chapter1.tex", "years of work")()
