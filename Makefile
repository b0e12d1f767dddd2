# Each target sets up what it needs, once: `make test` on a fresh clone installs first.
# Another interpreter: make test PYTHON=python3.13
# On the machine that stored the outputs they come back bit for bit: make test EXACT=1

PYTHON ?= python3

# Commands see of the machine what is named here, and a home of their own: nobody's start-up files,
# kernels, styles, locale or options of Python. What installs or opens a window has the user's home.
SEEN := PATH SHELL TERM TMPDIR USER DISPLAY WAYLAND_DISPLAY XAUTHORITY XDG_RUNTIME_DIR BROWSER LD_LIBRARY_PATH \
    CUDA_VISIBLE_DEVICES SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE HTTP_PROXY HTTPS_PROXY NO_PROXY \
    http_proxy https_proxy no_proxy PYENV_ROOT PYENV_VERSION UV_DEFAULT_INDEX UV_INDEX UV_CACHE_DIR \
    $(addprefix PIP_,CONFIG_FILE INDEX_URL EXTRA_INDEX_URL NO_INDEX FIND_LINKS TRUSTED_HOST CERT CACHE_DIR)
unexport $(filter-out $(SEEN),$(.VARIABLES))
AT_HOME := HOME="$(HOME)" $(foreach name,XDG_CONFIG_HOME XDG_CACHE_HOME,$(if $($(name)),$(name)="$($(name))"))
export HOME := $(CURDIR)/build/home
$(shell mkdir -p build/home)
export LC_ALL := C.UTF-8
export PIP_USER := 0

BIN := .venv/bin
PYTEST := VAE_STRICT=1 VAE_EXACT=$(EXACT) $(BIN)/python -m pytest -q
TWO := --numprocesses 2 --dist
BOOK := $(BIN)/sphinx-build --quiet -c tools/book
SET_UP := .venv/.set-up
DEV := .venv/.set-up-dev
# By what their names begin with, longest running first. (-I: `shell` has the environment of the user.)
named = $(shell $(BIN)/python -I tools/paths.py $(1))
NOTEBOOKS = $(call named,0)
OURS = tests tools vae_helpers $(call named)
REFRESHED = $(call named,$(NOTEBOOK))
DECKS := notebooks/01_elbo.ipynb notebooks/03_training.ipynb notebooks/05_traversals.ipynb

.DEFAULT_GOAL := help
.PHONY: help run rerun test check test-reruns test-colab test-binder test-lab test-scale test-oldest test-newest bench scaling audit links colab-moved lab book slides \
    address refresh guide published experiments schematic likelihood lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^##@ / {print "\n" substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

##@ Read and run

run: $(SET_UP) ## execute the notebooks and make a book of them, with SOLUTIONS=1 of their solutions, too
	@rm -rf build/run
	@$(BIN)/python tools/run.py --to build/run $(if $(SOLUTIONS),$(call named),$(NOTEBOOKS)); status=$$?; $(call book_of,build/run) && \
	    echo "Open build/run/book/index.html in a browser." && exit $$status

# All pages, with what a folder has in place of what is stored.
book_of = $(BOOK) -E -D executed=$(1) -d $(1)/doctrees . $(1)/book

lab: $(SET_UP) ## open JupyterLab on the notebooks
	$(AT_HOME) $(BIN)/jupyter lab notebooks

rerun: $(DEV) ## execute one with other values: make rerun NOTEBOOK=05_traversals ARGS="-p latent_size 2"
	@test -f "notebooks/$(NOTEBOOK).ipynb" || { echo "NOTEBOOK must be one of: $(sort $(notdir $(NOTEBOOKS:.ipynb=)))"; exit 2; }
	@mkdir -p build/reruns
	$(BIN)/papermill --cwd notebooks $(ARGS) notebooks/$(NOTEBOOK).ipynb build/reruns/$(NOTEBOOK).ipynb
	$(call book_of,build/reruns)
	@echo "Open build/reruns/book/notebooks/$(NOTEBOOK).html in a browser."

book: $(SET_UP) ## build the site of all notebooks in build/book; a warning is an error
	$(BOOK) --fail-on-warning --nitpicky -d build/doctrees . build/book
	@echo "Open build/book/index.html in a browser."

slides: $(DEV) ## build the decks of notebooks 01, 03 and 05 in build/slides, each one file
	$(BIN)/jupyter nbconvert --log-level ERROR --config tools/book/slides/config.py --output-dir build/slides $(DECKS)
	@echo "Open build/slides/01_elbo.slides.html in a browser; S opens the speaker's notes."

address: ## make badges and setup cells point to your fork: make address REPO=me/my-fork
	@$(PYTHON) tools/address.py "$(REPO)"

##@ Change

check: $(DEV) ## the fast part of the tests: lint, unit tests, notebook rules
	@$(BIN)/ruff check $(OURS)
	@$(BIN)/ruff format --check $(OURS)
	$(PYTEST) -p no:nbval $(TWO) worksteal -m "not slow and not weekly" tests

test: check ## all tests, then every notebook under nbval, compared with its stored outputs
	$(PYTEST) -p no:nbval $(TWO) worksteal -m slow tests
	$(PYTEST) $(TWO) loadfile --no-loadscope-reorder -p tools.reproduce \
	    --nbval --nbval-current-env $(call named)

refresh: $(DEV) ## execute the notebooks and store their outputs: make refresh, or NOTEBOOK=05, or NOTEBOOK=solutions/05
	@test -n "$(REFRESHED)" || { echo "NOTEBOOK must begin the name of one, 05 or solutions/05, say"; exit 2; }
	VAE_STRICT=1 $(BIN)/python tools/run.py --in-place --memory 1.4 $(REFRESHED)

guide: $(DEV) ## write changed numbers of the notebooks into the teacher's guide, since the last commit or SINCE=HEAD~2
	$(BIN)/python tools/guide.py $(or $(SINCE),HEAD)

##@ Check what rots

test-reruns: $(DEV) ## every notebook with 66 sets of other values, some 17 min
	$(BIN)/python -m pytest -q -m weekly tests/test_reruns.py

test-lab: $(DEV) ## JupyterLab in a real browser: three notebooks read, trusted, run, changed, some 2 min
	$(BIN)/python -m pytest -q -m weekly tests/test_lab.py

test-scale: $(DEV) ## sweeps and trainings on two machines, hosts, devices, and killed; make scaling in short; some 5 min
	$(BIN)/python -m pytest -q -m weekly tests $(foreach name,reruns lab binder,--ignore tests/test_$(name).py)

test-binder: $(DEV) ## what Binder would build, in a virtual environment
	$(AT_HOME) $(BIN)/python -m pytest -q -m weekly tests/test_binder.py

# Colab's Python, and the versions of its image.
COLAB_PYTHON ?= python3.13
test-colab: build/colab/.set-up ## every notebook in an environment like Colab's, from its setup cell on
	$(AT_HOME) build/colab/bin/python tools/colab.py

build/colab/.set-up: tools/colab-2026-08-19.txt
	@$(AT_HOME) $(COLAB_PYTHON) -c 'import sys; sys.exit(None if sys.version_info[:2] == (3, 13) else "Colab has Python 3.13: make test-colab COLAB_PYTHON=python3.13, say")'
	$(AT_HOME) $(COLAB_PYTHON) -m venv --clear build/colab
	$(AT_HOME) build/colab/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

colab-moved: ## whether Colab has moved on from the versions of test-colab; needs the network
	@$(PYTHON) tools/colab_moved.py $(LISTS)

test-oldest: $(DEV) ## the fast tests and three notebooks with the oldest versions that pyproject.toml admits
	$(call test_in_fresh_environment,build/oldest,lowest-direct)

test-newest: $(DEV) ## the same with the newest
	$(call test_in_fresh_environment,build/newest,highest)

define test_in_fresh_environment
$(AT_HOME) $(BIN)/uv venv --quiet --clear --python $(PYTHON) $(1)
$(AT_HOME) $(BIN)/uv pip install --quiet --python $(1) --resolution $(2) --editable ".[dev]"
$(1)/bin/python -m pytest -q -m "not slow and not weekly" tests
$(1)/bin/python tools/run.py --to $(1)/notebooks \
    notebooks/02_model.ipynb notebooks/03_training.ipynb notebooks/05_traversals.ipynb
endef

links: $(DEV) ## whether the links of the book lead somewhere; needs the network
	$(BOOK) -b linkcheck -d build/doctrees . build/links

audit: build/audit/.set-up ## known vulnerabilities of the locked packages; needs the network
	$(AT_HOME) build/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement requirements.txt \
	    $(shell awk -v today=$$(date +%F) '/^[^\#]/ && $$2 >= today {print "--ignore-vuln", $$1}' tools/audit-waivers.txt)

build/audit/.set-up:
	$(AT_HOME) $(PYTHON) -m venv --clear build/audit
	$(AT_HOME) build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	@touch $@

##@ Make again what is stored

experiments: $(DEV) ## train the models of notebook 06 until they are done; interrupt and resume at will
	$(BIN)/python tools/experiments.py

likelihood: $(DEV) ## train as Burda et al. did, for hours; interrupt and resume at will
	$(BIN)/python tools/train_burda.py

published: $(DEV) ## train over 50 seeds and write the table beside the published run
	$(BIN)/python tools/published_run.py > tools/PUBLISHED_RUN.md

schematic: $(DEV) ## draw the model as notebooks, guide and README show it
	$(BIN)/python tools/schematic.py

bench: $(DEV) build/bench/.set-up ## time it beside its peers, for an hour or two: make bench ONLY="train bound" ROUNDS=3
	$(BIN)/python tools/benchmarks/run.py $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS))

scaling: $(DEV) ## what a sweep gains from one and two workers, some minutes; on a quiet machine
	$(BIN)/python tools/scaling.py

build/bench/.set-up: tools/benchmarks/requirements.txt
	$(AT_HOME) $(PYTHON) -m venv --clear build/bench/env
	$(AT_HOME) build/bench/env/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

lock: $(DEV) ## compile requirements.txt anew from pyproject.toml
	$(AT_HOME) $(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	    --upgrade --annotation-style line --custom-compile-command "make lock" \
	    --output-file requirements.txt

clean: ## remove the environment and what was built
	rm -rf .venv build

$(SET_UP): requirements.txt pyproject.toml
	@$(AT_HOME) $(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is %d.%d: make PYTHON=python3.12, say" % v)'
	$(AT_HOME) $(PYTHON) -m venv --clear .venv
	$(AT_HOME) $(BIN)/python -m pip install --quiet --disable-pip-version-check $(shell grep -o '^uv==[^ ]*' requirements.txt) || true
	$(call install,run)
	@touch $@

$(DEV): $(SET_UP)
	$(call install,dev)
	@touch $@

# In the versions of requirements.txt. uv takes a fifth of pip's time; pip steps in where it can't be had.
define install
$(AT_HOME) $(BIN)/uv pip install --quiet --python .venv --constraint requirements.txt $(FROM) --editable ".[$(1)]" || \
    $(AT_HOME) $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.txt --editable ".[$(1)]"
endef
FROM = $(if $(PIP_NO_INDEX),--no-index) $(addprefix --find-links ,$(PIP_FIND_LINKS)) $(addprefix --index-url ,$(PIP_INDEX_URL))
