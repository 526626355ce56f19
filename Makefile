# Two commands matter: make demo and make test. Each sets up what it needs in .venv.
# make test-lowest and make test-latest run the quick tests with the lowest versions that pyproject.toml declares and with the
# newest that there are, in environments of their own; make clean removes these, and with them what was the newest once.
# make lock writes the hashes of all that the container image installs.
# make audit looks up every pinned version in the advisory database of the package index.

PYTHON ?= python3
BIN := .venv/bin
# PyTorch is installed first, by pip and pinned: uv would take its build for CUDA, which is large.
LOWEST_TORCH ?= $(shell sed -n 's/^ *"torch>=\(.*\)",$$/\1/p' pyproject.toml)
LATEST_TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)
QUICK := architecture cli config data doctor encode fairness figures golden metrics optimise plugins report wire
QUICK := $(QUICK:%=tests/test_%.py)

.PHONY: demo test test-lowest test-latest check audit lock format clean

demo: .venv/ready
	$(BIN)/fedsim run leakage

test: .venv/ready
	$(BIN)/pytest

test-lowest: .venv-lowest/ready
	.venv-lowest/bin/pytest $(QUICK) tests/test_tls.py

test-latest: .venv-latest/ready
	.venv-latest/bin/pytest $(QUICK)

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit:
	@test -x .venv-audit/bin/pip-audit || \
		{ $(PYTHON) -m venv --clear .venv-audit && .venv-audit/bin/pip install --quiet 'pip-audit>=2.9'; } || \
		echo "audit: NOT DONE, pip-audit cannot be installed here" >&2
	@test ! -x .venv-audit/bin/pip-audit || .venv-audit/bin/python .ci/audit.py

lock: .venv/ready
	$(BIN)/python docker/lock.py

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[card,dev,flower,parquet,ray]'
	touch $@

.venv-lowest/ready: .venv/ready
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/pip install --quiet torch==$(LOWEST_TORCH)
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct \
		--editable '.[card,dev,flower,parquet,ray]'
	touch $@

# without Flower, which holds back others: typer, rich, protobuf
.venv-latest/ready: .venv/ready
	$(PYTHON) -m venv --clear .venv-latest
	.venv-latest/bin/pip install --quiet torch==$(LATEST_TORCH)
	$(BIN)/uv pip install --quiet --python .venv-latest/bin/python --editable '.[card,dev,parquet,ray]' cryptography
	touch $@

clean:
	rm -rf .venv .venv-audit .venv-lowest .venv-latest build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
