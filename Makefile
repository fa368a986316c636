# Needs Python 3.11 or later with its venv module, make and git. Everything else is installed
# into .venv by the first target that needs it: the library with its command line takes seconds,
# the tools of those who work on it take about a minute.

PYTHON ?= python3
DB     ?= workflows.db
ARGS   ?=
WORKERS ?= 3

VENV  := .venv
BIN   := $(VENV)/bin
PIP   := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CORE  := $(VENV)/core
READY := $(VENV)/ready

# Whoever wants none written: without them each process of the tests compiles all that it imports.
test campaigns: export PYTHONDONTWRITEBYTECODE =

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(CORE) ## Run examples/demo.py: a workflow that survives kill -9
	@$(BIN)/python examples/demo.py $(ARGS)

.PHONY: demo-agent
demo-agent: $(READY) ## Run examples/demo_agent.py: an agent that survives kill -9 (ARGS=EXAMPLE for another one)
	@$(BIN)/python examples/demo_agent.py $(ARGS)

.PHONY: test
test: $(READY) ## Run the tests, with a little of each harm (ARGS="-k name" for some of them)
	@DURABLE_SEED=$${DURABLE_SEED:-1} $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal \
		-m "not campaign" $(ARGS)

.PHONY: campaigns
campaigns: $(READY) ## Run the short form of every campaign: kills, faults, made-up workflows
	@$(BIN)/python -m pytest -q -n $$(( $(WORKERS) * 2 )) --dist worksteal -o faulthandler_timeout=300 \
		-m campaign $(ARGS)

.PHONY: crash-test
crash-test: $(READY) ## Run the long campaign of crashes
	@DURABLE_CRASH_FULL=1 $(BIN)/python -m pytest -q -n 2 -o faulthandler_timeout=0 \
		-m crash tests/crash tests/postgres tests/integrations tests/migrations/test_kills.py \
		tests/workers/test_schedules.py $(ARGS)

.PHONY: asyncio-programs
asyncio-programs: $(READY) ## Run the long campaign of made-up programs of plain asyncio
	@DURABLE_PROGRAMS=$${DURABLE_PROGRAMS:-20000} $(BIN)/python -m pytest -q -n 2 \
		-o faulthandler_timeout=0 tests/properties/test_asyncio_programs.py $(ARGS)

.PHONY: postgres
postgres: $(READY) ## Run every test that can run over PostgreSQL or in another way
	@DURABLE_POSTGRES=full $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m campaign \
		tests/postgres tests/store tests/cli tests/dashboard tests/blocking tests/workers \
		tests/integrations $(ARGS)

.PHONY: code-changes
code-changes: $(READY) ## Run the long campaign of changes of the code: what a check says, and what becomes of them
	@DURABLE_CHANGES=$${DURABLE_CHANGES:-4000} DURABLE_EXECUTIONS=$${DURABLE_EXECUTIONS:-4000} \
		$(BIN)/python -m pytest -q -n 2 -m campaign -o faulthandler_timeout=0 \
		tests/changes tests/properties/test_changed_programs.py $(ARGS)

# "eager" needs Python 3.12 or later.
LOOPS := debug uvloop $(shell $(BIN)/python -c 'import sys; sys.version_info < (3, 12) or print("eager")' 2>/dev/null)

.PHONY: other-loops
other-loops: $(READY) ## Run the tests of the engine and of the kit on the event loops of others
	@for loop in $(LOOPS); do echo "on $$loop:"; DURABLE_LOOP=$$loop $(BIN)/python -m pytest -q \
		-n $(WORKERS) tests/engine tests/testing -m "not campaign" $(ARGS) || exit 1; done

# The lower bounds of the extras: one with the newest that it takes of everything else, and those that
# fit to what is installed. Of pydantic-ai, the oldest is the one that is installed.
OLDEST := openai-agents==0.18.1
OLDEST_ALONE := langgraph==1.2.0 mcp==2.0.0 mcp-types==2.0.0

.PHONY: oldest-frameworks
oldest-frameworks: $(READY) ## Run the tests of integrations with the oldest releases of their frameworks
	@$(PIP) install --upgrade --target .oldest/openai-agents $(OLDEST)
	@$(PIP) install --upgrade --target .oldest/others --no-deps $(OLDEST_ALONE)
	@PYTHONPATH=$(CURDIR)/.oldest/openai-agents $(BIN)/python -m pytest -q -n $(WORKERS) \
		-m "not campaign" tests/integrations/test_openai_agents.py $(ARGS)
	@PYTHONPATH=$(CURDIR)/.oldest/others $(BIN)/python -m pytest -q -n $(WORKERS) \
		-m "not campaign" tests/integrations/test_langgraph_saver.py \
		tests/integrations/test_langgraph_graphs.py tests/integrations/test_mcp.py $(ARGS)

FAULTS := kill freeze power errors open-race clock bad-data limits

.PHONY: faults
faults: $(FAULTS:%=fault-%) fault-postgres ## Run every fault campaign in full; counts go to docs/reliability.md

.PHONY: $(FAULTS:%=fault-%)
$(FAULTS:%=fault-%): fault-%: $(READY)
	@DURABLE_FAULTS=full $(BIN)/python -m pytest -q -n 2 -o faulthandler_timeout=0 \
		-o log_level=CRITICAL tests/faults/test_$(subst -,_,$*).py $(ARGS)

.PHONY: fault-postgres
fault-postgres: $(READY)
	@DURABLE_FAULTS=full $(BIN)/python -m pytest -q -n 2 -o faulthandler_timeout=0 -m campaign \
		tests/postgres/test_kills.py tests/postgres/test_failover.py \
		tests/postgres/test_full_disk.py tests/postgres/test_networks.py $(ARGS)

# The slowest first: two at a time, each with its output in one piece where make can do that.
CHECKS := check-wheel check-docs check-pyright check-mypy check-ruff check-sql check-generated \
          check-imports check-plans check-types check-prose check-site
IN_ONE_PIECE := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

.PHONY: check
check: $(READY) ## Run every check but the tests
	@$(MAKE) --no-print-directory --keep-going -j 2 $(IN_ONE_PIECE) $(CHECKS)
	@echo "all checks passed"

.PHONY: $(CHECKS)
check-ruff: $(READY)
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --quiet --diff

check-mypy: $(READY)
	@$(BIN)/mypy --no-error-summary

check-pyright: $(READY)
	@$(BIN)/pyright --pythonpath $(BIN)/python

check-imports: $(READY)
	@$(BIN)/lint-imports --no-logo

check-sql: $(READY)
	@$(BIN)/sqlfluff lint --disable-progress-bar sql
	@$(BIN)/squawk -c sql/postgres/.squawk.toml sql/postgres/migrations/*.sql

check-generated: $(READY)
	@$(BIN)/python tools/generate.py --check
	@$(BIN)/python tools/postgres_queries.py --check

check-plans: $(READY)
	@PYTHONPATH=. $(BIN)/python tools/query_plans.py --check
	@$(BIN)/python tools/postgres_plans.py --check

check-types: $(READY)
	@$(BIN)/python tools/check_types.py

check-docs: $(READY)
	@$(BIN)/python tools/check_docs.py

check-prose: $(READY)
	@$(BIN)/python tools/check_prose.py

check-site: docs

check-wheel: $(READY)
	@$(BIN)/python tools/check_wheel.py

.PHONY: docs
docs: $(READY) ## Build the site of the docs into .site/, with every link checked
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

.PHONY: generate
generate: $(READY) ## Write the files that are made from sql/: queries.py, schema.sql, checksums, docs/sql.md
	@$(BIN)/python tools/generate.py
	@$(BIN)/python tools/postgres_queries.py

.PHONY: plans
plans: $(READY) ## Write plans.txt: how SQLite and PostgreSQL find the rows of each query
	@PYTHONPATH=. $(BIN)/python tools/query_plans.py
	@$(BIN)/python tools/postgres_plans.py

.PHONY: migrate
migrate: $(CORE) ## Create a database, or bring one to the current schema (DB=workflows.db, or postgresql://...)
	@$(BIN)/python -m durable_workflow_sqlite migrate --create --db "$(DB)" $(ARGS)

.PHONY: screenshots
screenshots: $(READY) ## Make docs/images from a real file (needs chromium and chromium-driver)
	@$(BIN)/python tools/make_screenshots.py

.PHONY: format
format: $(READY) ## Format the Python and the SQL
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format --quiet
	@$(BIN)/sqlfluff fix --quiet --disable-progress-bar sql/queries sql/views sql/postgres

.PHONY: build
build: $(READY) ## Build the wheel and the sdist into dist/
	@$(BIN)/python -m build --no-isolation --outdir dist > $(VENV)/build.log || \
		{ cat $(VENV)/build.log; exit 1; }
	@ls dist/*

.PHONY: bench
bench: $(READY) ## Measure this library and the raw floor, into docs/performance.md
	@$(BIN)/python -m benchmarks.run $(ARGS)

.PHONY: bench-workers
bench-workers: $(READY) ## Measure several processes on one file, into docs/performance.md
	@$(BIN)/python -m benchmarks.workers $(ARGS)

.PHONY: bench-looking
bench-looking: $(READY) ## Measure looking at a file of a million executions, into docs/performance.md
	@$(BIN)/python -m benchmarks.looking $(ARGS)

.PHONY: bench-sleepers
bench-sleepers: $(READY) ## Measure a worker on a million executions that sleep, into docs/performance.md
	@$(BIN)/python -m benchmarks.sleepers $(ARGS)

.PHONY: bench-queues
bench-queues: $(READY) ## Measure queues, limits, maps and children, into docs/performance.md
	@$(BIN)/python -m benchmarks.run_queues $(ARGS)

.PHONY: bench-peers
bench-peers: $(READY) ## Measure other libraries beside this one, into docs/performance.md
	@$(BIN)/python -m benchmarks.run_peers $(ARGS)

.PHONY: bench-agents
bench-agents: $(READY) ## Measure an agent of pydantic-ai beside the same with DBOS, into docs/performance.md
	@$(BIN)/python -m benchmarks.run_agents $(ARGS)

.PHONY: profile
profile: $(READY) ## Show where the microseconds of one step go
	@$(BIN)/python -m benchmarks.hot_path $(ARGS)

.PHONY: measure
measure: $(READY) ## Write every figure of docs/performance.md anew; twenty minutes, alone
	@$(MAKE) --no-print-directory bench
	@$(MAKE) --no-print-directory bench-workers
	@$(MAKE) --no-print-directory bench-looking
	@$(MAKE) --no-print-directory bench-sleepers
	@$(MAKE) --no-print-directory bench-queues
	@$(MAKE) --no-print-directory bench-peers
	@$(MAKE) --no-print-directory bench-agents
	@$(MAKE) --no-print-directory profile

.PHONY: release-check
release-check: $(READY) ## Check what would be released, on every Python here (ARGS="--full")
	@$(BIN)/python tools/check_release.py $(ARGS)

.PHONY: clean
clean: ## Delete .venv and everything else that make, the tools and the tests leave behind
	@rm -rf $(VENV) .venv-peers .bench dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): $(CORE)
	@echo "installing the tools for tests and checks into $(VENV); this takes about a minute ..."
	@$(PIP) -e ".[dev]"
	@touch $@

# A set-up that was interrupted left no $(CORE), and begins anew.
$(CORE): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is no Python 3.11 or later; name one: make PYTHON=python3.12 ..." >&2; \
		exit 1; }
	@echo "setting up $(VENV); this takes some seconds ..."
	@test -e $@ -a -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV) || { \
		echo "$(PYTHON) has no venv module; install it (Debian: apt-get install python3-venv)" >&2; \
		rm -rf $(VENV); exit 1; }
	@$(PIP) -e ".[cli]"
	@touch $@
