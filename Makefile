# `make repro` and `make test` are all a fresh clone needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: repro watch demo test test-slow test-rounding lint constraints clean

repro: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro

watch: .venv/installed
	$(BIN)/python -m stages.watch

demo: .venv/installed
	$(BIN)/python -m stages.demo

test: .venv/installed-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest

test-slow: .venv/installed-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest -m slow

# PyTorch then uses no vector instructions and MKL its portable order: both round otherwise.
test-rounding: .venv/installed-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE \
	  python -m pytest -m "rounding and not slow and not gpu"

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Pins what an environment made today would get.
constraints:
	$(PYTHON) -m venv --clear .state/constraints
	.state/constraints/bin/python -m pip install --quiet --requirement requirements-dev.txt
	.state/constraints/bin/python constraints.py
	rm -rf .state/constraints

clean:
	rm -rf .venv .state

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --requirement requirements.txt --constraint constraints.txt
	@touch $@

.venv/installed-dev: requirements.txt requirements-dev.txt constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt --constraint constraints.txt
	@touch $@ .venv/installed
