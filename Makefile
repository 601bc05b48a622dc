# Two commands do everything: `make search` finds a network, `make test` checks the framework.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= runs/quickstart
PYTEST := $(BIN)/python -m pytest -n auto --dist loadgroup

NOT_QUICK := controllers/testing nas/benchmarks nas/cli nas/execution nas/export nas/full_training nas/scoring \
  nas/training \
  $(addprefix nas/report/,test_activity.py test_pictures.py test_streams.py test_tensorboard.py) \
  $(addprefix nas/,test_contract_suites.py test_doctor.py test_resume.py test_systems.py) \
  $(addprefix search_spaces/,test_memory.py test_parity.py test_weights.py) test_arena.py test_docs.py test_readme.py

.PHONY: search test quick check slow docs install clean

search: $(VENV)/.installed ## install and run the quickstart search
	$(BIN)/nas quickstart --out $(OUT)

test: $(VENV)/.installed-dev ## all tests but the slow ones and those that need a GPU
	$(PYTEST) --durations 15 -m "not slow and not gpu"

quick: $(VENV)/.installed-dev ## 3,300 tests of all three packages in about two minutes, without trainings and Ray
	$(PYTEST) -m "not slow and not gpu and not ray" $(addprefix --ignore=tests/,$(NOT_QUICK))

check: $(VENV)/.installed-dev ## format, lint, types, import contracts, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

slow: $(VENV)/.installed-dev ## the slow tests
	$(PYTEST) --durations 15 -m "slow and not gpu"

docs: $(VENV)/.installed-docs ## the site, into site/; a warning is an error, and nothing is downloaded
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

install: $(VENV)/.installed

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist site *.egg-info
