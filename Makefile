# Each target sets up all it needs: a virtual environment in .venv with the exact versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SETUP := pyproject.toml constraints.txt

.PHONY: setup demo test check bench drills clean

setup: $(READY)

# torch first and by itself: its pinned build must be there before anything could pull in another one
$(READY): $(SETUP)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -E '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" bash runs/demo.sh

test: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini

drills: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m drill

# a table, and build/bench/bench.json; `make bench BENCH=--quick` takes minutes, the whole an hour or more
bench: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/bench.py $(BENCH)

clean:
	rm -rf $(VENV) build
