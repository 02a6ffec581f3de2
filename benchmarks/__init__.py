"""Measurements beside the peers; `python benchmarks/bench.py`, or `make bench`."""
