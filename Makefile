# Each target sets up all it needs: a virtual environment in .venv with the exact versions of constraints.txt, each file
# checked against the hashes of requirements/.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SHELL := bash
.SHELLFLAGS := -o pipefail -c
LOCKED := requirements/locked.txt
SETUP := pyproject.toml constraints.txt $(LOCKED)
WORKERS ?= 2
# a worker that crashes ends the run with its test's name; pytest-xdist 3.8 would wait for ever for its replacement
SPREAD := --numprocesses $(WORKERS) --dist loadfile --max-worker-restart 0
RELEASE := build/release-tools
PIP := -m pip install --quiet --quiet --disable-pip-version-check --no-deps

# of what pip prints: every thirtieth package, the step that takes longest, what went wrong
PROGRESS := /^Collecting/ && ++n % 30 == 0 { print n " packages fetched"; fflush() } \
	/^Installing collected/ { print "installing them"; fflush() } /^ERROR/ { print }

.PHONY: setup demo test test-slow test-all check bench drills lock sbom audit release clean

setup: $(READY)

# cuda.txt only where the index had a CUDA build of PyTorch; what is pinned is whole, which `pip check` proves
$(READY): $(SETUP)
	@echo "setting up $(VENV), once, in some minutes" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes --requirement $(LOCKED) 2>&1 | \
		awk '$(PROGRESS)' >&2
	@case "$$($(BIN)/python -c 'from importlib.metadata import version; print(version("torch"))')" in *+cpu) ;; \
	*) $(BIN)/python $(PIP) --require-hashes --requirement requirements/cuda.txt ;; esac
	@$(BIN)/python $(PIP) --no-build-isolation --editable .
	@$(BIN)/python -m pip check --quiet --disable-pip-version-check
	@touch $(READY)

demo: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash runs/demo.sh

# all but the tests of tests/slow.txt, in some five minutes on two cores; those alone; all
test: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m "not drill and not slow" $(SPREAD) $(PYTEST)

test-slow: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m "slow and not drill" $(SPREAD) $(PYTEST)

test-all: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(SPREAD) $(PYTEST)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini

drills: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m drill -o faulthandler_timeout=0

# a table, and build/bench/bench.json; `make bench BENCH=--quick` takes minutes, the whole an hour or more
bench: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/bench.py $(BENCH)

# tools that a release needs and the program does not
$(RELEASE)/bin/python: requirements/release.txt
	$(PYTHON) -m venv --clear $(RELEASE)
	$(RELEASE)/bin/python $(PIP) --require-hashes --requirement requirements/release.txt
	touch $@

# after a change of constraints.txt: the hashes anew, from the index
lock: $(RELEASE)/bin/python
	PATH="$(CURDIR)/$(RELEASE)/bin:$$PATH" python requirements/lock.py

# build/sbom.json: what is installed, with versions and licences, as CycloneDX
sbom: $(READY) $(RELEASE)/bin/python
	$(RELEASE)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible $(BIN)/python | \
		$(RELEASE)/bin/python requirements/sbom.py build/sbom.json

# known weaknesses of what is pinned; asks the advisory service of the package index
audit: $(RELEASE)/bin/python
	$(RELEASE)/bin/pip-audit --require-hashes --disable-pip --requirement $(LOCKED)

# build/dist: wheel and source, checked; the wheel in an environment of its own, where one report gets written
release: $(RELEASE)/bin/python
	rm -rf build/dist build/lib build/installed
	$(RELEASE)/bin/python -m build --outdir build/dist .
	$(RELEASE)/bin/twine check --strict build/dist/*
	$(PYTHON) -m venv build/installed
	build/installed/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt build/dist/*.whl
	cd build/installed && bin/r2gengpt pull embedded && bin/r2gengpt generate ../../$(firstword $(wildcard src/r2gengpt/examples/*.[jp][pn]g))

clean:
	rm -rf $(VENV) build
