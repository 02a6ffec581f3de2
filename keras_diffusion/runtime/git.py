"""Which state of the code this is."""

import os
import subprocess


def git_revision():
    """Returns the commit of this code, "-dirty" if Python files have changed since; or None.

    Pictures and figures that a run or a benchmark has left in the tree do not count.
    """
    try:
        changed = _git("diff", "--name-only", "HEAD", "--", ":(top)*.py")
        return _git("describe", "--always") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return None


def _git(*arguments):
    command = ["git", "-C", os.path.dirname(__file__), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
