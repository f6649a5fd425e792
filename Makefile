# `make` lists the targets. A fresh machine needs Python 3.11, make and nothing else.
# Override what is used: make run PORT=9000, make test PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
BIN := $(VENV)/bin
PYTEST = $(BIN)/python -m pytest
# What forks cannot do so in a worker of xdist, which would be forked with it.
FORKING = tests/db/test_faults_processes.py
PARALLEL = -n auto --dist loadfile --ignore=$(FORKING)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check lint types imports cover docs wheel lowest fuzz bench format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/run.stamp ## serve the quickstart on http://127.0.0.1:8000, or PORT=9000
	@$(BIN)/python -m scripts.serve "$(PORT)"

test: $(VENV)/test.stamp ## run the tests, for two or three minutes; those of a database server are skipped where none answers
	$(PYTEST) $(PARALLEL)
	$(PYTEST) $(FORKING)

check: lint types imports cover docs ## all that CI wants of a change: style, types, layers, coverage, docs

lint: $(VENV)/dev.stamp ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/dev.stamp ## mypy strict, pyright, and the public API typed to 100 %
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	PATH="$(abspath $(BIN)):$$PATH" pyright --verifytypes fastapi_kit --ignoreexternal

imports: $(VENV)/dev.stamp ## import-linter: who may import whom
	$(BIN)/lint-imports

cover: $(VENV)/dev.stamp ## the tests with every branch of src covered
	$(PYTEST) $(PARALLEL) --cov --cov-fail-under=0 --cov-report=
	$(PYTEST) $(FORKING) --cov --cov-append --cov-report=term

docs: $(VENV)/dev.stamp ## build the pages and the API reference into site/; a broken link or reference fails
	$(BIN)/zensical build --clean --strict

wheel: $(VENV)/dev.stamp ## build both archives and try them in an environment without extras
	$(BIN)/python -m scripts.check_wheel

lowest: $(VENV)/dev.stamp ## the tests with the lowest versions that pyproject.toml allows
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)/lowest
	$(BIN)/uv pip install --quiet --python $(VENV)/lowest --resolution lowest-direct \
		--editable '.[all]' --group test
	$(VENV)/lowest/bin/python -m pytest $(PARALLEL)
	$(VENV)/lowest/bin/python -m pytest $(FORKING)

# In an environment of its own, since schemathesis brings a plug-in that pytest would load in all the tests.
fuzz: ## ask the examples what nobody would: schemathesis, all checks, for two to four minutes
	@$(MAKE) --no-print-directory VENV="$(VENV)/fuzz" $(VENV)/fuzz/fuzz.stamp
	$(VENV)/fuzz/bin/python -m scripts.fuzz_examples

bench: $(VENV)/dev.stamp ## measure the kit against the same endpoints written by hand
	$(BIN)/python -m benchmarks

format: $(VENV)/dev.stamp ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove what the other targets made; quickstart.db stays
	rm -rf $(VENV) dist site .cache .coverage .hypothesis .*_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each dependency group: pip runs again only when pyproject.toml or the Python changed.
$(VENV)/%.stamp: pyproject.toml $(BIN)/python
	@echo "Installing the '$*' dependencies into $(VENV); the first time takes a minute."
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --editable . --group $*
	@touch $@

$(BIN)/python:
	@sh scripts/venv.sh "$(PYTHON)" "$(VENV)"
