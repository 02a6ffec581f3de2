"""Benchmarks beside other libraries: `make bench`, or `python benchmarks/bench.py`."""
