# A containerd of our own: own root, state and socket, so that nothing the machine already runs is touched.
# shellcheck shell=bash

# containerd_config DATA_DIR PAUSE_IMAGE: prints the configuration.
containerd_config() {
    # Without CAP_SYS_RESOURCE a negative oom_score_adj is refused: containerd must cap it at its own.
    local restrict=false
    [ $((0x$(awk '/^CapEff/ {print $2}' /proc/self/status) >> 24 & 1)) = 1 ] || restrict=true
    local systemd_cgroup=false
    cat <<EOF
version = 2
root = "$1/containerd/root"
state = "$1/containerd/state"
disabled_plugins = ["io.containerd.internal.v1.restart", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
  address = "$1/run/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$2"
  restrict_oom_score_adj = $restrict
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$1/cni/bin"
    conf_dir = "$1/cni/net.d"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = $systemd_cgroup
EOF
}

# containerd_start DATA_DIR PAUSE_IMAGE: starts it unless it runs, and waits until it answers.
containerd_start() {
    local data=$1 pidfile=$1/run/containerd.pid socket=$1/run/containerd.sock log=$1/log/containerd.log tries=150
    alive "$pidfile" && ctr --address "$socket" --connect-timeout 2s version >/dev/null 2>&1 && return 0
    stop_process "$pidfile" 5
    mkdir -p "$data/containerd" "$data/run" "$data/log" "$data/cni/bin" "$data/cni/net.d"
    containerd_config "$data" "$2" >"$data/containerd/config.toml"
    rm -f "$socket"
    setsid nohup containerd --config "$data/containerd/config.toml" >>"$log" 2>&1 </dev/null &
    echo $! >"$pidfile"
    until ctr --address "$socket" --connect-timeout 1s version >/dev/null 2>&1; do
        tries=$((tries - 1))
        if [ "$tries" -le 0 ] || ! alive "$pidfile"; then
            tail -n 5 "$log" >&2
            die "containerd does not answer at $socket (whole log: $log)"
        fi
        sleep 0.1
    done
}
