# Each target sets up what it needs, once: `make test` on a fresh clone installs first.
# Another interpreter: make test PYTHON=python3.13
# On the machine that stored the outputs they come back bit for bit: make test EXACT=1

PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -q --numprocesses 2 --dist
SET_UP := .venv/.set-up
NOTEBOOKS := $(sort $(wildcard notebooks/[0-9]*.ipynb))
SOLUTIONS := $(sort $(wildcard notebooks/solutions/[0-9]*.ipynb))
# Those that run longest come first, or one of them would run last and alone.
LONGEST := $(addprefix notebooks/,$(addsuffix .ipynb,solutions/03_training 07_likelihood solutions/08_scaling_out \
    solutions/07_likelihood 08_scaling_out solutions/06_experiments 06_experiments))
REFRESHED = $(if $(NOTEBOOK),$(wildcard notebooks/$(NOTEBOOK)*.ipynb),$(NOTEBOOKS) $(SOLUTIONS))
DECKS := notebooks/01_elbo.ipynb notebooks/03_training.ipynb notebooks/05_traversals.ipynb

.DEFAULT_GOAL := help
.PHONY: help run rerun test check test-reruns test-lab test-colab test-binder test-oldest test-newest bench audit links lab \
    book slides address refresh published experiments schematic likelihood lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

run: $(SET_UP) ## execute every notebook and the solutions; copies and their HTML go to build/notebooks
	$(BIN)/python tools/run.py --to build/notebooks

rerun: $(SET_UP) ## execute one with other values: make rerun NOTEBOOK=05_traversals ARGS="-p latent_size 2"
	@test -f "notebooks/$(NOTEBOOK).ipynb" || { echo "NOTEBOOK must be one of: $(notdir $(NOTEBOOKS:.ipynb=))"; exit 2; }
	@mkdir -p build/reruns
	$(BIN)/papermill --cwd notebooks $(ARGS) notebooks/$(NOTEBOOK).ipynb build/reruns/$(NOTEBOOK).ipynb
	$(BIN)/jupyter nbconvert --log-level ERROR --to html build/reruns/$(NOTEBOOK).ipynb
	@echo "Open build/reruns/$(NOTEBOOK).html in a browser."

test: check ## all tests, then every notebook under nbval, compared with its stored outputs
	VAE_STRICT=1 $(PYTEST) worksteal -m slow tests
	VAE_STRICT=1 VAE_EXACT=$(EXACT) $(PYTEST) loadfile --no-loadscope-reorder -p tools.reproduce \
	    --nbval --nbval-current-env $(LONGEST) $(filter-out $(LONGEST),$(NOTEBOOKS) $(SOLUTIONS))

check: $(SET_UP) ## the fast part of the tests: lint, unit tests, notebook rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	VAE_STRICT=1 $(PYTEST) worksteal -m "not slow and not weekly" tests

test-reruns: $(SET_UP) ## every notebook with 61 sets of other values, some 15 min
	$(BIN)/python -m pytest -q -m weekly tests/test_reruns.py

test-lab: $(SET_UP) ## JupyterLab in a real browser: three notebooks read, trusted, run, changed, some 2 min
	$(BIN)/python -m pytest -q -m weekly tests/test_lab.py

test-binder: $(SET_UP) ## what Binder would build, in a virtual environment
	$(BIN)/python -m pytest -q -m weekly tests/test_binder.py

# Colab's Python, and the versions of its image.
COLAB_PYTHON ?= python3.13
test-colab: build/colab/.set-up ## every notebook in an environment like Colab's, from its setup cell on
	build/colab/bin/python tools/colab.py

build/colab/.set-up: tools/colab-2026-08-19.txt
	@$(COLAB_PYTHON) -c 'import sys; sys.exit(None if sys.version_info[:2] == (3, 13) else "Colab has Python 3.13: make test-colab COLAB_PYTHON=python3.13, say")'
	$(COLAB_PYTHON) -m venv --clear build/colab
	build/colab/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

test-oldest: $(SET_UP) ## the fast tests and three notebooks with the oldest versions that pyproject.toml admits
	$(call test_in_fresh_environment,build/oldest,lowest-direct)

test-newest: $(SET_UP) ## the same with the newest
	$(call test_in_fresh_environment,build/newest,highest)

define test_in_fresh_environment
$(BIN)/uv venv --quiet --clear --python $(PYTHON) $(1)
$(BIN)/uv pip install --quiet --python $(1) --resolution $(2) --editable ".[dev]"
$(1)/bin/python -m pytest -q -m "not slow and not weekly" tests
$(1)/bin/python tools/run.py --to $(1)/notebooks \
    notebooks/02_model.ipynb notebooks/03_training.ipynb notebooks/05_traversals.ipynb
endef

bench: $(SET_UP) build/bench/.set-up ## time it beside its peers, for an hour or two: make bench ONLY="train bound" ROUNDS=3
	$(BIN)/python tools/benchmarks/run.py $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS))

build/bench/.set-up: tools/benchmarks/requirements.txt
	$(PYTHON) -m venv --clear build/bench/env
	build/bench/env/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

audit: build/audit/.set-up ## known vulnerabilities of the locked packages; needs the network
	build/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement requirements.txt \
	    $(shell awk -v today=$$(date +%F) '/^[^\#]/ && $$2 >= today {print "--ignore-vuln", $$1}' tools/audit-waivers.txt)

build/audit/.set-up:
	$(PYTHON) -m venv --clear build/audit
	build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	@touch $@

links: $(SET_UP) ## whether the links of the book lead somewhere; needs the network
	$(BIN)/sphinx-build -b linkcheck --quiet -c tools/book -d build/doctrees . build/links

lab: $(SET_UP) ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks

book: $(SET_UP) ## build the site of all notebooks in build/book; a warning is an error
	$(BIN)/sphinx-build --fail-on-warning --nitpicky --quiet -c tools/book -d build/doctrees . build/book
	@echo "Open build/book/index.html in a browser."

slides: $(SET_UP) ## build the decks of notebooks 01, 03 and 05 in build/slides, each one file
	$(BIN)/jupyter nbconvert --log-level ERROR --config tools/book/slides/config.py --output-dir build/slides $(DECKS)
	@echo "Open build/slides/01_elbo.slides.html in a browser; S opens the speaker's notes."

address: ## make badges and setup cells point to your fork: make address REPO=me/my-fork
	@$(PYTHON) tools/address.py "$(REPO)"

refresh: $(SET_UP) ## execute the notebooks and store their outputs: make refresh, or NOTEBOOK=05, or NOTEBOOK=solutions/05
	@test -n "$(REFRESHED)" || { echo "NOTEBOOK must begin the name of one, 05 or solutions/05, say"; exit 2; }
	VAE_STRICT=1 $(BIN)/python tools/run.py --in-place --memory 1.4 $(REFRESHED)

published: $(SET_UP) ## train over 50 seeds and write the table beside the published run
	$(BIN)/python tools/published_run.py > tools/PUBLISHED_RUN.md

experiments: $(SET_UP) ## train the models of notebook 06 until they are done; interrupt and resume at will
	$(BIN)/python tools/experiments.py

schematic: $(SET_UP) ## draw the model as notebooks, guide and README show it
	$(BIN)/python tools/schematic.py

likelihood: $(SET_UP) ## train as Burda et al. did, for hours; interrupt and resume at will
	$(BIN)/python tools/train_burda.py

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
