//! A host on this machine: its own network, mounts, processes and name, thrown away as a whole.

use std::process::{Child, Command, Stdio};

use crate::eventually;

/// A host. Dropping it kills its first process, and with it every other one, its mounts and its links.
pub struct Host {
    first: Child,
    /// Its first process, as the machine sees it.
    pid: u32,
    name: String,
}

/// Prepares the new namespaces, then holds them open. `$1` is the host's name.
const INIT: &str = r#"
set -e
hostname "$1"
mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock
ip link set lo up
# An uplink, so that the node has an address and a default route; its other end is the world outside.
ip link add up0 type veth peer name world0
ip addr add 10.0.0.1/24 dev up0
ip link set up0 up
ip link set world0 up
ip route add default via 10.0.0.254
: > /run/host-ready
# The first process takes in orphans: it must wait for them when they end.
while :; do sleep 3600 & wait $!; done
"#;

impl Host {
    /// A new host with loopback, an uplink `up0` (10.0.0.1) and a /run of its own.
    pub fn new(name: &str) -> Self {
        let mut first = Command::new("unshare")
            .args(["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["--propagation", "private", "--", "/bin/sh", "-c", INIT, "init", name])
            .stdin(Stdio::null())
            .spawn()
            .expect("run unshare (Debian: util-linux); the tests need root");
        // unshare's only child is the first process inside.
        let children = format!("/proc/{0}/task/{0}/children", first.id());
        let pid = eventually("the host's first process", || {
            if let Ok(Some(status)) = first.try_wait() {
                panic!("host {name} ended at once: {status}");
            }
            let text = std::fs::read_to_string(&children).map_err(|error| error.to_string())?;
            text.split_whitespace().next().and_then(|it| it.parse().ok()).ok_or("no child yet".to_owned())
        });
        let host = Self { first, pid, name: name.to_owned() };
        eventually("the host's network", || {
            let ready = host.run(Command::new("test").args(["-e", "/run/host-ready"]));
            if ready.status.success() { Ok(()) } else { Err("not ready") }
        });
        host
    }

    /// Its first process, as the machine sees it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `command` as it would run inside: call any of its methods, then pass it to [`Host::run`] or spawn it.
    pub fn enter(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.args(["--target", &self.pid.to_string(), "--net", "--mount", "--uts", "--ipc", "--pid", "--"]);
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            inside.current_dir(folder);
        }
        inside
    }

    /// Runs `command` inside to its end.
    pub fn run(&self, command: &Command) -> std::process::Output {
        let mut inside = self.enter(command);
        inside.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("run {command:?}: {error}"))
    }

    /// Runs a shell line inside; panics with its output when it fails, and gives its standard output.
    pub fn sh(&self, line: &str) -> String {
        let output = self.run(Command::new("/bin/sh").args(["-c", line]));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "on {}: {line}: {}\n{}{}",
            self.name,
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The kernel ends every process of a pid namespace with its first.
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}
