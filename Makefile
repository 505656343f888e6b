# Every target does its own set-up: a virtual environment with pinned versions, then the work.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Also the tools that build the package are taken at the pinned versions.
INSTALL := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check
CODE := stgraph tests benchmarks experiments notebooks

.PHONY: demo test test-slow lint format bench docs notebooks clean help

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "stgraph needs Python 3.11 to 3.13; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[test]'
	@touch $@ $(VENV)/.core

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[docs]'
	@touch $@

demo: $(VENV)/.core ## Render a sample clip with known events and compress it to 30 %
	@mkdir -p demo
	@$(BIN)/stgraph sample demo/sample.mp4
	@$(BIN)/stgraph compress demo/sample.mp4 retention=0.3 --events demo/sample.events.json --output demo/result --overwrite

test: lint ## Everything that must pass: linting, types, tests
	$(BIN)/pytest --numprocesses 2 --nbmake tests notebooks

test-slow: $(VENV)/.test ## The tests that take minutes
	$(BIN)/pytest -m slow

lint: $(VENV)/.test ## Ruff and mypy
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy

format: $(VENV)/.test ## Apply ruff's fixes and format
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(VENV)/.test ## Speed: selections against one read of the features, and every detector at three sizes
	$(BIN)/python -m benchmarks.selection
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.merge_tree
	$(BIN)/python -m benchmarks.difference --time
	$(BIN)/python -m benchmarks.community

docs: $(VENV)/.docs ## Build the documentation into site/
	$(BIN)/mkdocs build --strict

clean: ## Remove what the targets made
	rm -rf $(VENV) demo site .pytest_cache .mypy_cache .ruff_cache .benchmarks .hypothesis
