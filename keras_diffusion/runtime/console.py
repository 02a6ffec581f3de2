"""What is printed, and for whom."""

import sys


def is_watched():
    """Returns True if stdout is a terminal, or the output of a notebook cell."""
    return getattr(sys.stdout, "isatty", bool)() or "ipykernel" in sys.modules
