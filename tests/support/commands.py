"""The commands of the repository, as tests call them."""

import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Flags of a training that takes seconds.
TINY = shlex.split(
    "--dataset digits --limit 64 --batch-size 32 --precision float32 --network cnn "
    "--set widths=(8,) --set embedding_width=8 --set num_steps=3 --epochs 2 "
    "--checkpoint-minutes 0 --set guidance_interval=(0.1,0.8)"
)


def run(script, *arguments, cwd):
    """Runs a script of the repository in another process; returns its stdout."""
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout
