# Every target prepares what it needs: `make demo` works in a fresh clone. `make help` lists them.
#
#   CARGO_TARGET_DIR   where build outputs go (default: target)
#   PREFIX             where `make install` puts things (default: /usr/local)
#   LIBTORCH, SIROCCO_CACHE   see scripts/setup.sh

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export PATH := $(PATH):$(HOME)/.cargo/bin
# Compiler flags come from .cargo/config.toml alone: flags in the environment would replace them, and with them the run path by which
# programs find libtorch.
unexport RUSTFLAGS
unexport CARGO_ENCODED_RUSTFLAGS
unexport CARGO_BUILD_RUSTFLAGS

CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR
PROGRAMS := $(shell realpath -ms -- "$(CARGO_TARGET_DIR)")/release
PREFIX ?= /usr/local

.PHONY: help setup build verifier demo fmt lint test bench gpu-check oracle mutations interop install dist clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## find or install the compiler, MPI and libtorch; does nothing when they are there
	@scripts/setup.sh

build: setup verifier ## the programs, in $CARGO_TARGET_DIR/release
	@cargo build --release --workspace --exclude sirocco-verify --locked

# Named for its target, it has a folder of its own: the flags of a static program would compile everything else again.
VERIFIER_TARGET := $(shell uname -m)-unknown-linux-gnu
VERIFIER := $(shell realpath -ms -- "$(CARGO_TARGET_DIR)")/$(VERIFIER_TARGET)/release/sirocco-verify
verifier: setup ## sirocco-verify as one static file, which runs on any Linux
	@cargo --config 'target.$(VERIFIER_TARGET).rustflags=["-C","target-feature=+crt-static","-C","strip=symbols"]' \
		build --release --locked -p sirocco-verify --target $(VERIFIER_TARGET)
	@install -m 755 "$(VERIFIER)" "$(PROGRAMS)/sirocco-verify"

demo: export NEEDS_PYTHON := yes
demo: build ## from nothing to a served fine-tune of a small real model
	@SIROCCO_BIN="$(PROGRAMS)" scripts/demo.sh

fmt: ## format every file
	@cargo fmt --all

lint: setup ## formatting and clippy, warnings as errors; dependency rules where cargo-deny is installed
	@cargo fmt --all --check
	@cargo clippy --release --workspace --all-targets --locked -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --log-level error check bans licenses sources; fi

test: export NEEDS_SLURM := yes
test: lint build ## all that a change must pass, cheapest first
	@cargo test --release --workspace --locked

bench: build ## the numbers of training beside their peers and bounds, in about half an hour; BENCH=--quick rehearses (needs what make demo leaves)
	@cargo build --release --locked --quiet -p sirocco-checkpoint --example save_speed
	@python=$$(tests/oracle/python.sh) && "$$python" benches/scaling.py --bin "$(PROGRAMS)" $(BENCH)

gpu-check: ## every operation on a GPU beside the CPU, and the table of speeds; says so where there is no GPU
	@scripts/gpu_check.sh

oracle: ## write the small oracle files again, with Transformers and PEFT in a virtual environment
	@python=$$(tests/oracle/python.sh) && for script in tests/oracle/make_*.py crates/*/tests/oracle/make*.py; do echo "$$script"; "$$python" "$$script" || exit $$?; done

mutations: build ## take out every gate, one at a time: does a test notice? About an hour; ONLY="export merge" takes some
	@tests/mutations/gates.py $(if $(ONLY),--only $(ONLY))

interop: build ## do Transformers, PEFT and the openai client agree with what make demo left behind, and others with our signatures?
	@tests/interop/run.sh --bin "$(PROGRAMS)"
	@crates/signing/tests/interop/run.sh

install: build ## the programs and the recipes, into PREFIX
	@install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/share/sirocco"
	@install -m 755 "$(PROGRAMS)/sirocco" "$(PROGRAMS)/sirocco-train" "$(PROGRAMS)/sirocco-serve" "$(VERIFIER)" "$(DESTDIR)$(PREFIX)/bin"
	@cp -R configs datasets "$(DESTDIR)$(PREFIX)/share/sirocco"
	@install -m 644 LICENSE NOTICE README.md "$(DESTDIR)$(PREFIX)/share/sirocco"
	@echo "sirocco-train and sirocco-serve find libtorch in $$(sed -n 's/^LIBTORCH = "\(.*\)"/\1/p' .cargo/config.toml)/lib: whoever runs them must be able to read it (packaging/README.md)"

dist: ## the source as sirocco-VERSION.tar.gz, as of the last commit, for packaging/
	@version=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1) && \
	git archive --format=tar --prefix="sirocco-$$version/" HEAD | gzip -n >"sirocco-$$version.tar.gz" && sha256sum "sirocco-$$version.tar.gz"

clean: ## remove build outputs; models, data, runs and exports stay
	@cargo clean
