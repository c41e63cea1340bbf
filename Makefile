# make book    execute every chapter in reduced mode and build the book into _build/html
# make test    lint, book, unit tests, notebook tests and browser check
SHELL := /bin/bash
.DELETE_ON_ERROR:

PYTHON ?= python3
CORES ?= 2
VENV := .venv
BIN := $(VENV)/bin
# The installer; plain pip takes over where it can't be had.
UV := uv==0.13.8

# A mirror folder beside the checkout saves the download of the datasets.
ifndef BLOODCELLS_MIRROR
ifneq ($(wildcard ../shared/datasets/.),)
export BLOODCELLS_MIRROR := $(abspath ../shared/datasets)
endif
endif
# TensorFlow's start-up notes are no news to a reader.
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help book test test-long lint install chromium outputs picture benchmarks clean
.DEFAULT_GOAL := help

help:
	@echo "make book      install, execute the chapters (reduced mode), build _build/html"
	@echo "make test      lint, book, unit tests, notebook tests, browser check"
	@echo "make test-long the tests that take minutes each: faults at random moments, other backends"
	@echo "make lint      ruff check and ruff format --check, modules and notebooks"
	@echo "make install   only the virtual environment in $(VENV)"
	@echo "make chromium  look for a Chromium for the browser check, install it where possible"
	@echo "make outputs   store anew, in notebooks/, the outputs that nbval compares (after make book)"
	@echo "make benchmarks time and memory beside peers, for the page on speed (an hour; leave the machine alone)"
	@echo "make picture   draw the picture of the README anew"
	@echo "make clean     remove everything that was built; $(VENV) and the data cache stay"
	@echo "Variables: PYTHON=$(PYTHON) CORES=$(CORES) BLOODCELLS_MIRROR=$(BLOODCELLS_MIRROR)"

$(VENV)/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages into $(VENV) (minutes on a slow connection)"
	$(BIN)/python -m pip install --quiet $(UV) || true
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt \
	  || $(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e . \
	  || $(BIN)/python -m pip install --quiet --no-deps -e .
	@# Where Python may not keep compiled modules, each process would spend ten seconds on those of TensorFlow.
	@if [ -n "$$PYTHONDONTWRITEBYTECODE" ]; then \
	  $(BIN)/python -m compileall -q -j $(CORES) $(VENV)/lib src >/dev/null 2>&1 || true; fi
	@touch $@

install: $(VENV)/.installed

book: install
	@$(BIN)/python workflow/build.py --cores $(CORES)
	@echo "The book is in _build/html/index.html"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# One call, so that the last lines are the summary of everything. A file stays in one process, as a notebook must; files
# are handed out in this order.
test: install
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory book
	@$(MAKE) --no-print-directory chromium
	$(BIN)/python -m pytest notebooks src tests -m "not long" -n $(CORES) --dist loadfile \
	  --nbval-lax --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg

test-long: install
	$(BIN)/python -m pytest tests -m long

chromium:
	@if command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null; then exit 0; fi; \
	echo "No Chromium found: trying to install Debian's package."; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
	{ $$sudo apt-get update -qq && $$sudo apt-get install -y -qq chromium; } >/dev/null 2>&1 \
	  || echo "!!! NO CHROMIUM: the browser check will FAIL. Install chromium or google-chrome, or set BLOODCELLS_NO_BROWSER=1. !!!"

outputs: install
	$(BIN)/python workflow/store_outputs.py

picture: install
	$(BIN)/python workflow/draw_smear_picture.py

benchmarks: install
	$(BIN)/python benchmarks/run_all.py

clean:
	rm -rf _build .snakemake
