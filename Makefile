# Everything a newcomer types. Each target makes what it needs first; the second time that is quick.

PYTHON ?= python3
SEEDS ?= 2000
MINUTES ?= 10
# Tests mostly wait for real programs, so more of them run at a time than there are cores.
SIDE_BY_SIDE ?= -n 4 --dist loadgroup

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check unit coverage mutants docs bench bench-fleet profile sim sim-ablations chaos chaos-fleet screenshots recording clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.runtime ## watch a purge being proven on a real cache (ARGS=--keep leaves it running)
	@$(BIN)/agezero demo $(ARGS)

test: check $(if $(ARGS),,coverage) ## all checks and all tests (ARGS="-k name" to choose)
	$(BIN)/pytest $(SIDE_BY_SIDE) $(or $(ARGS),--ignore=tests/unit)

check: $(VENV)/.test ## types, style and import rules
	$(BIN)/mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/deptry src

unit: $(VENV)/.test ## only the quick tests, without processes
	$(BIN)/pytest tests/unit $(ARGS)

coverage: $(VENV)/.test ## the unit tests, which must take every branch of the core
	$(BIN)/pytest tests/unit --cov=agezero.core --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

mutants: $(VENV)/.mutants ## change the core in a thousand ways and see its unit tests notice (10 min)
	rm -rf mutants
	$(BIN)/mutmut run --max-children 2 $(ARGS)
	$(BIN)/mutmut results

docs: $(VENV)/.docs ## build the documentation as a site in build/site; a broken link is an error
	$(BIN)/sphinx-build -q -W --keep-going -b html -d build/doctrees docs build/site $(ARGS)

bench: $(VENV)/.bench ## measure; writes docs/benchmarks/ (QUICK=1: in less than a minute, with fewer rows)
	$(BIN)/python -m bench $(if $(QUICK),--quick) $(ARGS)

profile: $(VENV)/.bench ## see where the processor's time goes; writes docs/benchmarks/PROFILE.md (needs perf)
	$(BIN)/python -m bench.profile

bench-fleet: $(VENV)/.bench ## a thousand edges, 500 purges a second, for a minute (ARGS="--edges 100 --rate 200")
	$(BIN)/python -m bench.fleet $(ARGS)

sim: $(VENV)/.test ## simulate the protocol with faults (SEEDS=2000)
	cd tests && ../$(BIN)/python -m sim --seeds $(SEEDS) $(ARGS)

sim-ablations: $(VENV)/.test ## take each safeguard out and see the simulator catch it
	cd tests && ../$(BIN)/python -m sim.ablations $(ARGS)

chaos: $(VENV)/.test ## kill and freeze real processes under load (MINUTES=10)
	cd tests && ../$(BIN)/python -m chaos --minutes $(MINUTES) $(ARGS)

chaos-fleet: $(VENV)/.test ## break a fleet: NATS servers, control nodes, agents, caches, links (MINUTES=15)
	cd tests && ../$(BIN)/python -m chaos.fleet --minutes $(if $(filter file,$(origin MINUTES)),15,$(MINUTES)) $(ARGS)

screenshots: $(VENV)/.test ## renew the pictures of the console in docs/images (ARGS="--all FOLDER": every page, both sizes and themes)
	cd tests && ../$(BIN)/python -m support.screenshots $(ARGS)

recording: $(VENV)/.test ## renew the recording of a purge in docs/images, from a real run
	cd tests && ../$(BIN)/python -m support.recording

clean: ## remove all that make has made
	rm -rf $(VENV) .clients .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis .import_linter_cache build dist mutants
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: AgeZero needs Python 3.11 or newer; '$(PYTHON)' is older or missing."; echo "hint: name one, such as: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; } >&2
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "hint: on Debian and Ubuntu, install python3-venv" >&2; exit 1; }

# A stamp is as old as the last installation, so a changed pin or dependency installs again.
$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/.runtime

$(VENV)/.mutants: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[test,mutants]'
	@touch $@ $(VENV)/.test $(VENV)/.runtime

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[docs]'
	@touch $@

$(VENV)/.bench: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[test,bench]'
	@touch $@ $(VENV)/.test $(VENV)/.runtime
