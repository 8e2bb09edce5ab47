.DEFAULT_GOAL := help
.PHONY: setup run test lint checks bench chaos chaos-long demo-migration images-check release help docs
VENV := .venv/bin
# More arguments for pytest, such as make test PYTEST_ARGS='-k retry'.
PYTEST_ARGS ?=
# Processes that share the tests, a file at a time; JOBS=0 runs all in one, for a debugger. Each has
# a server of its own. One more than a small machine's two cores, for tests wait most of their time:
# for containers, deadlines, what dies and comes back. Files start in their order, for the slow
# folders come first.
JOBS ?= 3
SPREAD := -n $(JOBS) --dist loadfile --no-loadscope-reorder
# More arguments for crucible bench, such as make bench BENCH_ARGS='--only submit,history'.
BENCH_ARGS ?=
# More arguments for the outage matrix, such as OUTAGE_ARGS='--only 12-*-both'.
OUTAGE_ARGS ?= --side-by-side 6
# Length of the battle with everything on, its SIGKILLs, and more arguments; the engine that is killed
# is one of its own.
BATTLE_ARGS ?= --minutes 3 --kills 60 --engine
# The same of the battle whose history is in a SQLite file.
SQLITE_ARGS ?= --sqlite --minutes 2 --kills 30
LONG_MINUTES ?= 20
LONG_KILLS ?= 400
# Masters of sentinels that are killed in a row.
FAILOVERS ?= 20
# Length of the chaos test, its SIGKILLs, and more arguments, such as CHAOS_ARGS='--subject both'.
MINUTES ?= 3
KILLS ?= 100
CHAOS_ARGS ?=

setup: ## virtual environment, Docker engine, sandbox image; seconds when all is there
	@scripts/setup

run: setup ## the whole service on this machine, and one evaluation's result
	@exec $(VENV)/crucible up --sample

test: ## style, types and every test, on real Redis, Docker and Celery
	@scripts/setup --tests
	@$(MAKE) --no-print-directory checks
	@$(VENV)/pytest $(SPREAD) $(PYTEST_ARGS)

lint: setup checks ## style, format and types

checks:
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy

bench: setup ## measure everything beside bare limits and other systems (24 minutes)
	@$(VENV)/python scripts/pinned-envs bench
	@$(VENV)/crucible bench all --json .cache/bench/latest.json --plot .cache/bench/plots $(BENCH_ARGS)

chaos: setup ## load, kills and other faults, judged by a ledger; MINUTES=20 KILLS=400 for a long one
	@$(VENV)/python -m benchmarks.chaos --minutes $(MINUTES) --kills $(KILLS) $(CHAOS_ARGS)
	@$(VENV)/python -m benchmarks.chaos.service $(BATTLE_ARGS)
	@$(VENV)/python -m benchmarks.chaos.service $(SQLITE_ARGS)
	@$(VENV)/python -m benchmarks.chaos.outages $(OUTAGE_ARGS)
	@$(VENV)/python -m benchmarks.chaos.sentinel --rounds $(FAILOVERS)
	@$(VENV)/python -m benchmarks.chaos.network

chaos-long: setup ## twenty minutes of the battle with everything on; LONG_MINUTES=120 for two hours
	@$(VENV)/python -m benchmarks.chaos.service --engine \
	    --minutes $(LONG_MINUTES) --kills $(LONG_KILLS)

demo-migration: setup ## from the legacy queue to Celery under load, with things killed on the way (minutes)
	@$(VENV)/python scripts/demo_migration

docs: setup ## the pages of docs/ as HTML below .cache/docs
	@$(VENV)/sphinx-build -q -W --keep-going -b html docs .cache/docs
	@echo "open .cache/docs/index.html"

release: setup ## sdist, wheel, SBOM and checksums in dist/release
	@scripts/release

IMAGES ?= default judge data
images-check: setup ## build every image once more: no id may change (minutes, root)
	@before=$$($(VENV)/crucible environments build --data-dir .cache $(IMAGES)); \
	after=$$($(VENV)/crucible environments build --data-dir .cache --force $(IMAGES)); \
	echo "$$after"; test "$$before" = "$$after"

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
