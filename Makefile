# Every target is one line of help: `make help`.

.DEFAULT_GOAL := help
.PHONY: help demo test check bench build fmt lint doc directions features deny

# cargo-nextest where it is installed, else cargo's own runner.
NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo yes)

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Shows an engine's whole life on this machine, in a folder of its own
	cargo build --locked --bins
	scripts/demo.sh

test: build ## Runs every test, from nothing
	python3 scripts/test_checks.py
ifeq ($(NEXTEST),yes)
	cargo nextest run --locked --workspace --all-features --no-fail-fast
	cargo test --locked --workspace --all-features --doc
else
	cargo test --locked --workspace --all-features --no-fail-fast
endif

check: fmt lint doc directions features deny ## Runs every check that is no test: what CI runs before them

bench: ## Measures the start of dh with 100 engines, and the agent's memory
	cargo build --locked --release --bins
	python3 scripts/bench.py

# With the features that the tests are built with, so that nothing is compiled twice.
build:
	cargo build --locked --workspace --all-features

fmt: ## Checks the formatting (cargo fmt --all mends it)
	cargo fmt --all --check

lint: ## Runs clippy over everything, warnings denied
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings

doc: ## Builds the documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --all-features --no-deps --document-private-items --quiet

directions: ## Checks which way dependencies point, and the list of environment variables
	python3 scripts/directions.py
	python3 scripts/variables.py

features: ## Builds dh-core with no feature, with each, and with all
	scripts/features.sh

deny: ## Checks licenses, sources and duplicates of dependencies, where cargo-deny is installed
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --workspace check bans licenses sources; \
	else echo "skipped: cargo-deny is not installed (cargo install cargo-deny --locked)"; [ "$$CI" != true ]; fi
