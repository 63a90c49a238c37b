# Shared by the scripts in hack/: words to the user, the default folders, what Debian must provide.
# shellcheck shell=bash

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
default_data_dir=/var/lib/coracle

say() { printf '==> %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

need_root() { [ "$(id -u)" = 0 ] || die "$1 must run as root: it starts containers and programs the network"; }

# The workspace's version, which the images carry as their tag.
version() { sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$repo/Cargo.toml"; }

# Installs the Debian packages whose command is missing: install_missing COMMAND=PACKAGE...
install_missing() {
    local missing=() pair
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null 2>&1 || [ -e "${pair%%=*}" ] || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} = 0 ] && return 0
    command -v apt-get >/dev/null 2>&1 || die "missing: ${missing[*]} (install them with your package manager)"
    say "installing ${missing[*]}"
    local log
    log=$(mktemp)
    if ! { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" ||
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; }; } >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        die "apt-get could not install ${missing[*]} (whole log: $log)"
    fi
    rm -f "$log"
}

# What a node needs to run pods; what the build needs.
install_runtime() {
    install_missing nft=nftables ip=iproute2 conntrack=conntrack busybox=busybox-static runc=runc
    if [ -z "${1:-}" ]; then install_missing containerd=containerd; fi
}
install_build() {
    command -v cargo >/dev/null 2>&1 || die "no cargo: install a Rust toolchain (1.95 or newer)"
    install_missing cc=gcc make=make
}

# runs PID: is there such a process? One that has ended and waits for its parent is not.
runs() { local state; state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) && [ -n "$state" ] && [ "$state" != Z ]; }

# alive PIDFILE: is the process that it names running?
alive() { [ -s "$1" ] && runs "$(cat "$1")"; }

# stop_process PIDFILE SECONDS: TERM, then KILL when it has not ended by then.
stop_process() {
    local pid tries=$(($2 * 10))
    alive "$1" || {
        rm -f "$1"
        return 0
    }
    pid=$(cat "$1")
    kill "$pid" 2>/dev/null || true
    while runs "$pid"; do
        tries=$((tries - 1))
        if [ "$tries" -le 0 ]; then
            kill -9 "$pid" 2>/dev/null || true
            break
        fi
        sleep 0.1
    done
    rm -f "$1"
}
