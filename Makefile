# SPDX-License-Identifier: GPL-3.0-or-later
# The commands of the repository. `make demo` and `make test` work on a fresh machine with Python >= 3.11.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
STAMP := $(VENV)/.installed
CI ?=
export PYTHONUNBUFFERED := 1
# A machine whose pip uses a mirror says so in pip's own configuration; uv is told the same.
export UV_DEFAULT_INDEX ?= $(shell $(PYTHON) -m pip config get global.index-url 2>/dev/null)

.PHONY: help setup demo test test-fast lint proto proto-check reference lambdas bench soak tools chart-test images lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(STAMP) ## create .venv and install the lock file

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("gandt needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -n "$$UV_DEFAULT_INDEX" || unset UV_DEFAULT_INDEX; \
	 $(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION) && \
	 echo "installing the lock file (the first time this downloads about 3 GB, torch above all)" && \
	 VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip sync -q --require-hashes requirements.lock && \
	 VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install -q --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## run the whole loop on real images and write demo/report.html
	@$(BIN)/gandt demo --project demo

test: setup tools lint ## lint and all tests that this machine can run
	@$(BIN)/python -m pytest -m "not soak" $(PYTEST_ARGS)

test-fast: setup ## unit, service, lambda and golden tests
	@$(BIN)/python -m pytest tests/unit tests/service tests/lambdas tests/golden $(PYTEST_ARGS)

lint: setup ## format, lint, types, import rules, fresh contracts
	@$(BIN)/ruff format --check -q src services lambdas tests tools benchmarks examples
	@$(BIN)/ruff check -q src services lambdas tests tools benchmarks examples
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(MAKE) -s proto-check
	@$(BIN)/python tools/genreference.py --check

reference: setup ## generate the pages of docs/reference
	@$(BIN)/python tools/genreference.py

proto: setup ## generate src/gandt/api from proto/
	@$(BIN)/python tools/genproto.py

proto-check: setup ## contracts linted, generated code fresh
	@$(BIN)/python tools/protolint.py
	@$(BIN)/python tools/genproto.py --check

tools: setup ## install the pinned tools beyond Python (with CI=true also Debian packages)
	@CI=$(CI) $(BIN)/python tools/install.py

lambdas: setup ## build the deployment packages of the Lambda functions (lambdas/dist)
	@$(BIN)/python tools/lambdas.py

chart-test: setup tools ## the chart: lint, schemas, every profile and switch, rules, dashboards, breakages that must be caught
	@$(BIN)/python -m pytest tests/chart $(PYTEST_ARGS)

images: setup ## build the container images with docker or buildah
	@$(BIN)/python tools/images.py

bench: setup ## measure; figures go to benchmarks/README.md by hand
	@$(BIN)/python benchmarks/run.py

soak: setup tools ## the long kill campaigns (CI runs three rounds of each)
	@GANDT_SOAK_ROUNDS=$${GANDT_SOAK_ROUNDS:-20} $(BIN)/python -m pytest -m soak --timeout 7200 $(PYTEST_ARGS)

lock: ## resolve requirements.lock anew
	@$(BIN)/uv pip compile pyproject.toml --all-extras --generate-hashes --universal --python-version 3.11 -q -o requirements.lock

clean: ## remove what was built here
	@rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
