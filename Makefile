# Python 3.11 or newer and make are all that is needed; everything else goes into $(VENV).
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-oldest check install

demo: install  ## the whole job on the embedded digits, in 3 to 10 minutes
	$(VENV)/bin/nas demo

test: install  ## the fast tests
	$(VENV)/bin/python -m pytest --numprocesses auto --dist worksteal

test-oldest:  ## the fast tests with the oldest versions that setup.cfg allows, in .venv-oldest
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	$(PYTHON) .ci/oldest_versions > .venv-oldest/constraints.txt
	.venv-oldest/bin/python -m pip install --editable '.[dev]' --constraint .venv-oldest/constraints.txt
	.venv-oldest/bin/python -m pytest --numprocesses auto --dist worksteal

check: install  ## style and types
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

install: $(INSTALLED)

# again only where the dependencies changed
$(INSTALLED): setup.cfg pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --editable '.[dev]'
	touch $@
