"""The import contracts of pyproject.toml, and what the command line imports before it parses."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_each_layer_imports_only_from_the_layers_below_it():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:]


@pytest.mark.parametrize("script", ["train", "sample", "evaluate"])
def test_help_does_not_wait_for_slow_libraries(script):
    code = f"import sys, {script}; print(*sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert not {"tensorflow", "keras", "matplotlib"} & set(result.stdout.split()), result.stderr
