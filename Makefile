# Developers' commands; `make help` lists them. Tools come from PyPI into .venv; from Debian only a C++
# compiler, GoogleTest and Python's venv are needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := build/stamps
# No byte code: the packaging tests copy the tree while others run.
PYTEST := PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m pytest -n 4 --dist loadgroup

# cmake, ninja and the JSON headers of the virtual environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export CAPIO_WERROR ?= ON
BUILD_ENGINE := PYTHON=$(CURDIR)/$(BIN)/python scripts/build_capio.sh

ENGINE := $(shell find vendor/capio -type f) scripts/build_capio.sh
CXX_SOURCES := $(shell find vendor/capio -name '*.h' -o -name '*.cc' -o -name '*.c')

.DEFAULT_GOAL := build
.NOTPARALLEL:
.PHONY: help build test test-cpp test-python test-capio-lib test-libraries conformance sanitize lint format demo bench bench-scale wheel clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1 - \2/p' Makefile

build: $(STAMPS)/native ## the package, editable, in .venv

test: lint test-cpp test-python test-capio-lib ## everything a change has to pass

# ---- Tools and build -----------------------------------------------------------------------------

$(STAMPS)/tools:
	@compiler="$${CXX:-g++}"; missing=; \
	if ! command -v "$${compiler%% *}" >/dev/null; then \
	  [ -z "$$CXX" ] || { echo "make: CXX is '$$CXX', which was not found" >&2; exit 1; }; \
	  missing="g++ libgtest-dev"; \
	elif ! echo '#include <gtest/gtest.h>' | $$compiler -E -x c++ - >/dev/null 2>&1; then \
	  missing="libgtest-dev"; \
	fi; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	if [ -n "$$missing" ]; then \
	  echo "make: something is missing on this machine; install it with: apt install" $$missing >&2; exit 1; \
	fi
	@mkdir -p $(@D) && touch $@

$(STAMPS)/venv: pyproject.toml setup.py vendor/capio/VERSION | $(STAMPS)/tools
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,dev]'
	@touch $@

$(STAMPS)/native: $(STAMPS)/venv $(ENGINE) pycapio/_build_ffi.py setup.py
	$(BIN)/python setup.py --quiet build_native --inplace
	@touch $@

# ---- Tests ---------------------------------------------------------------------------------------

test-cpp: $(STAMPS)/venv ## the engine's unit tests
	$(BUILD_ENGINE) --tests
	ctest --test-dir build/release --output-on-failure --no-tests=error -j 2

test-python: build ## the Python tests, packaging included
	$(PYTEST)

test-capio-lib: $(STAMPS)/native ## the Python tests against an installed library, through CAPIO_LIB
	$(BUILD_ENGINE) --prefix build/prefix
	CAPIO_LIB=$(CURDIR)/build/prefix $(PYTEST) $(addprefix --ignore=tests/,packaging conformance model)

test-libraries: build ## the libraries of the field, which it installs
	$(BIN)/python -m pip install --quiet --editable '.[libraries]'
	$(PYTEST) tests/libraries

conformance: build ## all of CPython's tests of files, in every version of Python found here
	$(BIN)/python tests/conformance/pythons.py build/conformance
	CAPIO_CONFORMANCE=all $(PYTEST) tests/conformance
	$(BIN)/python tests/conformance/record.py build/conformance

sanitize: $(STAMPS)/venv ## the engine's unit tests under ASan + UBSan, then under TSan
	$(BUILD_ENGINE) --tests --sanitize=address,undefined
	UBSAN_OPTIONS=print_stacktrace=1 \
	  ctest --test-dir build/sanitize-address-undefined --output-on-failure --no-tests=error -j 2
	$(BUILD_ENGINE) --tests --sanitize=thread
	ctest --test-dir build/sanitize-thread --output-on-failure --no-tests=error -j 2

lint: $(STAMPS)/native ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CXX_SOURCES)

format: $(STAMPS)/venv ## reformat everything
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_SOURCES)

# ---- Use -----------------------------------------------------------------------------------------

demo: build ## two steps on real input, one after the other and at the same time
	$(BIN)/python examples/corpus/run.py

bench: $(STAMPS)/bench build ## measurements; ARGS="--record" keeps them, ARGS="--help" tells more
	$(BIN)/python bench/run.py $(ARGS)

bench-scale: $(STAMPS)/bench build ## what must not grow: many files, processes, bytes
	$(BIN)/python bench/run.py --scale

$(STAMPS)/bench: pyproject.toml | $(STAMPS)/venv
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

wheel: $(STAMPS)/venv ## sdist and wheel in dist/
	$(BIN)/python -m build --outdir dist .
	$(BIN)/auditwheel show dist/*.whl

clean: ## remove everything that was built, .venv too
	rm -rf build dist $(VENV) *.egg-info .mypy_cache .pytest_cache .ruff_cache
	rm -f pycapio/_capio_abi.py pycapio/_version.py pycapio/_native/libcapio.so pycapio/_native/capio_server
