# `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help setup demo format check docs test test-slow bench bench-gpu clean

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(INSTALLED) ## create .venv and install the package with all extras (by uv if it is installed, else pip)

$(INSTALLED): pyproject.toml constraints.txt
	@if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python $(PYTHON) .venv && \
		VIRTUAL_ENV=.venv uv pip install --quiet --constraints constraints.txt --editable '.[dev]'; \
	else \
		$(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'; \
	fi
	@touch $@

demo: setup ## pre-train on generated images, 2 to 3 minutes on two CPU cores, and draw the predictions
	@$(BIN)/cim-pretrain experiment=demo_tokens

format: setup ## format the code and apply the fixes of ruff; the pre-commit hooks do the same
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

check: setup ## check the format, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright

docs: setup ## write the pages from conf/, the marks of the tests and the results of the benchmarks
	@$(BIN)/python docs/generate_configuration.py
	@$(BIN)/python docs/generate_inputs.py
	@$(BIN)/python docs/generate_faults.py
	@PYTHONPATH=experiments $(BIN)/python -m bench.table

test: check ## run check, then all tests except the slow ones
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m 'not slow'

test-slow: setup ## run the slow tests
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m slow

bench: setup ## measure the speed on a CPU, about 20 minutes, and write docs/benchmarks.md
	@set -e; for script in $$(ls experiments/bench_*.py | grep -v -e bench_gpu -e bench_memory -e bench_cropping); do $(BIN)/python $$script; done
	@$(BIN)/python experiments/bench_cropping.py --compiled
	@$(BIN)/python experiments/bench_memory.py --full
	@PYTHONPATH=experiments $(BIN)/python -m bench.table

bench-gpu: setup ## measure the speed on a GPU, about 10 minutes, and write docs/benchmarks.md
	@$(BIN)/python experiments/bench_gpu.py
	@PYTHONPATH=experiments $(BIN)/python -m bench.table

clean: ## delete caches and builds; keep runs and .venv
	@rm -rf dist .pytest_cache .ruff_cache .hypothesis && find src tests -name __pycache__ -prune -exec rm -rf {} +
