# Further hosts on this machine: each a set of namespaces with a network of its own, joined by a bridge that has a
# namespace for itself, so that the machine's own rules for bridges do not apply.
# shellcheck shell=bash

# The network between the hosts; this machine has the first address, and the hosts leave by it.
hosts_net=10.89.0
hosts_link=coracle0
hosts_table=coracle_hosts

# first_child PID: the process that unshare made; waits for it.
first_child() {
    local child='' tries=100
    until child=$(tr -d ' ' <"/proc/$1/task/$1/children" 2>/dev/null) && [ -n "$child" ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] && runs "$1" || die "a namespace could not be made"
        sleep 0.05
    done
    echo "$child"
}

# underlay_start DATA_DIR: the bridge, and this machine's way to it.
underlay_start() {
    local pidfile=$1/run/underlay.pid pid
    alive "$pidfile" && return 0
    underlay_stop "$1"
    setsid nohup unshare --net --fork --kill-child sleep infinity >/dev/null 2>&1 </dev/null &
    pid=$(first_child $!)
    echo "$pid" >"$pidfile"
    nsenter --target "$pid" --net sh -ec 'ip link set lo up; ip link add under0 type bridge; ip link set under0 up'
    ip link add "$hosts_link" type veth peer name machine0 netns "$pid"
    nsenter --target "$pid" --net ip link set machine0 master under0 up
    ip addr add "$hosts_net.1/24" dev "$hosts_link"
    ip link set "$hosts_link" up
    echo 1 >/proc/sys/net/ipv4/ip_forward
    nft -f - <<EOT
table ip $hosts_table {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr $hosts_net.0/24 ip daddr != $hosts_net.0/24 masquerade
    }
}
EOT
}

# underlay_stop DATA_DIR: takes it back; the links go with the namespace.
underlay_stop() {
    stop_process "$1/run/underlay.pid" 1
    ip link delete "$hosts_link" 2>/dev/null || true
    nft delete table ip "$hosts_table" 2>/dev/null || true
}

# host_start DATA_DIR FOLDER NAME NUMBER: a host at the underlay's address of this number.
host_start() {
    local pidfile=$2/host.pid pid underlay
    alive "$pidfile" && return 0
    mkdir -p "$2"
    underlay=$(cat "$1/run/underlay.pid")
    # shellcheck disable=SC2016  # the host's own shell expands it
    setsid nohup unshare --net --mount --uts --ipc --pid --fork --kill-child --mount-proc --propagation private -- \
        /bin/sh -ec '
            hostname "$1"
            mount --make-rshared /
            mount -t tmpfs -o mode=755 tmpfs /run
            mkdir -p /run/netns /run/lock
            ip link set lo up
            : >/run/host-ready
            # The first process takes in orphans: it must wait for them when they end.
            while :; do sleep 3600 & wait $!; done
        ' init "$3" >/dev/null 2>&1 </dev/null &
    pid=$(first_child $!)
    echo "$pid" >"$pidfile"
    ip link add "host$4" netns "$underlay" type veth peer name up0 netns "$pid"
    nsenter --target "$underlay" --net ip link set "host$4" master under0 up
    nsenter --target "$pid" --net sh -ec "
        ip addr add $hosts_net.$4/24 dev up0
        ip link set up0 up
        ip route add default via $hosts_net.1"
    local tries=100
    until in_host "$2" test -e /run/host-ready 2>/dev/null; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] && runs "$pid" || die "host $3 did not come up"
        sleep 0.05
    done
}

# in_host FOLDER COMMAND...: runs it there.
in_host() {
    local pid
    pid=$(cat "$1/host.pid")
    shift
    nsenter --target "$pid" --net --mount --uts --ipc --pid -- "$@"
}

# host_stop FOLDER: ends every process of the host; its mounts and links go with it.
host_stop() {
    local pid
    alive "$1/host.pid" || { rm -f "$1/host.pid"; return 0; }
    pid=$(cat "$1/host.pid")
    kill -9 "$pid" 2>/dev/null || true
    stop_process "$1/host.pid" 5
}
