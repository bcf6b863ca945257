# Everything happens in a virtual environment of the clone. It is made on first use and brought
# up to date when pyproject.toml, constraints.txt, the version or the interpreter changes.
#
#   make test                                     the default interpreter, in .venv
#   make test PYTHON=python3.13 VENV=.venv-py313  another one, beside it
#   make test ARGS="tests/test_kernel.py -x"      arguments for pytest
#
# PyTensor's compile cache stays in its usual place in the home directory: a second run, from
# this clone or another, finds what the first one compiled.

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=

BIN := $(VENV)/bin
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint format docs docs-check build clean distclean FORCE

help:
	@echo "make demo       run examples/quickstart.py: a mode table, and a picture in examples/output"
	@echo "make test       the tests (ARGS=... goes to pytest)"
	@echo "make test-slow  the long statistical suites"
	@echo "make lint       ruff, mypy and the import contracts"
	@echo "make format     let ruff put the files in order"
	@echo "make docs       the documentation, into docs/_build/html"
	@echo "make docs-check the same in half a minute, into docs/_build/check: no page of the gallery is executed"
	@echo "make build      sdist and wheel into dist, checked"
	@echo "make clean      remove what was built, and caches; make distclean: environments too"

demo: $(VENV)/.installed-demo
	@MPLBACKEND=Agg $(BIN)/python examples/quickstart.py

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 $(ARGS)

test-slow: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 -m slow $(ARGS)

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache

format: $(VENV)/.installed-dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/.installed-docs
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# Every warning of Sphinx but one is an error, as in `make docs`: myst-nb learns from the execution
# by what lexer a cell is coloured.
docs-check: $(VENV)/.installed-docs
	@$(BIN)/python -m sphinx -W --keep-going -q -b html -D nb_execution_mode=off \
		-D suppress_warnings=myst-nb.lexer docs docs/_build/check

# sdist, and the wheel made from it, with what it must contain.
build: $(VENV)/.installed-dev
	@rm -rf dist
	@$(BIN)/python -m build
	@$(BIN)/twine check --strict dist/*
	@$(BIN)/python .ci/check_wheel.py dist/*.whl

clean:
	@rm -rf build dist docs/_build docs/api examples/output .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache
	@find . -name '.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	@rm -rf .venv .venv-*

# The environment, made anew if it belongs to another interpreter or another place.
$(VENV)/.python: FORCE
	@want="$$($(PYTHON) -c 'import sys; print(sys.implementation.name, sys.version.split()[0])')" \
		|| { echo "PYTHON=$(PYTHON) does not run: name an interpreter that does" >&2; exit 1; }; \
	if [[ "$$want in $(CURDIR)" != "$$(cat $@ 2>/dev/null)" ]]; then \
		if [[ -e $(VENV) && ! -e $(VENV)/pyvenv.cfg ]]; then \
			echo "VENV=$(VENV) exists and is no virtual environment" >&2; exit 1; \
		fi; \
		echo "Making $(VENV) with $$want"; \
		rm -rf $(VENV); \
		$(PYTHON) -m venv $(VENV); \
		echo "$$want in $(CURDIR)" > $@; \
	fi

# The demo needs no torch, which on Linux brings gigabytes of libraries for GPUs with it. An
# environment that has an extra has all that the demo needs.
$(VENV)/.installed-demo: $(VENV)/.python pyproject.toml constraints.txt pymc_multimodal/_version.py
	@if ! compgen -G "$(VENV)/.installed-*" > /dev/null; then \
		echo "Installing pymc-multimodal without torch into $(VENV); from nothing this takes some minutes"; \
		$(BIN)/python .ci/dependencies.py --without torch zuko > $(VENV)/demo.txt; \
		$(BIN)/python -m pip install -qq -c constraints.txt -r $(VENV)/demo.txt; \
		$(BIN)/python -m pip install -qq --no-deps -e .; \
	fi
	@touch $@

# One stamp per extra.
$(VENV)/.installed-%: $(VENV)/.python pyproject.toml constraints.txt pymc_multimodal/_version.py
	@echo "Installing pymc-multimodal[$*] into $(VENV); from nothing this takes some minutes"
	@$(BIN)/python -m pip install -qq -c constraints.txt -e ".[$*]"
	@touch $@
