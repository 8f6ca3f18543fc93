# Two commands to know: `make run` (the support agent on a real task) and `make test`.
# Both need only Python >= 3.11, git and make; `make setup` puts everything else into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.remit-installed

.PHONY: help setup run show-task test check lint types contracts format bench chaos tokenizers mcp-servers mcp-conformance clean

help: ## What there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create .venv with pinned dependencies

$(STAMP): requirements/bootstrap.lock requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "remit needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version). Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@echo "setup: installing pinned dependencies into $(VENV)" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements/dev.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# the task is data: neither make nor the shell may read it as a command
TASK ?= Customer C-1042 was charged twice this month. Please sort it out.

unexport TASK
export REMIT_TASK = $(value TASK)

run: setup ## Run the support agent on a real task (TASK="..."), offline unless ANTHROPIC_API_KEY is set
	@$(BIN)/remit run examples/support/agent-config.yaml --report $(if $(ANTHROPIC_API_KEY),,--offline) --task "$$REMIT_TASK"

show-task: ## Print the task that `make run` would give
	@printf '%s\n' "$$REMIT_TASK"

# How many processes run the tests.
TESTERS ?= 2

test: setup tokenizers mcp-servers ## Run the tests
	$(BIN)/python -m pytest -n $(TESTERS) --dist worksteal

check: setup lint types contracts test ## Everything CI holds against a change

lint: setup
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks

types: setup
	$(BIN)/mypy

contracts: setup
	$(BIN)/lint-imports

format: setup ## Put the code into shape
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks

chaos: setup ## Three workers among faults: RUNS=300 FAULTS=60 SEED=1
	$(BIN)/python -m tests.chaos.drill --runs $(or $(RUNS),300) --faults $(or $(FAULTS),60) --seed $(or $(SEED),1)

bench: setup ## Measure: tables of medians and ratios, and JSON
	$(BIN)/python -m benchmarks

tokenizers: setup ## Make the environment of real tokenizers, which some tests need
	$(BIN)/python -c 'from benchmarks.peers.environment import python_of; print(python_of("tokenizers"))'

mcp-servers: setup ## Make the environment of other people's MCP servers, which some tests need
	$(BIN)/python -c 'from benchmarks.peers.environment import python_of; print(python_of("mcp-servers"))'

mcp-conformance: setup ## Run the public conformance suite against `remit mcp serve` (needs npm)
	cd tests/mcp_conformance && npm ci --silent --no-audit --no-fund
	$(BIN)/python tests/mcp_conformance/run.py

clean: ## Remove what was built and what the runs left
	rm -rf $(VENV) benchmarks/.venvs benchmarks/results .remit .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
