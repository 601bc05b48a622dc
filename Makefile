# Two commands do everything: `make search` finds a network, `make test` checks the framework.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= runs/quickstart
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadgroup

.PHONY: search test quick check slow install clean

search: $(VENV)/.installed ## install and run the quickstart search
	$(BIN)/nas quickstart --out $(OUT)

test: $(VENV)/.installed-dev ## all tests but the slow ones and those that need a GPU
	$(PYTEST) --durations 15 -m "not slow and not gpu"

quick: $(VENV)/.installed-dev ## the tests of about a minute, for the fingers
	$(PYTEST) -m "not slow and not gpu and not ray" tests/search_spaces tests/controllers

check: $(VENV)/.installed-dev ## format, lint, types, import contracts, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

slow: $(VENV)/.installed-dev ## the slow tests
	$(PYTEST) --durations 15 -m "slow and not gpu"

install: $(VENV)/.installed

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info
