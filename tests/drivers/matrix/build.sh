#!/usr/bin/env bash
# Builds what test_programs.py runs into target/matrix. `tests/setup.sh --matrix` installs compilers.
set -euo pipefail
cd "$(dirname "$0")"
out=$(cd ../../.. && pwd)/target/matrix
mkdir -p "$out"

for driver in pgx pq; do
    (
        cd go
        # Debian's packages of Go are source for GOPATH, and nothing is to be downloaded.
        GO111MODULE=off GOFLAGS="" GOPATH=/usr/share/gocode \
            go build -buildvcs=false -o "$out/go-$driver" "$driver.go" check.go
    )
done

cargo build --quiet --locked --manifest-path rust/Cargo.toml --target-dir "$out/rust"
