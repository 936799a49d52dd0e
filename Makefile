# Two commands do it all: `make run` and `make test`. Both set up what they need and work offline afterwards.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
export PYTHON

# Tests import their helpers by plain names, as pytest makes them importable, and each folder has a conftest of its own:
# mypy looks at one folder at a time.
TESTED := $(sort $(dir $(wildcard tests/*/*.py)))
EMPTY :=
ALL_TESTS := $(subst $(EMPTY) $(EMPTY),:,$(TESTED))

.PHONY: help run demo pages test test-client test-web test-browser bench long-run lint format lock setup setup-tests setup-bench clean

help:
	@echo "make run             set up and serve (ARGS=\"--port 9000 --workers 2\")"
	@echo "make demo            the same, with simulated clients"
	@echo "make pages           build the Monitor page, if its sources changed; run and demo do it too"
	@echo "make test            everything that CI runs (ARGS=\"-k journal\" goes to pytest)"
	@echo "make test-client     the checks of the browser client, its size included"
	@echo "make test-web        the checks of the Monitor page"
	@echo "make test-browser    the Monitor page in Chromium behind the chaos proxy (ARGS=\"-g outage\")"
	@echo "make bench           measure beside peers, 20 minutes (ARGS=\"B3 B5 --rounds 3\" measures a part)"
	@echo "make long-run        10,000 connections for half an hour: does anything grow? (ARGS=\"--minutes 2 --connections 1000\")"
	@echo "make lint            the checks without the tests"
	@echo "make format          format the code"
	@echo "make lock            bring the lock files up to date with pyproject.toml"
	@echo "make clean           remove the virtual environment and caches; data stays"

run: setup pages
	@exec $(BIN)/python -m pulsetrail.cli serve $(ARGS)

demo: setup pages
	@exec $(BIN)/python -m pulsetrail.cli demo $(ARGS)

# The service runs without its pages too: that they could not be built must not keep it.
pages:
	@scripts/build-web || echo "The Monitor page could not be built; the service runs without it." >&2

test: lint
	@scripts/test-tools
	@scripts/test-web
	$(BIN)/python -m pytest $(ARGS)

test-client: setup-tests
	@scripts/test-client

test-web:
	@scripts/test-web

test-browser: setup-tests
	@scripts/test-tools
	@scripts/test-browser $(ARGS)

bench: setup-bench
	@$(BIN)/python -m bench $(ARGS)

long-run: setup-bench
	@$(BIN)/python tests/faults/long_run.py $(ARGS)

lint: setup-tests
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	@for part in $(TESTED); do MYPYPATH=$$part:$(ALL_TESTS) $(BIN)/python -m mypy --no-error-summary $$part || exit 1; done
	$(BIN)/lint-imports

format: setup-tests
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup:
	@scripts/venv requirements.lock

setup-tests:
	@scripts/venv requirements-dev.lock

setup-bench:
	@scripts/venv requirements-bench.lock

# Versions and hashes only: an address in a lock file would not work behind a mirror.
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock"

lock: setup-tests
	$(COMPILE) --group build --output-file requirements.lock
	$(COMPILE) --group build --group dev --constraint requirements.lock --output-file requirements-dev.lock
	$(COMPILE) --group build --group bench --constraint requirements-dev.lock --output-file requirements-bench.lock
	npm --prefix tests/clients/node install --package-lock-only --no-audit --no-fund
	npm --prefix web install --package-lock-only --no-audit --no-fund
	npm --prefix tests/browser install --package-lock-only --no-audit --no-fund

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache tests/clients/node/node_modules web/node_modules web/dist tests/browser/node_modules tests/browser/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
