"""The import contracts of pyproject.toml, and the imports of the command line."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_each_layer_imports_only_from_the_layers_below_it():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:]


def test_importing_the_commands_does_not_import_slow_libraries():
    code = "import sys, train, sample, evaluate; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "keras_diffusion.cli.train" in result.stdout, result.stderr
    assert not {"tensorflow", "keras", "matplotlib"} & set(result.stdout.split())
