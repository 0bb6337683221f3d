# Every command a developer or a newcomer needs. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# A fresh rustup puts cargo here; a shell that was open before does not know.
export PATH := $(PATH):$(HOME)/.cargo/bin
CARGO ?= cargo
LOCKED := --locked

# Tests never see a Velin plugin or a registry of the machine's own, and a GLib warning is a failure.
# The registry is filled once beforehand: the scan of unrelated plugins may print warnings.
TEST_REGISTRY := $(CURDIR)/target/gstreamer-registry.bin
TEST_ENV := GST_REGISTRY=$(TEST_REGISTRY) GST_PLUGIN_PATH= G_DEBUG=fatal_warnings

.NOTPARALLEL:
.PHONY: help setup build demo test lint unit presets bench soak fuzz windows licences deny

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## Install what is missing (Debian 12, Ubuntu 24.04; root or sudo)
	@scripts/setup.sh

build: ## Build the plugin and velin-pipe, optimised
	@scripts/setup.sh build
	$(CARGO) build $(LOCKED) --release -p gst-velin -p velin-pipe

demo: ## Hear it: sender and receiver on this machine, with a measured summary
	@scripts/demo.sh

test: setup lint unit presets ## Everything CI checks

lint: ## Formatting, clippy, documentation; warnings are errors
	@if $(CARGO) fmt --version >/dev/null 2>&1; then $(CARGO) fmt --all --check; \
	else echo "lint: no rustfmt here, formatting is not checked"; fi
	@if $(CARGO) clippy --version >/dev/null 2>&1; then \
		$(CARGO) clippy $(LOCKED) --workspace --all-targets -- -D warnings; \
	else echo "lint: no clippy here, lints are not checked"; fi
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc $(LOCKED) --workspace --no-deps --document-private-items

# What users run is optimised, so one test of the core is, too: a fault of the optimiser once made
# playout silent, and no unoptimised test saw it.
unit: $(TEST_REGISTRY) ## Every test of the workspace
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; $(TEST_ENV) $(CARGO) nextest run $(LOCKED) --workspace; \
	else \
		set -x; $(TEST_ENV) $(CARGO) test $(LOCKED) --workspace --all-targets; \
	fi
	$(TEST_ENV) $(CARGO) test $(LOCKED) --workspace --doc
	$(TEST_ENV) $(CARGO) test $(LOCKED) --release -p velin-core --test playout_exact

presets: $(TEST_REGISTRY) ## Check every shipped preset
	$(TEST_ENV) $(CARGO) run $(LOCKED) -q -p velin-pipe -- check presets/*.toml

bench: $(TEST_REGISTRY) ## Costs, start, latency, and the comparison with others (ARGS="--short cost")
	@scripts/setup.sh build
	@scripts/setup.sh bench || echo "bench: whoever is not installed is left out"
	$(CARGO) build $(LOCKED) --release -p velin --bin bench
	GST_REGISTRY=$(TEST_REGISTRY) GST_PLUGIN_PATH= target/release/bench $(ARGS)

soak: $(TEST_REGISTRY) ## The long tests, which make test leaves out
	$(TEST_ENV) $(CARGO) test $(LOCKED) --release --workspace -- --ignored --test-threads=1

fuzz: ## Look for inputs that break a promise of the core (ARGS="90 session_pair"); nightly, cargo-fuzz
	@scripts/fuzz.sh $(ARGS)

windows: ## Build, lint and test for Windows, under Wine (Debian 12; ARGS="build smoke" for some steps)
	@scripts/windows.sh $(ARGS)

licences: ## List the licences of everything that is linked in
	@scripts/licences.sh

deny: ## Check the dependencies with cargo-deny: bans, licences, sources, known vulnerabilities
	@scripts/deny.sh

$(TEST_REGISTRY):
	@mkdir -p $(@D)
	GST_REGISTRY=$@ GST_PLUGIN_PATH= gst-inspect-1.0 >/dev/null 2>&1
	@touch $@
