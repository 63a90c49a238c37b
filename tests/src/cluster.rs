//! A cluster in a host of its own, brought up by `hack/up`; its further nodes are hosts within that host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::eventually;
use crate::host::Host;
use crate::kubectl::Kubectl;

/// How to bring a cluster up.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Further options of `coracle server`.
    pub up: Vec<String>,
    /// How many nodes; 0 is one, too.
    pub nodes: u32,
    /// Files put below the data folder before the first start: path and content.
    pub files: Vec<(String, String)>,
    /// Further fields of the kubelet's configuration, as YAML.
    pub kubelet: String,
}

/// A running cluster. Dropping it purges it.
pub struct Cluster {
    host: Arc<Host>,
    folder: tempfile::TempDir,
    cgroup: String,
    options: Options,
}

/// The machine's disk may be nearly full, which is no business of these tests: the node must not see pressure, nor
/// remove images (unless a test says from where on).
const KUBELET_CONFIG: &str = "\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
evictionHard:
  memory.available: 50Mi
  nodefs.available: 100Mi
  nodefs.inodesFree: 1%
  imagefs.available: 100Mi
  imagefs.inodesFree: 1%
";

/// The checkout whose scripts are used.
fn repo() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live below the checkout")
}

/// Where the programs under test are: CORACLE_BIN_DIR, or where cargo put this build's.
fn bin_dir() -> PathBuf {
    if let Some(folder) = std::env::var_os("CORACLE_BIN_DIR") {
        return folder.into();
    }
    let this = std::env::current_exe().expect("this program has a path");
    // target/PROFILE/deps/TEST
    this.ancestors().nth(2).expect("tests run from target/PROFILE/deps").to_owned()
}

impl Cluster {
    /// A cluster with everything at its default.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// A cluster with options.
    pub fn start_with(options: Options) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("node-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // Short: sockets live below it.
        let folder = tempfile::Builder::new().prefix("cor-").tempdir_in("/tmp").expect("make a folder");
        let host = Arc::new(Host::new(&name));
        let cluster = Self { host, folder, cgroup: format!("/coracle-{name}"), options };
        let mut kubelet = format!("{KUBELET_CONFIG}{}", cluster.options.kubelet);
        if !kubelet.contains("imageGCHighThresholdPercent") {
            kubelet.push_str("imageGCHighThresholdPercent: 100\n");
        }
        std::fs::write(cluster.kubelet_config(), kubelet).expect("write a file");
        for (path, content) in &cluster.options.files {
            let path = cluster.data_dir().join(path);
            std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("make a folder");
            std::fs::write(path, content).expect("write a file");
        }
        let up = cluster.up();
        assert!(up.0, "hack/up failed:\n{}\n{}", up.1, cluster.log_tail());
        cluster
    }

    /// Runs `hack/up`: whether it succeeded, and what it printed.
    pub fn up(&self) -> (bool, String) {
        let mut command = Command::new("bash");
        command
            .arg(repo().join("hack/up"))
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--bin-dir")
            .arg(bin_dir());
        if self.options.nodes > 1 {
            command.args(["--nodes", &self.options.nodes.to_string()]);
        }
        command.args(["--", "--cgroup-root", &self.cgroup, "--kubelet-config"]).arg(self.kubelet_config());
        command.args(&self.options.up);
        self.script(&command)
    }

    /// Runs `hack/down` with further arguments: whether it succeeded, and what it printed.
    pub fn down(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new("bash");
        command
            .arg(repo().join("hack/down"))
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--bin-dir")
            .arg(bin_dir());
        self.script(command.args(arguments))
    }

    fn kubelet_config(&self) -> PathBuf {
        self.folder.path().join("kubelet.yaml")
    }

    fn script(&self, command: &Command) -> (bool, String) {
        let output = self.host.run(command);
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Runs the `coracle` program in the cluster's host: whether it succeeded, and what it printed.
    pub fn coracle(&self, arguments: &[&str]) -> (bool, String) {
        self.script(Command::new(bin_dir().join("coracle")).args(arguments))
    }

    /// A program under test.
    pub fn program(&self, name: &str) -> PathBuf {
        bin_dir().join(name)
    }

    /// The cluster's data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("c")
    }

    /// The host it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The name of a further node, counted from 2.
    pub fn node_name(&self, number: u32) -> String {
        format!("{}-{number}", self.host.name())
    }

    /// The folder of a further node, counted from 2.
    pub fn node_dir(&self, number: u32) -> PathBuf {
        self.data_dir().join(format!("nodes/{number}"))
    }

    /// Runs a shell line on a further node; panics when it fails, and gives its standard output.
    pub fn on_node(&self, number: u32, line: &str) -> String {
        let pid = std::fs::read_to_string(self.node_dir(number).join("host.pid")).expect("the node's host");
        let enter = "nsenter --net --mount --uts --ipc --pid";
        self.host.sh(&format!("{enter} --target {} -- /bin/sh -c '{line}'", pid.trim()))
    }

    /// The cgroup below which its pods' cgroups are.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// kubectl for it, as its administrator.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(Arc::clone(&self.host), self.data_dir().join("admin.kubeconfig"))
    }

    /// The demo image's name.
    pub fn demo_image() -> String {
        format!("localhost/coracle/demo:{}", env!("CARGO_PKG_VERSION"))
    }

    /// kill -9 of the coracle process, and its end. Pods run on.
    pub fn kill(&self) {
        let pid = format!("$(cat {}/run/coracle.pid)", self.data_dir().display());
        self.host.sh(&format!("kill -9 {pid}"));
        eventually("the killed process is gone", || {
            // Its first thread may be dead while others still hold its ports; once they are gone, too, what is left only
            // waits for its parent.
            let line = format!("ls /proc/{pid}/task 2>/dev/null | wc -l; grep -s ^State: /proc/{pid}/status");
            let state = self.host.sh(&format!("{line} || true"));
            let over = state.starts_with('0') || state.starts_with("1\n") && state.contains("Z (");
            if over { Ok(()) } else { Err(state) }
        });
    }

    /// The last lines of the cluster's log, for a failing test to show.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.data_dir().join("log/coracle.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the cluster's log ends ---\n{}", self.log_tail());
        }
        if self.data_dir().exists() {
            let (success, text) = self.down(&["--purge"]);
            if !success {
                eprintln!("hack/down --purge: {text}");
            }
        }
        // With the host's processes gone, its cgroups are empty; they would be left when purge failed.
        let own = self.cgroup.trim_start_matches('/').to_owned();
        for name in
            (2..=self.options.nodes).map(|it| format!("{own}-{it}")).chain(std::iter::once(own.clone()))
        {
            for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
                remove_cgroup(&controller.path().join(&name));
            }
            remove_cgroup(&Path::new("/sys/fs/cgroup").join(&name));
        }
    }
}

/// Removes a cgroup and those below it. A cgroup's files go with it.
fn remove_cgroup(folder: &Path) {
    for below in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|it| it.is_dir()) {
            remove_cgroup(&below.path());
        }
    }
    let _ = std::fs::remove_dir(folder);
}
