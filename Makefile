# Two commands matter: `make run` and `make test`. Both start from nothing but Python >= 3.11 and make.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= $(shell nproc)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

export NUMBA_CACHE_DIR ?= $(abspath $(VENV))/numba-cache

.PHONY: run test lint bench endurance lock simulate sweep mutants warm clean

# Its own world, whatever daemon the shell's MM_CONFIG names.
run: $(VENV)/.run
	MM_CONFIG= $(BIN)/mm-daemon run

# The rooms' tests on all cores; then those of whole daemons, which need the cores for themselves.
test: $(VENV)/.test
	$(BIN)/python -m pytest --ignore=tests/wire --numprocesses=$(JOBS) --dist=loadfile
	$(BIN)/python -m pytest tests/wire

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.test
	$(BIN)/python -m tests.bench $(ARGS)

# The whole daemon on a virtual clock, judged by its invariants: make simulate SEEDS=10000, and
# a kill, a crash and a broken connection at every step of short runs: make sweep RUNS=20
SEEDS ?= 200
FIRST ?= 0
RUNS ?= 20
simulate: $(VENV)/.run
	$(BIN)/mm-daemon simulate --seeds $(SEEDS) --first $(FIRST) --jobs $(JOBS)
sweep: $(VENV)/.run
	$(BIN)/mm-daemon simulate --sweep $(RUNS) --jobs $(JOBS)

# Plants faults in copies of the project, one at a time, and shows each caught: make mutants ARGS='--only NAME'
mutants: $(VENV)/.test
	$(BIN)/python -m tests.mutants $(ARGS)

# Crashes, kills and hangs of real processes, judged by the venue's own record; COUNT of each.
COUNT ?= 6
DRILLS ?= sigkill kill guard takeover
endurance: $(VENV)/.test
	for drill in $(DRILLS); do \
		$(BIN)/python -m tests.wire.endurance $$drill --count $(COUNT) || exit 1; done

# Compiles every kernel, so that the next start is a warm one.
warm: $(VENV)/.run
	$(BIN)/python -m mm_daemon.warm

# Two steps: what the lock names, by hash; then the package itself, with nothing resolved or downloaded.
$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.test: tests/requirements.lock $(VENV)/.run
	$(PIP) install --require-hashes -r tests/requirements.lock
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mm-daemon needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

# Resolves on 3.11 for every supported Python; needs `uv`. Writes no index URL.
UV_COMPILE = uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --quiet --group build
lock:
	$(UV_COMPILE) --output-file requirements.lock
	$(UV_COMPILE) --extra test --constraint requirements.lock --output-file tests/requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
