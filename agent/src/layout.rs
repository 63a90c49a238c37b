//! Where a cluster keeps what: every path below its data folder has its name here and nowhere else.

use std::path::{Path, PathBuf};

use crate::join::Membership;

/// The folders and files of one cluster on one node.
#[derive(Debug, Clone)]
pub struct Layout {
    data: PathBuf,
}

impl Layout {
    /// The layout below `data`.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into() }
    }

    /// The data folder itself.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.data.join("server/store.db")
    }

    /// Certificates and keys of the control plane.
    pub fn pki(&self) -> PathBuf {
        self.data.join("server/pki")
    }

    /// The files of a node that has joined a cluster elsewhere.
    pub fn membership(&self) -> Membership {
        Membership::new(self.data.join("agent"))
    }

    /// What `kubectl` is pointed at.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.data.join("admin.kubeconfig")
    }

    /// The kubelet's root folder.
    pub fn kubelet(&self) -> PathBuf {
        self.data.join("kubelet")
    }

    /// Container logs.
    pub fn pod_logs(&self) -> PathBuf {
        self.data.join("log/pods")
    }

    /// Static pod manifests.
    pub fn manifests(&self) -> PathBuf {
        self.data.join("manifests")
    }

    /// Image archives that are imported at start.
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// CNI plugins.
    pub fn cni_bin(&self) -> PathBuf {
        self.data.join("cni/bin")
    }

    /// CNI configuration.
    pub fn cni_conf(&self) -> PathBuf {
        self.data.join("cni/net.d")
    }

    /// CNI address leases.
    pub fn cni_leases(&self) -> PathBuf {
        self.data.join("cni/leases")
    }

    /// Sockets, process ids, the settings of the running cluster.
    pub fn run(&self) -> PathBuf {
        self.data.join("run")
    }

    /// The settings with which the cluster was last started.
    pub fn settings(&self) -> PathBuf {
        self.run().join("up.json")
    }

    /// Makes every folder of the control plane that is not there: for root alone.
    pub fn create_server(&self) -> std::io::Result<()> {
        make(&[(self.data.join("server"), 0o700), (self.pki(), 0o700)])
    }

    /// Makes every folder of a node that is not there. The ones with secrets are for root alone.
    pub fn create(&self) -> std::io::Result<()> {
        make(&[
            (self.data.clone(), 0o755),
            (self.kubelet(), 0o750),
            (self.pod_logs(), 0o755),
            (self.manifests(), 0o755),
            (self.images(), 0o755),
            (self.cni_bin(), 0o755),
            (self.cni_conf(), 0o755),
            (self.cni_leases(), 0o755),
            (self.run(), 0o700),
        ])
    }
}

fn make(folders: &[(PathBuf, u32)]) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    folders
        .iter()
        .try_for_each(|(path, mode)| std::fs::DirBuilder::new().recursive(true).mode(*mode).create(path))
}
