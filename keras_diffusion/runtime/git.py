"""Revision of the code."""

import os
import subprocess


def git_revision():
    """Returns the commit hash, with "-dirty" if Python files were changed; None without git.

    Other changed files, such as plots of a benchmark, are ignored.
    """
    try:
        changed = _git("diff", "--name-only", "HEAD", "--", ":(top)*.py")
        return _git("describe", "--always") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return None


def _git(*arguments):
    command = ["git", "-C", os.path.dirname(__file__), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
