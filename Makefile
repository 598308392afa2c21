# The verbs of this repository. Every one makes ./.venv by itself and installs again only when
# pyproject.toml or the lock file changed. Nothing is written outside the tree but caches.

PYTHON := .venv/bin/python
INSTALLED := .venv/installed
TESTS ?=

.PHONY: help install demo test test-quick test-unit test-integration lint format bench campaign metrics promtool lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make ./.venv

$(INSTALLED): pyproject.toml requirements.lock infra/install.sh
	@sh infra/install.sh

demo: $(INSTALLED) ## the main job on this machine, with real Kafka
	@.venv/bin/meterstream demo

test: test-unit test-integration ## all tests: the quick ones first, then those on the real broker

test-quick: $(INSTALLED) ## the loop of editing: unit tests, few examples of every property
	@$(PYTHON) -m pytest -m "not integration" --quick tests/unit $(TESTS)

test-unit: $(INSTALLED) ## tests without a broker, as two processes at once
	@test -x .venv/bin/promtool || sh infra/prometheus/promtool.sh || true
	@$(MAKE) --no-print-directory --keep-going -j2 unit-part-1 unit-part-2

unit-part-%: $(INSTALLED)
	@$(PYTHON) -m pytest -m "not integration" --part $*/2 $(TESTS)

test-integration: $(INSTALLED) ## tests on a real broker; red when none of them ran
	@$(PYTHON) -m pytest -m integration --require-broker $(TESTS)

lint: $(INSTALLED) ## style, types and the import contracts
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/lint-imports --no-logo
	@.venv/bin/mypy
	@.venv/bin/pyright

format: $(INSTALLED) ## rewrite sources to the one style
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix-only .

bench: $(INSTALLED) ## measurements, as JSON
	@$(PYTHON) -m benchmarks

campaign: $(INSTALLED) ## kill everything at random, then judge: CYCLES=30 SEED=… STORE=sqlite|postgres
	@$(PYTHON) -m tests.campaign --cycles $(or $(CYCLES),30) --store $(or $(STORE),sqlite) $(if $(SEED),--seed $(SEED))

metrics: $(INSTALLED) ## docs/metrics.md, from what the processes declare
	@$(PYTHON) -m meterstream_services.metrics_page > docs/metrics.md

promtool: $(INSTALLED) ## promtool into ./.venv, for the tests of alerts; Debian only
	@sh infra/prometheus/promtool.sh

lock: $(INSTALLED) ## exact versions for every platform into requirements.lock
	@sh infra/lock.sh

clean: ## remove the environment and every cache in the tree
	rm -rf .venv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
