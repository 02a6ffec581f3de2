"""Text for terminals and Markdown pages: numbers, durations, lists of names and tables."""

import shlex
import shutil
import sys
import time


def is_watched():
    """Returns True if stdout is a terminal, or the output of a notebook cell."""
    return getattr(sys.stdout, "isatty", bool)() or "ipykernel" in sys.modules


class StatusLine:
    """A line of a terminal or notebook that is written again and again; nothing elsewhere.

    Args:
        stream: "stdout" or "stderr".
        interval: seconds between two updates, at least.
    """

    def __init__(self, stream="stdout", interval=0.1):
        self._name = stream
        self._interval = interval
        self._shown_at = -interval
        self._width = 0

    def show(self, text):
        """Replaces the line, if the last update is long enough ago; `text` is a function."""
        now = time.monotonic()
        if self._is_watched() and now - self._shown_at >= self._interval:
            self._shown_at = now
            self._write(text()[: shutil.get_terminal_size().columns - 1])

    def clear(self):
        """Leaves an empty line, for whatever is printed next."""
        if self._width and self._is_watched():
            self._write("")
            self._write("")  # back to the first column
        self._shown_at = -self._interval

    def _is_watched(self):
        return is_watched() if self._name == "stdout" else sys.stderr.isatty()

    def _write(self, text):
        print("\r" + text.ljust(self._width), end="", file=getattr(sys, self._name), flush=True)
        self._width = len(text)


def number(value, digits=3, padded=False):
    """Formats a number with `digits` significant digits: 0.012, 0.16, 1.23, 123, 12,300.

    Args:
        value: int or float; None gives "-".
        digits: int, at least 1.
        padded: bool; True keeps trailing zeros and all digits of whole numbers: 0.0120, 0.160,
            1.23, 123, 12,346.
    """
    if value is None:
        return "-"
    rounded = float(f"{value:.{digits}g}")
    if value == 0 or abs(rounded) >= 10 ** (digits - 1):
        return f"{value if padded else rounded:,.0f}"
    return f"{rounded:{'#' if padded else ''}.{digits}g}"


def duration(seconds):
    """Formats a duration with one unit: "40 s", "3 min", "1.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def names(items, limit=10):
    """Joins the first `limit` names with commas, and says how many more there are."""
    items = list(items)
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def one_line(message, length=None):
    """Joins the lines of a message; spaces within them are kept, as they may belong to a path.

    Args:
        message: text, or an error.
        length: int, of the result, at most; None: all of it.
    """
    lines = (line.strip() for line in str(message).splitlines())
    return " ".join(line for line in lines if line)[:length]


def shell_path(path):
    """Quotes a path so that it can be pasted into a shell as an argument."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def table(header, rows, align="l", markdown=False):
    """Formats a table, without a newline at its end.

    Args:
        header: list of cells.
        rows: list of lists of cells, each as long as the header; `str` is called on each cell.
        align: one letter per column, "l" (left) or "r" (right); the last letter also stands for
            all columns after it.
        markdown: bool; False pads the columns with spaces, for a terminal.
    """
    align = align.ljust(len(header), align[-1])
    lines = [list(map(str, line)) for line in (header, *rows)]
    if markdown:
        lines.insert(1, ["---:" if letter == "r" else "---" for letter in align])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    pad = [str.rjust if letter == "r" else str.ljust for letter in align]
    return "\n".join(
        "  ".join(put(*cell) for put, *cell in zip(pad, line, widths, strict=True)).rstrip()
        for line in lines
    )
