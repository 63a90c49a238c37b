//! CNI ADD and DEL: our chain beside the distribution's reference plugins, in the same run.
//!
//! Both attach the same network (bridge, host-local, portmap) in hosts made of network namespaces, each container in
//! one of its own, one chain after the other in turns, started as a runtime starts them.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};

use crate::figures::{Samples, ms, row};

/// Folder of the distribution's reference plugins.
const REFERENCE: &str = "/usr/lib/cni";

/// Times and memory of both chains, and ours in parts of the other's.
pub fn report(rounds: usize) -> Result<()> {
    if !Path::new(REFERENCE).join("bridge").exists() {
        bail!("no reference plugins in {REFERENCE}: install the package containernetworking-plugins");
    }
    let dir = tempfile::tempdir().context("make a folder for the plugins")?;
    let ours = dir.path().join("bin");
    let installed = Command::new(bin_dir()?.join("coracle-cni")).arg("install").arg(&ours).status()?;
    anyhow::ensure!(installed.success(), "coracle-cni install: {installed}");
    let chains = [
        Chain::new("reference", vec![REFERENCE.into()], dir.path())?,
        Chain::new("coracle", vec![ours], dir.path())?,
    ];
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=rounds {
        for (chain, times) in chains.iter().zip(&mut times) {
            let taken = chain.attach_and_detach()?;
            if round > 0 {
                times.push(taken); // the first round brings the programs into memory
            }
        }
    }
    let [reference, coracle] = times.map(Samples::new);
    row("CNI ADD + DEL, reference chain", &reference.text());
    row("CNI ADD + DEL, our chain", &coracle.text());
    row("CNI ADD + DEL, ours : reference", &format!("{:.3}", ms(coracle.median()) / ms(reference.median())));
    let [reference, coracle] = [memory(&chains[0])?, memory(&chains[1])?];
    let mib = |bytes: u64| format!("{:.2} MiB", bytes as f64 / 1024.0 / 1024.0);
    row(&format!("CNI, memory of the reference chain, {AT_ONCE} ADDs at once"), &mib(reference));
    row(&format!("CNI, memory of our chain, {AT_ONCE} ADDs at once"), &mib(coracle));
    row("CNI, memory, ours : reference", &format!("{:.3}", coracle as f64 / reference as f64));
    Ok(())
}

/// Where the programs under test are: CORACLE_BIN_DIR, or beside this one.
fn bin_dir() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("CORACLE_BIN_DIR") {
        return Ok(folder.into());
    }
    let this = std::env::current_exe().context("find this program")?;
    Ok(this.parent().context("this program is in a folder")?.to_owned())
}

/// A host with its plugins.
struct Chain {
    path: Vec<PathBuf>,
    host: File,
    bridge: Value,
    portmap: Value,
}

impl Chain {
    fn new(name: &str, path: Vec<PathBuf>, dir: &Path) -> Result<Chain> {
        let bridge = json!({
            "cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
            "ipam": {"type": "host-local", "dataDir": dir.join(name), "ranges": [[{"subnet": "10.77.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}]},
        });
        let portmap = json!({"cniVersion": "1.0.0", "name": name, "type": "portmap"});
        Ok(Chain { path, host: namespace()?, bridge, portmap })
    }

    /// One container's life, from the first plugin's start to the last one's end.
    fn attach_and_detach(&self) -> Result<Duration> {
        let container = Container { id: "bench".into(), port: 8080, netns: namespace()? };
        let started = Instant::now();
        let result = self.attach(&container, None)?;
        self.detach(&container, &result)?;
        Ok(started.elapsed())
    }

    fn attach(&self, container: &Container, cgroup: Option<&Cgroup>) -> Result<Value> {
        let attached = self.run("ADD", "bridge", &self.bridge, container, cgroup)?;
        let result = serde_json::from_slice(&attached).context("read the bridge's result")?;
        self.run("ADD", "portmap", &self.portmap(container, &result), container, cgroup)?;
        Ok(result)
    }

    fn detach(&self, container: &Container, result: &Value) -> Result<()> {
        self.run("DEL", "portmap", &self.portmap(container, result), container, None)?;
        self.run("DEL", "bridge", &self.bridge, container, None).map(drop)
    }

    fn portmap(&self, container: &Container, result: &Value) -> Value {
        let mut conf = self.portmap.clone();
        let mapping = json!({"hostPort": container.port, "containerPort": 80, "protocol": "tcp"});
        conf["runtimeConfig"] = json!({"portMappings": [mapping]});
        conf["prevResult"] = result.clone();
        conf
    }

    fn run(
        &self,
        command: &str,
        plugin: &str,
        conf: &Value,
        container: &Container,
        cgroup: Option<&Cgroup>,
    ) -> Result<Vec<u8>> {
        let binary = self.path[0].join(plugin);
        let mut process = match cgroup {
            None => Command::new(&binary),
            Some(cgroup) => {
                // What the shell used before it joined is not counted.
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", "echo $$ > \"$1\" && exec \"$2\"", "sh"]);
                shell.arg(cgroup.dir.join("cgroup.procs")).arg(&binary);
                shell
            }
        };
        process
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &container.id)
            .env("CNI_NETNS", format!("/proc/{}/fd/{}", std::process::id(), container.netns.as_raw_fd()))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", std::env::join_paths(&self.path)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let text = conf.to_string();
        let output = inside(&self.host, || -> Result<_> {
            let mut child = process.spawn().with_context(|| format!("start {}", binary.display()))?;
            child.stdin.take().context("the child has an input")?.write_all(text.as_bytes())?;
            Ok(child.wait_with_output()?)
        })?;
        let printed = String::from_utf8_lossy(&output.stdout);
        anyhow::ensure!(output.status.success(), "{command} of {}: {printed}", binary.display());
        Ok(output.stdout)
    }
}

/// A container to be.
struct Container {
    id: String,
    port: u16,
    netns: File,
}

/// How many containers are attached at once where memory is measured: the kernel counts in coarse steps.
const AT_ONCE: u16 = 16;

/// The most memory that the processes held at once while that many containers were attached, beyond what is held when
/// all are attached and no process runs: the kernel's own for links and rules. Programs' files are shared with the page
/// cache, and are not counted.
fn memory(chain: &Chain) -> Result<u64> {
    let mut least = u64::MAX;
    for _ in 0..3 {
        let container = |number| -> Result<Container> {
            Ok(Container { id: format!("bench{number}"), port: 9000 + number, netns: namespace()? })
        };
        let containers: Vec<Container> = (0..AT_ONCE).map(container).collect::<Result<_>>()?;
        let cgroup = Cgroup::new()?;
        let results = std::thread::scope(|scope| -> Result<Vec<Value>> {
            let cgroup = &cgroup;
            let attach = |container| scope.spawn(move || chain.attach(container, Some(cgroup)));
            let all: Vec<_> = containers.iter().map(attach).collect();
            all.into_iter().map(|it| it.join().expect("the thread does not panic")).collect()
        })?;
        let idle = cgroup.read(cgroup.usage)?;
        least = least.min(cgroup.read(cgroup.peak)?.saturating_sub(idle));
        for (container, result) in containers.iter().zip(&results) {
            chain.detach(container, result)?;
        }
    }
    Ok(least)
}

/// A memory cgroup that is thrown away.
struct Cgroup {
    dir: PathBuf,
    peak: &'static str,
    usage: &'static str,
}

impl Cgroup {
    fn new() -> Result<Cgroup> {
        let (root, peak, usage) = if Path::new("/sys/fs/cgroup/memory").is_dir() {
            ("/sys/fs/cgroup/memory", "memory.max_usage_in_bytes", "memory.usage_in_bytes")
        } else {
            ("/sys/fs/cgroup", "memory.peak", "memory.current")
        };
        let dir = Path::new(root).join(format!("coracle-bench-{}", std::process::id()));
        std::fs::create_dir(&dir).with_context(|| format!("make cgroup {}", dir.display()))?;
        Ok(Cgroup { dir, peak, usage })
    }

    fn read(&self, name: &str) -> Result<u64> {
        let file = self.dir.join(name);
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        Ok(text.trim().parse()?)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.dir); // empty: all its processes were waited for
    }
}

/// A fresh network namespace.
fn namespace() -> Result<File> {
    let made = std::thread::spawn(|| -> Result<File> {
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
        Ok(File::open("/proc/thread-self/ns/net")?)
    });
    made.join().expect("the thread does not panic")
}

/// Runs `work` in a namespace, on a thread of its own.
fn inside<T: Send>(netns: &File, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(netns.as_fd(), CloneFlags::CLONE_NEWNET).context("enter the host")?;
            work()
        });
        thread.join().expect("the thread does not panic")
    })
}
