# One command each to run, test, lint and measure. Everything lands in .venv; the system is touched by "make test"
# alone, and only to install the Debian packages that are missing (tests/debian-packages.sh).
#
#   make demo [URL=https://site.example/ MATCH='price=€\d+']   start everything here, and crawl
#   make test       the whole suite, with real servers and a real browser      make unit    what needs none: minutes
#   make lint       ruff and mypy --strict                                     make bench   ours beside the peers'
#   make dist       wheel and source archive in dist/                          make clean   remove what make has made
#   make lock       pin the versions that pip finds now                        make help    this text

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock
PROJECT := setup.cfg setup.py pyproject.toml requirements.lock msgd/notifier/_wave.c
# Tests to run (TESTS=tests.broker), and what else trial is told (TRIAL=--until-failure); by default two at a time: much of
# the time they wait for servers.
TESTS ?= tests
TRIAL ?= -j2
# A variable as it was given, for the shell: a regex may hold "$" and "'".
quoted = '$(subst ','\'',$(value $(1)))'
# What to measure (BENCH=broker): each is a module of bench/.
BENCH ?= $(patsubst bench/%.py,%,$(filter-out bench/_%.py,$(sort $(wildcard bench/*.py))))
# Debian's packages beside those of the tests: the crowd of clients is in C, nchan and vipsthumbnail are peers.
BENCH_PACKAGES := libvips-tools gcc libc6-dev nginx libnginx-mod-nchan

.PHONY: help demo test unit lint bench dist lock clean
.DELETE_ON_ERROR:

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.installed
	@$(BIN)/msgd demo $(if $(value URL),$(call quoted,URL)) $(if $(value MATCH),--match $(call quoted,MATCH))

test: $(VENV)/.tests
	@sh tests/debian-packages.sh
	@$(BIN)/trial $(TRIAL) $(TESTS)

unit: $(VENV)/.tests
	@$(BIN)/trial $(TRIAL) $$($(BIN)/python -m tests.unit)

lint: $(VENV)/.lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(VENV)/.bench
	@sh tests/debian-packages.sh $(BENCH_PACKAGES)
	@for each in $(BENCH); do $(BIN)/python -m bench.$$each || exit 1; done

dist: $(VENV)/.tests
	@$(BIN)/python -m build --outdir dist .

lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --upgrade pip
	build/lock/bin/pip install --quiet '.[test,bench,lint]'
	{ sed -n '/^#/p' requirements.lock; build/lock/bin/pip freeze --exclude msgd; } > build/requirements.lock
	mv build/requirements.lock requirements.lock && rm -rf build/lock

clean:
	rm -rf $(VENV) build dist msgd.egg-info _trial_temp* .mypy_cache .ruff_cache .hypothesis
	rm -f twisted/plugins/dropin.cache msgd/notifier/*.so
	find msgd twisted tests bench -name __pycache__ -type d -exec rm -rf {} +

# The stamps make every target fast once its part is installed. The tree itself is what runs: the install is editable.

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "msgd needs Python 3.11 or later; name one with: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv is missing; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(PROJECT) | $(BIN)/pip
	@echo "Installing msgd and its libraries"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.tests $(VENV)/.bench $(VENV)/.lint: $(VENV)/.installed

$(VENV)/.tests:
	@echo "Installing what the tests need"
	@$(INSTALL) --editable '.[test]'
	@touch $@

$(VENV)/.bench:
	@echo "Installing the peers to measure against"
	@$(INSTALL) --editable '.[test,bench]'
	@touch $@

$(VENV)/.lint:
	@echo "Installing ruff and mypy"
	@$(INSTALL) --editable '.[test,lint]'
	@touch $@
