# Everything a developer does, by name; each target makes what it needs first.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
PLUGINS := $(sort $(wildcard plugins/drift-*))
PYTEST := $(VENV)/bin/python -m pytest
INSTALLED := $(VENV)/.installed

.PHONY: install native serve test soak bench lint lint-native format tools constraints clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt $(PLUGINS:%=%/pyproject.toml)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	# What builds all of them is installed once, and not for each of them.
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt hatchling editables
	$(VENV)/bin/python -m pip install --quiet --no-build-isolation --constraint constraints.txt --group test --group lint \
	  --editable . $(PLUGINS:%=--editable %)
	touch $@

# The engine of QUIC that is Rust; needs cargo 1.85. All else works without it.
native: $(VENV)/.native

$(VENV)/.native: $(INSTALLED) $(wildcard native/drift-quinn/*.toml native/drift-quinn/src/*.rs)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --group native
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m pip install --quiet --no-build-isolation --no-deps \
	  --force-reinstall ./native/drift-quinn
	touch $@

serve: install
	$(VENV)/bin/drift serve

# Most of these wait, for a server to start or for a disk: several at a time, each file in one process.
test: install
	$(PYTEST) -m 'not soak' --numprocesses 3 --dist loadfile --durations 25

soak: install
	$(PYTEST) -m soak

# Beside the peers that REGISTRY_PEERS names, half an hour; needs go. See benchmarks/README.md.
bench: install
	$(VENV)/bin/python -m benchmarks.run

lint: install
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/pyright
	$(VENV)/bin/lint-imports

# As its rules change with the toolchain, which is each machine's own, CI does without.
lint-native:
	cd native/drift-quinn && cargo fmt --check && cargo clippy --release -- --deny warnings

format: install
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

# The real clients that the tests drive: needs go, and Debian's apt as root.
tools:
	bash .ci/tools.sh --soak

# Resolves again to the newest versions; needs uv.
constraints:
	uv pip compile --quiet --universal --no-header --no-annotate --no-emit-index-url --python-version 3.11 \
	  --all-extras --group test --group lint --group native --no-emit-package drift-core \
	  $(foreach plugin,$(notdir $(PLUGINS)),--no-emit-package $(plugin)) \
	  pyproject.toml $(PLUGINS:%=%/pyproject.toml) --output-file constraints.txt

clean:
	rm -rf $(VENV) .tools native/*/target data dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
