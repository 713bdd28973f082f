# One word per job, here and in CI. The first call sets up .venv; a stamp per set of packages makes sure it happens once.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
RUN    := $(VENV)/.stamp-run
DEV    := $(VENV)/.stamp-dev
NATIVE := $(wildcard src/tacit/ring/cpp/*.[ch]pp src/tacit/protocols/*/kernels/cpp/*.[ch]pp) src/tacit/ring/cpp/CMakeLists.txt

# The environment variable, unlike --constraint, also reaches the isolated environment that builds Tacit itself.
export PIP_CONSTRAINT := $(abspath constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-slow fuzz reliability soak lint audit hashes format bench docs clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(DEV)  ## set up .venv with Tacit and everything the other jobs need

demo: $(RUN)  ## train a fraud model on two owners' columns, in three processes on this machine
	$(BIN)/tacit demo fraud

test: lint  ## everything CI runs: lint, types, layers, tests, documentation
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow and not timed'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'timed and not slow' tests/net tests/cli

test-slow: $(DEV)  ## the tests that take minutes, models of transformers and other libraries among them
	$(PIP) --editable '.[dev,libraries,simulation]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 --dist loadfile --timeout 3600

fuzz: $(DEV)  ## feed hostile bytes to all that reads any, and look for masks used twice; FUZZ_SECONDS for each way in
	OMP_NUM_THREADS=1 TACIT_FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) $(BIN)/python -m pytest -m slow --timeout 7200 \
		tests/hostile tests/protocols/test_mask_fuzz.py tests/ring/test_sanitizers.py

reliability: $(DEV)  ## kill, stop and cut off roles in every phase; results go to docs/reliability.md
	OMP_NUM_THREADS=1 $(BIN)/python reliability/inject.py

soak: $(DEV)  ## train and serve for SOAK_SECONDS each, and look whether memory grows
	OMP_NUM_THREADS=1 TACIT_SOAK_SECONDS=$(or $(SOAK_SECONDS),300) $(BIN)/python -m pytest -m slow -s \
		tests/load/test_soak.py

lint: $(DEV)  ## style, format, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/audit.py --tell

audit: $(DEV)  ## fail for known weaknesses of the pinned packages, which `make lint` only tells of
	$(BIN)/python .ci/audit.py

hashes:  ## render hashes.txt: the digests of all files of the pinned packages, as the index has them
	$(BIN)/uv pip compile --quiet --no-deps --generate-hashes --no-header --no-annotate --python-version 3.11.9 \
		constraints.txt --output-file hashes.txt

format: $(DEV)  ## put the code in form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(DEV)  ## time training and operators; results go to benchmarks/results
	$(BIN)/tacit bench

docs: $(DEV)  ## render what is generated from the code, and build the documentation into site/
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:  ## remove .venv and everything generated
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	git clean -fdXq src/tacit/ring

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tacit needs Python 3.11 or newer: make PYTHON=/path/to/python")'
	$(PYTHON) -m venv $(VENV)

# `make venv HASHED=1` takes packages only whose files have the digests of hashes.txt.
HASHED_ONLY = $(if $(HASHED),PIP_CONSTRAINT= $(PIP) --no-deps --require-hashes --requirement hashes.txt)

$(RUN): pyproject.toml constraints.txt $(NATIVE) | $(BIN)/python
	$(HASHED_ONLY)
	$(PIP) --editable .
	touch $@

$(DEV): pyproject.toml constraints.txt $(RUN)
	$(PIP) --editable '.[dev,data,fhe-dev,federated]'
	touch $@
