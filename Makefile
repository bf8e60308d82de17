# `make` alone explains itself. Needs Python 3.11 or newer; everything else comes from PyPI into .venv.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help up test unit integration check bench lock venv clean FORCE

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# The first that runs and is new enough: a name on PATH may be a shim for a version that is not there.
FIND_PYTHON := for p in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done

help: ## Show this
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(VENV) ## Start the whole service on this machine; Ctrl-C stops it
	@exec $(BIN)/budget up

test: $(VENV) ## Run all tests: pure ones first, then those on PostgreSQL and Kafka
	$(BIN)/python -m pytest tests/unit tests/integration

unit: $(VENV) ## Run the tests that need no service
	$(BIN)/python -m pytest tests/unit

integration: $(VENV) ## Run the tests on a real PostgreSQL and a real broker
	$(BIN)/python -m pytest tests/integration

check: $(VENV) ## Check format, lint, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV) ## Run the benchmarks
	$(BIN)/python -m bench

lock: $(VENV) ## Resolve the dependencies anew into requirements.lock
	$(PIP) install --upgrade uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --no-strip-extras --generate-hashes --upgrade -o requirements.lock

venv: $(VENV) ## Make .venv from requirements.lock

clean: ## Remove .venv and the caches, but not .budget
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Made anew when the lock's content changes, so that nothing is left in it that the lock does not name.
$(VENV): FORCE
	@set -e; \
	if cmp -s requirements.lock $(VENV)/requirements.lock; then exit 0; fi; \
	python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then \
		echo "error: no Python 3.11 or newer found (Debian: apt-get install python3 python3-venv)" >&2; exit 1; fi; \
	if ! "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
		version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "error: $$python cannot make a venv (Debian: apt-get install python$$version-venv)" >&2; exit 1; fi; \
	echo "making $(VENV) with $$("$$python" --version); this takes a minute"; \
	rm -rf $(VENV); "$$python" -m venv $(VENV); \
	$(PIP) install --require-hashes -r requirements.lock; \
	$(PIP) install --no-deps -e .; \
	cp requirements.lock $(VENV)/requirements.lock

FORCE:
