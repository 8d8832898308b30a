# What a person types. `make test` and `make demo` install what is missing.
.DEFAULT_GOAL := help
# `PG_BIN=… make test` runs everything against the PostgreSQL of that folder.
PG_NEWEST := $(CURDIR)/.postgresql/18/bin
.PHONY: help setup demo release test test-all drivers chaos matrix regress lint bench guard micro image-test

# Most of these tests wait for something; each process has a PostgreSQL of its own.
PYTEST := .venv/bin/pytest --quiet --numprocesses 3

help:
	@echo "make demo        a throwaway PostgreSQL, pgweir before it, and a sample load"
	@echo "make release     target/profiled/release/pgweir, optimised for the way it is used"
	@echo "make test        unit, integration and driver tests"
	@echo "make test-all    test, and what takes too long for every run"
	@echo "make drivers     the driver tests alone; ARGS='-k asyncpg' picks some"
	@echo "make chaos       failover: a primary, two streaming replicas, faults; ARGS='-k promoted' picks some"
	@echo "make matrix      the drivers of other languages: Node, Java, Go, Rust"
	@echo "make regress     PostgreSQL's own regression suite, directly and in session mode"
	@echo "make lint        formatting and clippy"
	@echo "make bench       pgweir against pgbouncer and haproxy; ARGS='--only core' runs some of it"
	@echo "make guard       instructions per exchange, against the parent commit's"
	@echo "make micro       times of the parts: frames, classifier, checkout; ARGS=classify picks some"
	@echo "make image-test  build the container image and run it once"

setup:
	@tests/setup.sh

demo:
	@tests/setup.sh --demo
	cargo run --release -- demo

# Debian's PostgreSQL first, then the newest.
test: setup
	for tool in compare guard sizing; do (cd benches/$$tool && python3 -m unittest --quiet) || exit 1; done
	cargo test --quiet --manifest-path benches/load/Cargo.toml --target-dir target/load
	cargo nextest run
	PG_BIN=$(PG_NEWEST) cargo nextest run --test it
	@$(MAKE) --no-print-directory drivers
	@$(MAKE) --no-print-directory chaos

drivers: setup
	cargo build
	$(PYTEST) tests/drivers $(ARGS)

chaos: setup
	cargo build
	$(PYTEST) tests/chaos $(ARGS)

matrix:
	@tests/setup.sh --matrix
	cargo build
	tests/drivers/matrix/build.sh
	$(PYTEST) tests/drivers/matrix $(ARGS)
	$(if $(ARGS),,$(PYTEST) tests/chaos/matrix)

# Adds: each property test with 20 times the cases, more differential sequences, the driver tests
# three times over (a race shows in one run of many), ten kills of a primary, 10 GB through one
# client, once more against the newest PostgreSQL, the integration tests against the one before, the
# drivers of other languages, PostgreSQL's regression suite, and the container image.
test-all: test
	PROPTEST_CASES=5000 DIFFERENTIAL_SEQUENCES=5000 cargo nextest run --no-fail-fast
	for round in 1 2 3; do $(PYTEST) tests/drivers || exit 1; done
	PGWEIR_CHAOS_RUNS=10 $(PYTEST) tests/chaos/test_kill.py
	PGWEIR_COPY_MB=10240 $(PYTEST) tests/drivers/test_volume.py
	PG_BIN=$(PG_NEWEST) $(PYTEST) tests/drivers
	@tests/setup.sh --all
	PG_BIN=$(CURDIR)/.postgresql/17/bin cargo nextest run --test it
	@$(MAKE) --no-print-directory matrix
	@$(MAKE) --no-print-directory regress
	@$(MAKE) --no-print-directory image-test

# PostgreSQL's own regression suite: each test must give through pgweir what it gives directly.
regress: setup
	cargo build
	tests/regress/run

lint:
	cargo fmt --check
	cargo clippy --all-targets --all-features -- -D warnings
	cargo fmt --check --manifest-path benches/load/Cargo.toml
	cargo clippy --all-targets --manifest-path benches/load/Cargo.toml --target-dir target/load -- -D warnings

# Half an hour; ARGS='--only core' takes ten minutes.
# What runs in production: target/profiled/release/pgweir.
release:
	@tests/setup.sh --profile
	benches/profile/run

bench: release
	@tests/setup.sh --bench
	benches/compare/run $(ARGS)

guard:
	@tests/setup.sh --guard
	benches/guard/run

micro:
	cargo bench --bench micro -- $(ARGS)

image-test:
	docker/image-test.sh
