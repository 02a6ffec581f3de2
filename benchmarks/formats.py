"""Formatting of figures for the Markdown pages, shared by all sections."""

import functools
import statistics

from keras_diffusion.runtime import console

number = functools.partial(console.number, padded=True)
table = functools.partial(console.table, markdown=True)


def summary(values):
    """Returns {"median", "low", "high"} of some numbers."""
    values = list(values)
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def summary_of(row, name):
    """Returns the `summary` of one figure over the runs of a row, or None if the row failed."""
    return summary(run[name] for run in row["runs"]) if "runs" in row else None


def median_of(row, name):
    """Returns the median of one figure over the runs of a row, or None if the row failed."""
    values = summary_of(row, name)
    return values and values["median"]


def ratio(numerator, denominator):
    """Returns a ratio, or None if one of the two is unknown."""
    return numerator / denominator if numerator and denominator else None


def times(value):
    """Returns a ratio as "3.20x"; "-" for None."""
    return "-" if value is None else f"{value:.2f}x" if value < 1 else f"{number(value)}x"


def median_and_spread(values, scale=1):
    """Returns the two cells "**median**" and "low - high" of a `summary`."""
    median, low, high = (number(scale * values[name]) for name in ("median", "low", "high"))
    return [f"**{median}**", f"{low} - {high}"]


def verdict(text, value, goal, at_most=False):
    """Returns "TEXT: met" or "TEXT: missed"; "" if value or goal is unknown."""
    if value is None or goal is None:
        return ""
    met = value <= goal if at_most else value >= goal
    return f"{text}: {'met' if met else 'missed'}"


def measured_table(header, rows, names, figures):
    """Formats measurements as a table.

    Args:
        header: list of text.
        rows: list of dicts, as from `runs.in_turns`.
        names: function of a row -> its first cells.
        figures: function of a row with "runs" -> its other cells; others get the reason.
    """
    lines = []
    for row in rows:
        line = [*names(row), *(["-", row["failed"]] if "failed" in row else figures(row))]
        lines.append([*line, *[""] * (len(header) - len(line))])
    return table(header, lines)
