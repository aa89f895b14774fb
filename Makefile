# What people do with this repository. `make help` lists it.

CARGO ?= cargo
# Where cargo puts what it builds.
TARGET := $(or $(CARGO_TARGET_DIR),./target)
LOCKED ?= --locked
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)
NEXTEST_PROFILE ?= default
# How long the demonstration runs.
SECONDS ?= 30
# How often the network of real nodes falls apart.
ROUNDS ?= 20
# Arguments of the benches: --quick, --only NAME, --strict; see `$(TARGET)/release/bench --help`.
BENCH ?=

.DEFAULT_GOAL := help
.PHONY: run test test-long lint fmt bench hosts doc scripts scripts-rewrite help

run: ## Watch two nodes keep their session while their links die (30 s; SECONDS=60 for longer)
	$(CARGO) build $(LOCKED) --release --bin bowline
	$(TARGET)/release/bowline demo --seconds $(SECONDS)

# Tests of processes find the programs that are built along with the tests.
test: export BOWLINE_PROGRAMS_BUILT = 1
test: ## Run every test: units, scripts, simulations, real processes, documentation
ifeq ($(NEXTEST),yes)
	$(CARGO) nextest run $(LOCKED) --workspace --lib --bins --tests --profile $(NEXTEST_PROFILE)
else
	$(CARGO) test $(LOCKED) --workspace --lib --bins --tests
endif
	$(CARGO) test $(LOCKED) --workspace --doc --quiet

test-long: ## Run the tests that `make test` leaves out because they take minutes: whole models, many seeds, large networks
	$(CARGO) test $(LOCKED) --workspace --lib -- --ignored --nocapture --test-threads 2

lint: ## Check the format, the lints and the documentation
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy $(LOCKED) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(LOCKED) --workspace --no-deps --quiet
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny --offline check --config .deny.toml bans licenses sources; \
	else echo "cargo-deny is not installed: licences and sources are not checked"; fi

fmt: ## Format everything
	$(CARGO) fmt --all

hosts: ## As root: twenty times the network of five real nodes falls apart and comes together (nftables; ROUNDS=6 for fewer)
	$(CARGO) build $(LOCKED) --workspace --bins
	BOWLINE_PROGRAMS_BUILT=1 BOWLINE_PARTITION_ROUNDS=$(ROUNDS) $(CARGO) test $(LOCKED) --workspace --test partitions -- --nocapture

bench: ## Measure throughput, latency and failover against raw TCP and TLS (as root: failover between namespaces as well), the network's shape against petgraph and rustworkx
	$(CARGO) build $(LOCKED) --release --package bowline --package bowline-tests --bins
	$(TARGET)/release/bench $(BENCH)
	@if [ -z "$(BENCH)" ]; then $(CARGO) bench $(LOCKED) --package bowline-actors --bench topology; fi

doc: ## Build the documentation of the crates into target/doc
	$(CARGO) doc $(LOCKED) --workspace --no-deps

scripts: ## Run the message scripts
	$(CARGO) run $(LOCKED) --quiet --bin bowline -- script tests/scripts

scripts-rewrite: ## Run the message scripts and rewrite what they record; read the difference before keeping it
	$(CARGO) run $(LOCKED) --quiet --bin bowline -- script --rewrite tests/scripts

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
