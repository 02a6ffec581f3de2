# `make` lists the targets. Paths are relative, so the folder's own name may hold spaces.
PYTHON ?= python3
PY := .venv/bin/python
PIP_INSTALL := $(PY) -m pip install --disable-pip-version-check
BENCH_PY := .venv-bench/bin/python

# Two workers of one TensorFlow thread each (tests/conftest.py); a free worker takes over tests.
PYTEST := $(PY) -m pytest -n 2 --dist worksteal

SHIPPED := oxford_flowers102
DEMO_MODEL := saved_models/digits
DEMO_FLOWERS := samples/flowers.png
DEMO_DIGITS := samples/digits.png
DEMO_TRAIN_FLAGS ?= --dataset digits --minutes 1 --run-dir runs/demo --export-dir $(DEMO_MODEL)

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-long bench notebooks lint clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1: /p' Makefile

# Stamps are written last: an install that failed is tried again, a finished one is not.
# A new pip first: the one that comes with Python 3.10 searches for many minutes here.
.venv/.pip .venv-bench/.pip: %/.pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer, please: make PYTHON=python3.11")'
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install --disable-pip-version-check --upgrade pip
	touch $@

.venv/.requirements: requirements.txt .venv/.pip
	$(PIP_INSTALL) -r requirements.txt
	touch $@

.venv/.requirements-dev: requirements-dev.txt requirements-app.txt .venv/.requirements
	$(PIP_INSTALL) -r requirements-dev.txt
	touch $@

.venv-bench/.requirements: benchmarks/requirements.txt requirements.txt .venv-bench/.pip
	$(BENCH_PY) -m pip install --disable-pip-version-check -r benchmarks/requirements.txt
	touch $@

demo: .venv/.requirements  ## sample the flowers that come with the package, then train on digits for a minute
	$(PY) sample.py --model $(SHIPPED) --num 36 --out $(DEMO_FLOWERS)
	rm -rf runs/demo
	$(PY) train.py $(DEMO_TRAIN_FLAGS)
	$(PY) sample.py --model $(DEMO_MODEL) --out $(DEMO_DIGITS)
	@echo "Look at $(DEMO_FLOWERS), $(DEMO_DIGITS) and the images and curves of the run, in runs/demo"

test: .venv/.requirements-dev  ## run the fast tests, some minutes on two cores
	$(PYTEST) -m "not slow"

test-slow: .venv/.requirements-dev  ## run the tests marked slow, then kill a training 3 times
	$(PYTEST) -m slow
	$(PY) tests/support/kills.py --kills 3 --epochs 60

test-long: .venv/.requirements-dev  ## kill a training 20 times, resume it, compare every bit
	$(PY) tests/support/kills.py --kills 20

bench: .venv-bench/.requirements  ## measure beside other libraries for some hours, write benchmarks/RESULTS.md
	$(BENCH_PY) benchmarks/bench.py $(BENCH_FLAGS)

notebooks: .venv/.requirements-dev  ## run the notebooks for their minutes, keep what they show in them
	$(PY) -m notebooks.execute $(NOTEBOOKS)

lint: .venv/.requirements-dev  ## check style, format and the order of the layers
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/lint-imports

clean:  ## remove the environments, caches and build files; runs, samples and models stay
	rm -rf .venv .venv-bench .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
