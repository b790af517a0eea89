# Everything from a bare Python and pip; the real work is in scripts/ and `hubgate`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: install up test check fix bench clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no python3 found: install Python 3.11 or newer, or give PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $$("$(PYTHON)" --version 2>&1) is too old: hubgate needs Python 3.11 or newer; give PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' || { echo "make: $(PYTHON) cannot make virtual environments: install python3-venv" >&2; exit 1; }
	test -x $(VENV)/bin/pip || "$(PYTHON)" -m venv $(VENV)
# The lock is complete, which scripts/check checks; bytecode is compiled on all cores.
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --require-hashes -r requirements.lock
	$(VENV)/bin/python -m compileall -qq -j 0 $(VENV)/lib || true
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

up: install
	@exec $(VENV)/bin/hubgate up --demo $(ARGS)

test: install
	scripts/check
	scripts/test

check: install
	scripts/check

fix: install
	scripts/fix

# ARGS: gateways (default), scales, transport, ledger, spool, chaos or queries, and its options.
bench: install
	@scripts/bench $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
