"""Section quality_mnist: see `quality.py`."""

from benchmarks import quality

report = quality.report


def run(options):
    """Returns the figures of MNIST; see `quality.run`."""
    return quality.run(options, "mnist")
