# Everything a developer or CI runs. Build output and test tools live outside the clone.
CACHE := $(HOME)/.cache/weir
export CARGO_TARGET_DIR ?= $(CACHE)/target
# The pinned tools that tests/setup.sh installs come first.
export PATH := $(CACHE)/venv/bin:$(PATH)

# What run and load build: optimised, without the slow link-time passes of a release.
PROFILE ?= ci
# Fault cycles per scenario and backend in test-faults; slow scenarios do a fifth of it.
CYCLES ?= 50

# How long fuzz drives each parser.
FUZZ_SECONDS ?= 120

.DEFAULT_GOAL := help
.PHONY: help run test check generate bench load test-faults fuzz pins clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Build Weir and start it here: `weir dev`, data in ./weir-data
	@bash tests/setup.sh toolchain
	cargo build --profile $(PROFILE) --bin weir
	@"$(CARGO_TARGET_DIR)/$(PROFILE)/weir" dev

# The server under test is the dev-profile binary that `cargo test --workspace` links anyway: a second,
# optimised build would double the compile time, and this one has its overflow and debug assertions on.
test: ## Run every test; installs PostgreSQL, nats-server and a browser first if they are missing
	@bash tests/setup.sh toolchain postgres tools prometheus node browser faults
	cargo test --workspace --no-fail-fast
	@bash tests/clients/run.sh
	@bash tests/kosoku.sh
	@bash tests/openapi.sh

check: ## Formatting, lints, licences, dependency direction, generated files
	@bash tests/setup.sh toolchain tools
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo deny --workspace --all-features check --hide-inclusion-graph licenses bans sources
	@bash tests/generated.sh check
	@find . -name node_modules -prune -o \( -name '*.sh' -o -path './.ci/run' \) -print0 | xargs -0 shellcheck

generate: ## Rewrite the files that are made from code (docs/openapi.json, …)
	@bash tests/generated.sh write

bench: ## Measure Weir beside this machine's floor and nginx nchan; QUICK=1 is the short form
	@bash tests/setup.sh toolchain postgres tools
	cargo build --profile $(PROFILE) --bin weir
	@bash tests/load/bench.sh $(PROFILE)

load: ## Load this machine for a few seconds: subscribers, publishers and readers at once
	@bash tests/setup.sh toolchain
	cargo build --profile $(PROFILE) --bin weir
	@bash tests/load/load.sh $(PROFILE)

test-faults: ## Kill, pause, cut off and fill up servers while they work, CYCLES times each; JSON reports in the target folder
	@bash tests/setup.sh toolchain postgres tools faults
	WEIR_TEST_CYCLES=$(CYCLES) cargo test -p weir-integration faults -- --nocapture --test-threads=1

fuzz: ## Drive the parsers of what strangers send with libFuzzer, FUZZ_SECONDS each
	@bash tests/setup.sh toolchain
	@bash fuzz/run.sh $(FUZZ_SECONDS)

pins: ## Resolve tests/requirements.in again and write the hashes
	{ echo "# Generated from requirements.in; every download is held against these hashes."; \
		uv pip compile --universal --generate-hashes --no-annotate --no-header --quiet tests/requirements.in; } >tests/requirements.new
	mv tests/requirements.new tests/requirements.txt

clean: ## Remove build output and installed test tools
	rm -rf "$(CACHE)" "$(CARGO_TARGET_DIR)"
