#!/bin/bash
# Builds the image and runs it for real, without a container engine and without an image registry.
#
# The base images are made here: debootstrap gives Debian's, and this machine's Rust toolchain on
# top of it stands in for the build image. Crates are vendored first, so nothing of this machine's
# cargo configuration reaches the build. Needs root, Debian's packages, among them an llvm-profdata
# (`tests/setup.sh --profile`), and PostgreSQL's server.
# What it starts it ends; base images and vendored crates stay in target/image-test for next time.
set -euo pipefail

readonly ROOT="$(cd "$(dirname "$0")/.." && pwd)"
readonly CACHE="$ROOT/target/image-test"
readonly SUITE=bookworm
readonly BUILD_IMAGE=docker.io/library/rust:1-bookworm
readonly RUN_IMAGE=docker.io/library/debian:bookworm-slim
readonly IMAGE=pgweir:image-test
readonly UID_EXPECTED=10001
readonly IMAGE_BYTES_MAX=$((400 * 1024 * 1024))

WORK=
PROFDATA=
ROOTFS=
POSTGRES_PID=
PGWEIR_PID=

main() {
    require_root
    # What leads out of this folder has to be short: Unix socket paths are.
    WORK=$(mktemp -d /tmp/pgweir-image-XXXXXX)
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP

    step "programs";        install_programs
    step "compose.yaml";    "$PYTHON" "$ROOT/docker/compose-check.py"
    step "vendored crates"; vendor_crates
    step "base images";     make_base_images
    step "image";           build_image; check_image
    step "PostgreSQL";      start_postgresql
    step "the image, run";  start_pgweir; check_running
    step "SIGTERM";         check_stop
    echo "image-test: everything passed"
}

step() { echo "== $1"; }

fail() {
    echo "image-test: $1" >&2
    [[ -f $WORK/pgweir.log ]] && tail -n 20 "$WORK/pgweir.log" >&2
    exit 1
}

require_root() {
    [[ $(id -u) == 0 ]] && return
    echo "image-test: needs root, for chroot and debootstrap" >&2
    exit 1
}

# Ends what runs by its pid. Mounts of the image's run are gone with their namespace.
clean_up() {
    local status=$?
    trap - EXIT INT TERM HUP
    end "$PGWEIR_PID" TERM
    end "$POSTGRES_PID" INT
    if [[ -d $WORK/storage ]]; then
        box rm --all > "$WORK/rm.log" 2>&1 || cat "$WORK/rm.log" >&2
    fi
    rm -rf "$WORK"
    exit "$status"
}

end() {
    [[ -n $1 ]] && kill -0 "$1" 2> /dev/null || return 0
    kill -s "$2" "$1"
    if ! within 40 gone "$1"; then kill -s KILL "$1"; fi
    wait "$1" 2> /dev/null || true
}

gone() { ! kill -0 "$1" 2> /dev/null; }

# within SECONDS COMMAND...: repeats the command until it succeeds; 1 if it never did.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.2
    done
}

# --- programs ----------------------------------------------------------------------------------

install_programs() {
    local missing=()
    command -v buildah > /dev/null || missing+=(buildah)
    command -v debootstrap > /dev/null || missing+=(debootstrap)
    command -v jq > /dev/null || missing+=(jq)
    command -v curl > /dev/null || missing+=(curl)
    [[ -x /usr/bin/python3 ]] && /usr/bin/python3 -c 'import yaml' 2> /dev/null \
        || missing+=(python3-yaml)
    [[ -n $(postgresql_bin) ]] || missing+=(postgresql)
    if ((${#missing[@]})); then
        command -v apt-get > /dev/null || fail "install these: ${missing[*]}"
        install_packages "${missing[@]}"
    fi
    PYTHON=/usr/bin/python3
    PG_BIN=$(postgresql_bin)
    command -v cargo > /dev/null || fail "cargo is not on the PATH"
    "$ROOT/tests/setup.sh" --profile
    PROFDATA=$("$ROOT/benches/profile/run" --which)
}

# Debian starts a daemon as it installs it, unless policy-rc.d says no.
install_packages() {
    local policy=/usr/sbin/policy-rc.d made=
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod 755 "$policy"
        made=yes
    fi
    local status=0
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "$@"; } > "$WORK/apt.log" 2>&1 || status=$?
    [[ -z $made ]] || rm "$policy"
    ((status == 0)) || { tail "$WORK/apt.log" >&2; fail "apt-get could not install: $*"; }
}

# The folder of PostgreSQL's programs: $PG_BIN, or the newest of Debian's.
postgresql_bin() {
    if [[ -n ${PG_BIN:-} ]]; then
        echo "$PG_BIN"
    else
        find /usr/lib/postgresql -path '*/bin/initdb' -printf '%h\n' 2> /dev/null | sort -V | tail -n 1
    fi
}

# buildah with a store of its own, so that the machine's images are neither used nor touched.
box() {
    buildah --root "$WORK/storage" --runroot "$WORK/run" --storage-driver vfs "$@"
}

# Fetches crates with this machine's cargo, so that the build inside needs no network at all.
vendor_crates() {
    local lock="$CACHE/vendored.lock"
    mkdir -p "$CACHE"
    cat "$ROOT/Cargo.lock" "$ROOT/benches/load/Cargo.lock" > "$lock.now"
    cmp -s "$lock.now" "$lock" && return
    rm -rf "$CACHE/vendor"
    cargo vendor --locked --quiet --manifest-path "$ROOT/Cargo.toml" \
        --sync "$ROOT/benches/load/Cargo.toml" "$CACHE/vendor" > /dev/null
    mv "$lock.now" "$lock"
}

# --- base images -------------------------------------------------------------------------------

make_base_images() {
    make_rootfs slim
    make_rootfs build --include=gcc,libc6-dev,ca-certificates
    import "$RUN_IMAGE" "$CACHE/slim.tar"
    import "$BUILD_IMAGE" "$CACHE/build.tar" with_rust
}

# make_rootfs NAME [debootstrap option...]: leaves NAME.tar in the cache.
make_rootfs() {
    local name=$1
    shift
    [[ -f $CACHE/$name.tar ]] && return
    if ! debootstrap --variant=minbase "$@" "$SUITE" "$WORK/$name" "$(mirror)" \
        > "$WORK/debootstrap.log" 2>&1; then
        tail "$WORK/debootstrap.log" >&2
        fail "debootstrap failed"
    fi
    # Without what the slim image leaves out, and without where the packages came from.
    tar -C "$WORK/$name" --exclude='./dev/*' --exclude='./var/cache/apt/*' \
        --exclude='./var/lib/apt/lists/*' --exclude='./usr/share/doc/*' \
        --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' \
        --exclude='./etc/apt/sources.list' -cf "$CACHE/$name.tar.part" .
    mv "$CACHE/$name.tar.part" "$CACHE/$name.tar"
    rm -rf "${WORK:?}/$name"
}

# The mirror that this machine's own packages come from.
mirror() {
    local first
    first=$(find /etc/apt/sources.list /etc/apt/sources.list.d -type f \
            \( -name '*.list' -o -name '*.sources' \) -exec cat {} + 2> /dev/null \
        | sed -nE 's/^(URIs:|deb( \[[^]]*\])?) *(https?:[^ ]+\/debian\/?)( .*)?$/\3/p' | sed -n 1p || true)
    [ -n "$first" ] || { echo "image-test: /etc/apt names no Debian mirror" >&2; return 1; }
    echo "$first"
}

# import NAME TAR [COMMAND]: makes an image of a tar; the command may add to its container.
import() {
    local container
    container=$(box from scratch)
    box add --quiet "$container" "$2" / > /dev/null
    if [[ $# == 3 ]]; then "$3" "$container"; fi
    box config --cmd bash --env PATH="$IMAGE_PATH" "$container"
    box commit --quiet "$container" "$1" > /dev/null
    box rm "$container" > /dev/null
}

readonly IMAGE_PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# The toolchain, without its documentation, which is half of it, and the vendored crates.
with_rust() {
    local sysroot folder
    sysroot=$(rustc --print sysroot)
    folder=$(box mount "$1")/usr/local/cargo
    mkdir -p "$folder/bin" "$folder/lib"
    cp -a "$sysroot"/bin/{cargo,rustc} "$folder/bin/"
    cp -a "$sysroot"/lib/. "$folder/lib/"
    with_llvm_tools "$folder"
    cp -a "$CACHE/vendor" "$folder/"
    cat > "$folder/config.toml" << 'CONFIG'
[source.crates-io]
replace-with = "vendor"
[source.vendor]
directory = "/usr/local/cargo/vendor"
[net]
offline = true
CONFIG
    box config --env CARGO_HOME=/usr/local/cargo "$1"
    box umount "$1" > /dev/null
}

# What `rustup component add llvm-tools` installs, of which llvm-profdata is needed. This machine's may be
# Debian's, whose libraries come along.
with_llvm_tools() {
    local tools host
    host=$(rustc -vV | sed -n 's/^host: //p')
    tools="$1/lib/rustlib/$host/bin"
    mkdir -p "$tools/lib"
    cp -L "$PROFDATA" "$tools/lib/"
    ldd "$PROFDATA" | awk '$2 == "=>" {print $3} $1 ~ "/ld-" {print $1}' | xargs cp -L -t "$tools/lib"
    cat > "$tools/llvm-profdata" << 'PROFDATA'
#!/bin/sh
lib="${0%/*}/lib"
exec "$lib"/ld-* --library-path "$lib" "$lib/llvm-profdata" "$@"
PROFDATA
    chmod 755 "$tools/llvm-profdata"
}

# --- the image ---------------------------------------------------------------------------------

build_image() {
    box bud --isolation chroot --format docker --pull-never --tag "$IMAGE" \
        --build-arg BUILD_IMAGE="$BUILD_IMAGE" --build-arg RUN_IMAGE="$RUN_IMAGE" \
        --file "$ROOT/docker/Dockerfile" "$ROOT" > "$WORK/build.log" 2>&1 \
        || { tail -n 40 "$WORK/build.log" >&2; fail "the image was not built"; }
}

# One value of the image's configuration, by jq's path.
configured() { box inspect --type image "$IMAGE" | jq -r ".Docker.config$1"; }

check_image() {
    local container
    [[ $(configured .User) == "$UID_EXPECTED:$UID_EXPECTED" ]] || fail "User is $(configured .User)"
    [[ $(configured .StopSignal) =~ ^(SIGTERM|15)$ ]] || fail "StopSignal is not SIGTERM"
    [[ $(configured '.Healthcheck.Test[1]') == pgweir-healthcheck ]] || fail "no health check"
    [[ $(configured '.ExposedPorts | keys | join(" ")') == "6432/tcp 9632/tcp" ]] \
        || fail "exposes $(configured .ExposedPorts)"

    container=$(box from --pull-never "$IMAGE")
    ROOTFS=$(box mount "$container")
    [[ ! -e $ROOTFS/usr/local/cargo && ! -e $ROOTFS/build ]] || fail "the image holds the build"
    (($(du -sb "$ROOTFS" | cut -f1) < IMAGE_BYTES_MAX)) || fail "the image is larger than expected"
}

# --- PostgreSQL --------------------------------------------------------------------------------

start_postgresql() {
    local user=nobody
    ! id postgres > /dev/null 2>&1 || user=postgres
    POSTGRES_PORT=$(free_port)
    chmod 711 "$WORK"
    install -d -o "$user" "$WORK/pg"
    echo weir-demo | install -o "$user" /dev/stdin "$WORK/pg/password"
    cd "$WORK/pg"
    as "$user" "$PG_BIN/initdb" -D "$WORK/pg/data" -U app -A scram-sha-256 --no-sync \
        --pwfile="$WORK/pg/password" > "$WORK/initdb.log" || fail "initdb: $(< "$WORK/initdb.log")"
    # `as` ends in exec, so that the background process is PostgreSQL itself.
    as "$user" "$PG_BIN/postgres" -D "$WORK/pg/data" -p "$POSTGRES_PORT" -c fsync=off \
        -c listen_addresses=127.0.0.1 -c unix_socket_directories= > "$WORK/pg.log" 2>&1 &
    POSTGRES_PID=$!
    within 30 query "$POSTGRES_PORT" postgres "create database app" > /dev/null 2>&1 \
        || fail "PostgreSQL did not start: $(tail -n 3 "$WORK/pg.log")"
}

as() {
    local user=$1
    shift
    if ((BASHPID == $$)); then
        setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups "$@"
    else
        exec setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups "$@"
    fi
}

# query PORT DATABASE SQL: as the user `app`, by password.
query() {
    PGPASSWORD="${PASSWORD:-weir-demo}" PGCONNECT_TIMEOUT=5 \
        "$PG_BIN/psql" -X -A -t -h 127.0.0.1 -p "$1" -U app -d "$2" -c "$3"
}

# A port outside the ephemeral range that nobody listens on.
free_port() {
    local port
    while port=$((20000 + RANDOM % 10000)); do
        (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null || break
    done
    echo "$port"
}

# --- the image, run ----------------------------------------------------------------------------

# Runs the image's own command as the image's own user, in its root file system.
start_pgweir() {
    local command
    LISTEN_PORT=$(free_port)
    HTTP_PORT=$(free_port)
    install -m 644 "$ROOT/docker/users.txt" "$ROOTFS/etc/pgweir/users.txt" # as compose mounts it
    mapfile -t command < <(configured '.Cmd[]')
    inside "${command[@]}" > "$WORK/pgweir.log" 2>&1 &
    PGWEIR_PID=$!
    within 15 healthy || { gone "$PGWEIR_PID" && fail "pgweir ended"; fail "/livez did not answer"; }
}

# inside COMMAND...: in a mount namespace of its own, so that /proc and /dev vanish with it. Every
# step is an exec: in the background, the process is the command itself.
inside() {
    local prepare='mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec "$@"'
    local run=(unshare --mount --propagation private bash -c "$prepare" "$ROOTFS"
        chroot --userspec="$(configured .User)" "$ROOTFS"
        env -i PATH="${IMAGE_PATH#*:}" PGWEIR_HOST=127.0.0.1 PGWEIR_PORT="$POSTGRES_PORT"
        PGWEIR_LISTEN_PORT="$LISTEN_PORT" PGWEIR_HTTP_PORT="$HTTP_PORT" "$@")
    if ((BASHPID == $$)); then "${run[@]}"; else exec "${run[@]}"; fi
}

healthy() { ! gone "$PGWEIR_PID" && fetch /livez > /dev/null; }

fetch() { curl -sS --fail --max-time 5 "http://127.0.0.1:$HTTP_PORT$1" 2> "$WORK/curl.log"; }

check_running() {
    local answer
    [[ $(awk '/^Uid:/ {print $2, $3, $4}' "/proc/$PGWEIR_PID/status") \
        == "$UID_EXPECTED $UID_EXPECTED $UID_EXPECTED" ]] || fail "it does not run as $UID_EXPECTED"
    [[ $(readlink "/proc/$PGWEIR_PID/exe") == */pgweir ]] || fail "the process is not pgweir"

    inside pgweir-healthcheck || fail "the health check fails while pgweir serves"

    answer=$(query "$LISTEN_PORT" app "select current_user || ' in ' || current_database()") \
        || fail "psql through pgweir failed"
    [[ $answer == "app in app" ]] || fail "psql through pgweir answered: $answer"
    if PASSWORD=wrong query "$LISTEN_PORT" app "select 1" > "$WORK/wrong.log" 2>&1; then
        fail "a wrong password was let in"
    fi
    grep -q 'password authentication failed' "$WORK/wrong.log" \
        || fail "a wrong password was refused like this: $(< "$WORK/wrong.log")"

    fetch /metrics > "$WORK/metrics" || fail "/metrics: $(< "$WORK/curl.log")"
    grep -q '^pgweir_queries_total' "$WORK/metrics" || fail "/metrics lacks pgweir_queries_total"
}

check_stop() {
    local status=0
    kill -s TERM "$PGWEIR_PID"
    within 40 gone "$PGWEIR_PID" || fail "it did not end within 40 s of SIGTERM"
    wait "$PGWEIR_PID" || status=$?
    PGWEIR_PID=
    ((status == 0)) || fail "SIGTERM ended it with status $status"
    ! inside pgweir-healthcheck 2> /dev/null || fail "the health check passes without pgweir"
}

main "$@"
