"""Which state of the code this is."""

import os
import subprocess


def git_revision():
    """Returns what `git describe` says of this code, or None where there is no git."""
    try:
        return subprocess.run(
            ["git", "-C", os.path.dirname(__file__), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
