//! Where things lie on disk: upstream's layout, so that tools and a change of kubelet find what they expect.

use std::path::{Path, PathBuf};

/// The folders of one kubelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// `--root-dir`, `/var/lib/kubelet`.
    pub root: PathBuf,
    /// `podLogsDir`, `/var/log/pods`.
    pub pod_logs: PathBuf,
}

impl Paths {
    /// The layout below a root folder and a folder of logs.
    pub fn new(root: impl Into<PathBuf>, pod_logs: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), pod_logs: pod_logs.into() }
    }

    /// `<root>/pods`: one folder per pod that has something on disk.
    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// `<root>/pods/<uid>`.
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }

    /// `<root>/pods/<uid>/volumes`.
    pub fn volumes(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volumes")
    }

    /// `<root>/pods/<uid>/volumes/<plugin>/<name>`, the plugin's `/` written as `~`.
    pub fn volume(&self, uid: &str, plugin: &str, name: &str) -> PathBuf {
        self.volumes(uid).join(plugin.replace('/', "~")).join(name)
    }

    /// `<root>/pods/<uid>/plugins/<plugin>/<name>`: a volume type's own notes (the `ready` file).
    pub fn volume_notes(&self, uid: &str, plugin: &str, name: &str) -> PathBuf {
        self.pod(uid).join("plugins").join(plugin.replace('/', "~")).join(name)
    }

    /// `<root>/pods/<uid>/volume-subpaths`: bind mounts of sub-paths.
    pub fn subpaths(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volume-subpaths")
    }

    /// The bind mount of one mount's sub-path.
    pub fn subpath(&self, uid: &str, volume: &str, container: &str, index: usize) -> PathBuf {
        self.subpaths(uid).join(volume).join(container).join(index.to_string())
    }

    /// `<root>/pods/<uid>/etc-hosts`: the managed hosts file.
    pub fn etc_hosts(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("etc-hosts")
    }

    /// `<root>/pods/<uid>/containers/<name>`: termination logs of a container's instances.
    pub fn container(&self, uid: &str, name: &str) -> PathBuf {
        self.pod(uid).join("containers").join(name)
    }

    /// `<pod logs>/<namespace>_<name>_<uid>`.
    pub fn pod_log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.pod_logs.join(format!("{namespace}_{name}_{uid}"))
    }

    /// A container instance's log below its pod's log folder: `<container>/<restart count>.log`.
    pub fn container_log(container: &str, restart_count: u32) -> String {
        format!("{container}/{restart_count}.log")
    }

    /// Where a `Localhost` seccomp profile of this name lies.
    pub fn seccomp_profile(&self, name: &str) -> PathBuf {
        self.root.join("seccomp").join(name)
    }

    /// Certificates: `<root>/pki`.
    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// Whether `path` lies below the folder of pods.
    pub fn is_below_pods(&self, path: &Path) -> bool {
        path.starts_with(self.pods())
    }
}
