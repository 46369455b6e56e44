# What there is to do with this project, for people and for continuous integration. The work is done by cargo and by the
# scripts in tests/vm, which need nothing but a shell.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# Cargo's extra commands, built on first use into a cache outside the checkout.
with_tools = tools=$$(tests/vm/tools) && PATH=$$tools:$$PATH

# A VM by name, for vm-shell.
VM ?= a
# Part of the name of the tests to run, for vm-test.
TEST ?=
# Arguments of the benchmark program, for bench.
BENCH ?=

.PHONY: help setup run stop vm-shell clean-vm test check format scripts lints dependencies docs unit vm-test scale bench bench-native bench-report deb image

help: ## Shows this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do \
	    printf '  make %-13s %s\n' "$$name" "$$text"; done

setup: ## Installs what building and testing need (Debian 12 and 13; the other targets call it)
	@tests/vm/setup

run: ## Boots an appliance with this source on https://localhost:8900
	@tests/vm/up

stop: ## Shuts that appliance down; its pools stay
	@tests/vm/vm stop a

vm-shell: ## A root shell in the appliance, or in one that KEEP=1 left (VM=b: in the second)
	@if ! tests/vm/vm running $(VM); then \
	    export VSNAP_VM_DIR=$${VSNAP_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/vsnap}/test-vms; fi; \
	exec tests/vm/vm ssh $(VM)

clean-vm: ## Deletes the appliance of "make run" with its pools
	@tests/vm/vm clean a

test: ## Everything: format, lints, documentation, all tests, and those in a VM
	@tests/vm/all

check: setup format scripts lints dependencies docs unit ## All that needs no VM

format: ## Is the code formatted?
	@cargo fmt --all --check

scripts: setup ## Lints of the shell scripts
	@shellcheck -x -P . .ci/run $$(grep -lE '^#!/bin/(ba)?sh' -r tests/vm packaging 2>/dev/null)

lints: setup ## Lints of the code
	cargo clippy --locked --all-targets -- -D warnings

# The database of advisories comes from GitHub; without a way there the rest is still checked.
dependencies: setup ## Licenses, sources and advisories of all dependencies
	@$(with_tools); if timeout 30 git ls-remote -q https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; then \
	    cargo deny --locked check; \
	else \
	    echo 'github.com cannot be reached: advisories are not checked'; \
	    cargo deny --locked check bans licenses sources; \
	fi

# It's for those who work on the code, so it may link to private items.
docs: setup ## The documentation of the code, without warnings
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --locked --no-deps --document-private-items

unit: setup ## All tests that need no VM
	cargo test --locked

vm-test: setup ## The tests against real appliances in VMs (TEST=name: some; KEEP=1: leave them; NODES=1: one VM)
	@tests/vm/run $(TEST)

scale: setup ## The tests of 1,000 volumes with 20,000 snapshots, 500 shares and 500 LUNs, and of a volume with 1,000 snapshots
	@VSNAP_TEST_VOLUMES=1000 VSNAP_TEST_SNAPSHOTS=1000 tests/vm/run thousands scale::

bench: setup ## Measures an appliance in VMs beside other tools (BENCH="--only snapshot": a part)
	@tests/vm/bench $(BENCH)

bench-native: setup ## Measures the server of the API alone, on this machine, beside nginx (needs nginx and wrk)
	@cargo bench -q --locked --bench appliance -- native --output benches/results.json

bench-report: ## Makes docs/performance.md and its pictures of benches/results.json
	@cargo bench -q --locked --bench appliance -- report benches/results.json docs/performance.md
	@cargo bench -q --locked --bench appliance -- plot benches/results.json docs/performance

deb: setup ## The Debian package
	@tests/vm/package

image: setup ## The disk image of the VM, if it isn't there yet
	@tests/vm/image
