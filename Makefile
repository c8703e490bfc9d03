# reachmap's commands. `make demo` and `make test` need Python >= 3.11, make and a package registry.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
ALONE  := .venv-agent-alone
# All tests are loaded there, and with them all modules; what runs is what an environment may break.
ALONE_TESTS := tests/shared tests/agent/app tests/agent/doctor tests/agent/protocols \
  $(addprefix tests/agent/test_,cli.py credentials.py delivery.py join.py service.py)
PACK   := .venv-package
EXAMPLES ?= 20

.DEFAULT_GOAL := help
.PHONY: help demo test test-long lab test-agent-wheel lint soak bench format docs lock wheels packages \
  test-packages clean

help:  ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

demo: $(VENV)/.run  ## A whole OpenUEM deployment on this machine: its map, two faults, their causes
	@$(BIN)/reachmap demo

test: $(VENV)/.dev  ## All tests, against a real NATS server and real agents
	$(BIN)/python -m pytest $(PYTEST)

test-long: $(VENV)/.dev  ## Properties alone, with EXAMPLES=20 times the examples of `make test`
	EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -m hypothesis -o timeout=0 $(PYTEST)

lab: $(VENV)/.dev  ## Real faults in network namespaces, who can tell what of each; writes docs/fault-matrix.md
	$(BIN)/python -m pytest tests/lab --table --matrix docs/fault-matrix.md --no-header

lint: $(VENV)/.dev  ## Style, types and the architecture's import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: $(VENV)/.dev  ## What may befall a deployment, a hundred times over; takes an hour
	@$(PIP) install --quiet --require-hashes --only-binary :all: -r requirements/fuzz.txt \
	  || echo "No wheel of atheris for this Python: the decoders are not fuzzed"
	$(BIN)/python soak/run.py $(SOAK)

bench: $(VENV)/.run  ## What it costs, as ratios to a floor and to peers in the same run
	$(BIN)/python benchmarks/run.py

format: $(VENV)/.dev  ## Bring the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev  ## The pages that are written from the code
	$(BIN)/python docs/agent_settings.py

lock: $(VENV)/.dev  ## Renew requirements/*.txt: versions and hashes, no addresses
	$(BIN)/python requirements/lock.py

wheels: $(VENV)/.dev  ## The three wheels, in dist/
	rm -rf dist
	$(PIP) wheel --quiet --no-deps --no-build-isolation -w dist ./shared ./agent ./collector
	@ls dist

test-agent-wheel: wheels  ## The agent's wheel, installed alone, against its own tests
	rm -rf $(ALONE)
	$(PYTHON) -m venv $(ALONE)
	$(ALONE)/bin/python -m pip install --quiet --require-hashes -r requirements/agent-test.txt
	$(ALONE)/bin/python -m pip install --quiet --no-deps dist/reachmap_shared-*.whl dist/reachmap_agent-*.whl
	@! $(ALONE)/bin/python -c 'import reachmap_collector' 2>/dev/null || { echo "not alone"; exit 1; }
	$(ALONE)/bin/python -m pytest -q --collect-only tests/agent tests/shared >/dev/null
	$(ALONE)/bin/python -m pytest $(ALONE_TESTS)
	$(ALONE)/bin/reachmap-agent --version
	rm -rf $(ALONE)

packages: $(PACK)/.tools wheels  ## deb and rpm of agent and collector, in dist/
	@$(PACK)/bin/python -m pip install --quiet --no-deps --force-reinstall dist/*.whl
	@$(PACK)/bin/python packaging/build.py

test-packages: packages  ## Build, install, run, upgrade and purge them, under a real systemd
	$(BIN)/python -m pytest packaging/tests

clean:  ## Take away all that make brought
	rm -rf $(VENV) $(ALONE) $(PACK) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "reachmap needs Python 3.11 or newer; try: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "No virtual environment could be made; on Debian: apt install python3-venv"; exit 1; }

$(VENV)/.run: $(BIN)/python requirements/run.txt pyproject.toml
	@echo "Installing reachmap into $(VENV) (once) ..."
	@$(PIP) install --quiet --require-hashes -r requirements/run.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@echo "Installing the development tools into $(VENV) (once) ..."
	@$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

$(PACK)/.tools: requirements/package.txt
	@echo "Installing what makes packages into $(PACK) (once) ..."
	@$(PYTHON) -m venv $(PACK)
	@$(PACK)/bin/python -m pip install --quiet --require-hashes -r requirements/package.txt
	@touch $@
