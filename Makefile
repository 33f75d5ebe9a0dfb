# `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow check clean

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(INSTALLED) ## make .venv and install everything into it (uv if there, else pip)

$(INSTALLED): pyproject.toml constraints.txt
	@if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python $(PYTHON) .venv && \
		VIRTUAL_ENV=.venv uv pip install --quiet --constraints constraints.txt --editable '.[dev]'; \
	else \
		$(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'; \
	fi
	@touch $@

demo: setup ## pre-train on the embedded data set, minutes on a CPU, and show what was learned
	@$(BIN)/cim-pretrain experiment=demo

check: setup ## format, lint, types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright

test: check ## check, then every test except the slow ones
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m 'not slow'

test-slow: setup ## the slow tests alone
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m slow

clean: ## remove caches and builds; runs and .venv stay
	@rm -rf dist .pytest_cache .ruff_cache .hypothesis && find src tests -name __pycache__ -prune -exec rm -rf {} +
