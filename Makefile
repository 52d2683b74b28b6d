# Every target sets the environment up first, so each works in a fresh clone.
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)
PYTHON ?= python3
# tests/conftest.py puts the longest files first
PARALLEL := --dist loadfile --no-loadscope-reorder
# nbgrader looks for `jupyter` and `alembic` on PATH
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup demo test test-browser test-slow lint format bench hostile lab clean
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/ready ## make the environment in .venv

$(VENV)/ready: pyproject.toml constraints.txt
	@command -v uv >/dev/null || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	@if command -v uv >/dev/null; then [ -x $(BIN)/python ] || uv venv --quiet --python '>=3.11' $(VENV); \
	  else [ -x $(BIN)/uv ] || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; }; fi
	$(UV) pip install --python $(BIN)/python --constraint constraints.txt --group dev --editable .
	@touch $@

demo: setup ## the whole life of the lab for a simulated class of 8, in ./demo
	$(BIN)/autograder demo

test: setup ## the tests, but for those marked slow: whole classes, a whole course in the browser, hostile submissions, rarer machines
	@echo 'left out: the tests that are marked slow; `make test-slow` runs those'
	$(BIN)/pytest --numprocesses auto $(PARALLEL) -m "not slow"

test-slow: setup ## the tests that `make test` leaves out
	@# one process more than there are cores: jobs on a cluster mostly wait
	$(BIN)/pytest --numprocesses $$(( $$(nproc 2>/dev/null || echo 2) + 1 )) $(PARALLEL) -m "slow and not browser"
	$(BIN)/pytest tests/browser -m slow

test-browser: setup ## JupyterLab and formgrader as people use them; screenshots in build/screenshots
	$(BIN)/pytest tests/browser

lint: setup ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: setup ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup ## what recording costs, as ratios
	$(BIN)/python benchmarks/recording.py

hostile: setup ## hostile submissions on nbgrader's own autograde and on ours (half an hour)
	$(BIN)/python benchmarks/hostile.py

lab: setup ## open the course in JupyterLab
	cd assignments && jupyter lab

clean: ## remove the environment and the demo
	rm -rf $(VENV) demo
