# Each target sets up what it needs, once: `make test` on a fresh clone installs first.
# Another interpreter: make test PYTHON=python3.13

PYTHON ?= python3
BIN := .venv/bin
SET_UP := .venv/.set-up
NOTEBOOKS := $(sort $(wildcard notebooks/[0-9]*.ipynb))

.DEFAULT_GOAL := help
.PHONY: help run test check lab refresh published lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

run: $(SET_UP) ## execute every notebook; copies and their HTML go to build/notebooks
	$(BIN)/python notebooks/run.py --to build/notebooks

test: check ## lint, unit tests and notebook rules, then every notebook under nbval
	VAE_STRICT=1 $(BIN)/python -m pytest -q -m slow tests
	VAE_STRICT=1 $(BIN)/python -m pytest -q --nbval-lax --nbval-current-env $(NOTEBOOKS)

check: $(SET_UP) ## the fast part of the tests: lint, unit tests, notebook rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	VAE_STRICT=1 $(BIN)/python -m pytest -q -m "not slow" tests

lab: $(SET_UP) ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks

refresh: $(SET_UP) ## execute every notebook and store its outputs in place
	VAE_STRICT=1 $(BIN)/python notebooks/run.py --in-place

published: $(SET_UP) ## train over 50 seeds and write the table beside the published run
	$(BIN)/python tests/published_run.py > build/PUBLISHED_RUN.md
	mv build/PUBLISHED_RUN.md tests/

lock: $(SET_UP) ## compile requirements.txt anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	    --upgrade --annotation-style line --custom-compile-command "make lock" \
	    --output-file requirements.txt

clean: ## remove the environment and what was built
	rm -rf .venv build

$(SET_UP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is %d.%d: make PYTHON=python3.12, say" % v)'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@mkdir -p build
	@touch $@
