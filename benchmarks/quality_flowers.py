"""Section quality_flowers: see `quality.py`."""

from benchmarks import quality

report = quality.report


def run(options):
    """Returns the figures of Oxford Flowers; see `quality.run`."""
    return quality.run(options, "flowers")
