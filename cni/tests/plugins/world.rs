//! A host in a network namespace of its own, containers in theirs, and a folder with the plugins.

use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use std::fs::File;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Folder of the distribution's reference plugins.
pub const REFERENCE: &str = "/usr/lib/cni";

/// A namespace that lives as long as this value.
pub struct Namespace(File);

impl Namespace {
    pub fn new() -> Namespace {
        let open = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        Namespace(std::thread::spawn(open).join().unwrap())
    }

    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        coracle_cni::netns::enter(&self.0, work).unwrap()
    }

    /// Listens inside. The port may be in use for a moment more: a child of another test, which has not
    /// yet become another program, still has the listener that was there before.
    pub fn listen(&self, addr: &str) -> TcpListener {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match self.enter(|| TcpListener::bind(addr)) {
                Err(err) if err.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                    std::thread::yield_now();
                }
                bound => return bound.unwrap(),
            }
        }
    }

    /// Runs a command inside; it must succeed.
    pub fn run(&self, line: &str) -> String {
        let (ok, text) = self.try_run(line);
        assert!(ok, "{line}: {text}");
        text
    }

    /// Runs a command inside: did it succeed, and all that it printed.
    pub fn try_run(&self, line: &str) -> (bool, String) {
        self.enter(|| {
            let output = Command::new("/bin/sh").args(["-c", line]).output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&text).into_owned())
        })
    }

    /// Does an address answer? It says at least that nobody listens at the port.
    pub fn reaches(&self, addr: &str) -> bool {
        self.answers(addr, Duration::from_secs(5))
    }

    /// True when an address does not answer in the time that it would take many times over.
    pub fn is_cut_off_from(&self, addr: &str) -> bool {
        !self.answers(addr, Duration::from_secs(1))
    }

    fn answers(&self, addr: &str, limit: Duration) -> bool {
        let target = SocketAddr::new(addr.parse().unwrap(), 9);
        match self.enter(|| TcpStream::connect_timeout(&target, limit)) {
            Ok(_) => true,
            Err(err) => err.kind() == ErrorKind::ConnectionRefused,
        }
    }

    pub fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.run(line)).unwrap()
    }
}

/// A host with our plugins.
pub struct World {
    pub host: Namespace,
    pub dir: TempDir,
    /// CNI_PATH.
    pub path: String,
}

/// One call of a plugin.
pub struct Call<'a> {
    pub command: &'a str,
    pub plugin: &'a str,
    pub id: &'a str,
    pub netns: String,
    pub args: &'a str,
}

impl World {
    pub fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        // Links, not copies: a file that another test's child still has open for writing cannot be run.
        std::fs::create_dir(&bin).unwrap();
        for kind in coracle_cni::plugins::Kind::ALL {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_coracle-cni"), bin.join(kind.as_str())).unwrap();
        }
        let host = Namespace::new();
        host.run("ip link set lo up");
        World { host, path: bin.display().to_string(), dir }
    }

    pub fn lease_dir(&self) -> PathBuf {
        self.dir.path().join("networks")
    }

    /// The addresses that are leased in a network.
    pub fn leases(&self, network: &str) -> Vec<String> {
        let files = std::fs::read_dir(self.lease_dir().join(network)).into_iter().flatten().flatten();
        let names = files.map(|it| it.file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|it| it.parse::<std::net::IpAddr>().is_ok()).collect();
        names.sort();
        names
    }

    /// A bridge network with one range.
    pub fn bridge_conf(&self, extra: &Value) -> Value {
        let mut conf = json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0", "isGateway": true,
            "ipam": {
                "type": "host-local", "dataDir": self.lease_dir(), "subnet": "10.77.0.0/24",
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        });
        for (key, value) in extra.as_object().unwrap() {
            conf[key] = value.clone();
        }
        conf
    }

    /// A network of one plugin.
    pub fn conf(&self, plugin: &str, ipam: &Value, extra: &Value) -> Value {
        let mut conf = json!({"cniVersion": "1.1.0", "name": "net", "type": plugin, "ipam": ipam});
        for (key, value) in extra.as_object().unwrap() {
            conf[key] = value.clone();
        }
        conf
    }

    /// Calls a plugin: what it printed, or the error it printed.
    pub fn call(&self, call: &Call, conf: &Value) -> Result<Value, Value> {
        self.call_with(call, conf, &[])
    }

    fn call_with(&self, call: &Call, conf: &Value, env: &[(&str, &str)]) -> Result<Value, Value> {
        let binary = self.path.split(':').map(|dir| Path::new(dir).join(call.plugin)).find(|it| it.exists());
        let mut command = Command::new(binary.expect("the plugin is in the path"));
        command
            .env("CNI_COMMAND", call.command)
            .env("CNI_CONTAINERID", call.id)
            .env("CNI_NETNS", &call.netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", call.args)
            .env("CNI_PATH", &self.path)
            .envs(env.iter().copied());
        let limit = Duration::from_secs(60);
        let text = conf.to_string();
        let output = self.host.enter(|| coracle_cni::process::run(command, text.as_bytes(), limit).unwrap());
        let printed = if output.stdout.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&output.stdout).unwrap()
        };
        if output.status.success() {
            return Ok(printed);
        }
        assert!(
            printed["code"].is_u64(),
            "no error object: {printed} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Err(printed)
    }

    pub fn add(&self, id: &str, container: &Namespace, conf: &Value) -> Result<Value, Value> {
        self.act("ADD", id, &container.path(), conf)
    }

    pub fn del(&self, id: &str, netns: &str, conf: &Value) -> Result<Value, Value> {
        self.act("DEL", id, netns, conf)
    }

    pub fn act(&self, command: &str, id: &str, netns: &str, conf: &Value) -> Result<Value, Value> {
        self.act_with(command, id, netns, conf, &[])
    }

    /// As [`World::act`], with more in the environment.
    pub fn act_with(
        &self,
        command: &str,
        id: &str,
        netns: &str,
        conf: &Value,
        env: &[(&str, &str)],
    ) -> Result<Value, Value> {
        let plugin = conf["type"].as_str().unwrap();
        self.call_with(&Call { command, plugin, id, netns: netns.into(), args: "" }, conf, env)
    }
}

/// The configuration with a result in it.
pub fn with_result(conf: &Value, result: &Value) -> Value {
    let mut conf = conf.clone();
    conf["prevResult"] = result.clone();
    conf
}

/// The address of the first family in a result, without its length.
pub fn address(result: &Value) -> String {
    result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned()
}

/// Everything that could be left on a host: links, rules, leases.
pub fn footprint(world: &World, network: &str) -> String {
    let links = world.host.run("ip -br link show type veth | cut -d@ -f1");
    let rules = world.host.run("nft list ruleset 2>/dev/null | grep -F elements || true");
    format!("{links}{rules}{}", world.leases(network).join(" "))
}

/// Says that a test could not go on, past the harness, which keeps to itself what passing tests print.
pub fn not_run(what: &str, why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "NOT RUN: {what}: {why}");
}
