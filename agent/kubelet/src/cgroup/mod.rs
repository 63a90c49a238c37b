//! The kubepods tree: made, filled in, removed, read. cgroup v1 (every mounted controller) and v2, cgroupfs and systemd
//! names.
//!
//! With the systemd driver systemd is asked for every slice; the folders of hierarchies that it leaves alone are made
//! here, under the names that it gives them.

mod name; // names in both drivers' spelling
mod pods; // what is written: pure
mod systemd; // slices by way of systemd
mod tree; // the mounted hierarchies

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;

use crate::config::{CgroupDriver, KubeletConfig};
use crate::dbus::{Bus, DbusError};
use crate::node::Machine;
use crate::resources::{MIN_SHARES, QosClass, pod_requests, qos_class, shares};

pub use name::CgroupName;
use systemd::Slices;
pub use tree::{Limits, Tree};

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
    /// systemd does not make or stop a slice.
    #[error("{action} slice {unit}")]
    Systemd {
        /// What was tried.
        action: &'static str,
        /// The slice.
        unit: String,
        /// systemd's answer.
        #[source]
        source: DbusError,
    },
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

/// Makes and removes this kubelet's cgroups. Every async method does its blocking file work on a thread of its own.
pub struct CgroupManager {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<KubeletConfig>,
    tree: Tree,
    /// With the systemd driver.
    slices: Option<Slices>,
    machine: Machine,
    kubepods: CgroupName,
    /// Requested cpu of the burstable pods that have a cgroup: their class's shares are the sum.
    burstable: Mutex<BTreeMap<String, i64>>,
}

impl CgroupManager {
    /// A manager over this machine's tree; refuses a cgroup v1 machine when `failCgroupV1` says so.
    pub fn new(config: Arc<KubeletConfig>) -> Result<Arc<Self>, CgroupError> {
        let machine = Machine::read().map_err(|err| CgroupError::Refused(err.to_string()))?;
        Self::over(config, Tree::of_this_machine()?, machine, Bus::SYSTEM.into())
    }

    /// A manager over a given tree; `bus` is the way to systemd.
    pub fn over(
        config: Arc<KubeletConfig>,
        tree: Tree,
        machine: Machine,
        bus: PathBuf,
    ) -> Result<Arc<Self>, CgroupError> {
        if tree.is_v1() && config.cgroups.fail_v1 {
            return Err(CgroupError::Refused(
                "kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is in maintenance mode \
                 (failCgroupV1: false allows it)"
                    .to_owned(),
            ));
        }
        let kubepods = CgroupName::kubepods(&config.cgroups.root);
        let systemd = config.cgroups.driver == CgroupDriver::Systemd;
        let slices = systemd.then(|| Slices { socket: bus, v1: tree.is_v1() });
        let inner = Inner { config, tree, slices, machine, kubepods, burstable: Mutex::default() };
        Ok(Arc::new(Self { inner: Arc::new(inner) }))
    }

    /// Makes `kubepods`, `kubepods/burstable`, `kubepods/besteffort` and writes the node's allocatable into them.
    pub async fn ensure_qos_tree(&self) -> Result<(), CgroupError> {
        self.blocking(|inner| {
            inner.make(&inner.kubepods, &pods::root_values(&inner.config, &inner.machine))?;
            for class in [QosClass::Burstable, QosClass::BestEffort] {
                let own = if class == QosClass::BestEffort { MIN_SHARES } else { inner.burstable_shares() };
                let limits = Limits { shares: Some(own), ..Limits::default() };
                inner.make(&inner.kubepods.of_class(class), &limits)?;
            }
            Ok(())
        })
        .await
    }

    /// Makes the pod's cgroup with its limits: its name as the runtime wants it (`cgroup_parent`).
    pub async fn ensure_pod(&self, pod: &Pod) -> Result<String, CgroupError> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let class = qos_class(pod);
        let name = self.inner.kubepods.of_class(class).pod(&uid);
        let values = pods::pod_values(pod, &self.inner.config.resources);
        let cpu = pod_requests(pod).cpu_milli();
        self.blocking(move |inner| {
            inner.make(&name, &values)?;
            if class == QosClass::Burstable {
                inner.set_burstable(&uid, Some(cpu))?;
            }
            Ok(name.parent_for(inner.config.cgroups.driver))
        })
        .await
    }

    /// Holds the pod's cgroup to what `pod` may have; while `from` is given, to whatever is more of both, so that its
    /// containers can be changed one after the other.
    pub async fn resize_pod(&self, pod: &Pod, from: Option<&Pod>) -> Result<(), CgroupError> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let class = qos_class(pod);
        let name = self.inner.kubepods.of_class(class).pod(&uid);
        let settings = &self.inner.config.resources;
        let mut values = pods::pod_values(pod, settings);
        if let Some(from) = from {
            values = values.larger(pods::pod_values(from, settings));
        }
        let cpu = from.is_none().then(|| pod_requests(pod).cpu_milli());
        self.blocking(move |inner| {
            if let Some(slices) = &inner.slices {
                slices.ensure(&name.parent_for(CgroupDriver::Systemd), &values)?;
            }
            inner.tree.write(&inner.folder(&name), &values)?;
            match cpu {
                Some(cpu) if class == QosClass::Burstable => inner.set_burstable(&uid, Some(cpu)),
                _ => Ok(()),
            }
        })
        .await
    }

    /// Removes the pod's cgroup, killing what is left in it. One that is not there is no error.
    pub async fn remove_pod(&self, uid: &str) -> Result<(), CgroupError> {
        let uid = uid.to_owned();
        self.blocking(move |inner| {
            for name in inner.names_of(&uid) {
                inner.unmake(&name)?;
            }
            inner.set_burstable(&uid, None)
        })
        .await
    }

    /// Removes the whole of kubepods, if no pod is left in it.
    pub async fn remove_qos_tree(&self) -> Result<(), CgroupError> {
        let left = self.pods().await?;
        if !left.is_empty() {
            return Err(CgroupError::Refused(format!("pods still have cgroups: {}", left.join(", "))));
        }
        self.blocking(|inner| inner.unmake(&inner.kubepods)).await
    }

    /// The uids that have a cgroup.
    pub async fn pods(&self) -> Result<Vec<String>, CgroupError> {
        self.blocking(|inner| {
            let driver = inner.config.cgroups.driver;
            let classes = [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort];
            let folders = classes.map(|it| inner.folder(&inner.kubepods.of_class(it)));
            let names = folders.iter().flat_map(|it| inner.tree.children(it));
            Ok(names.filter_map(|it| name::uid_of_folder(&it, driver)).collect())
        })
        .await
    }

    /// Usage of the pod's cgroup; all empty when it has none.
    pub async fn pod_stats(&self, uid: &str) -> Result<CgroupStats, CgroupError> {
        let uid = uid.to_owned();
        self.blocking(move |inner| {
            let folders = inner.names_of(&uid).map(|it| inner.folder(&it));
            let found = folders.iter().find(|it| inner.tree.exists(it));
            Ok(found.map(|it| inner.tree.stats(it)).unwrap_or_default())
        })
        .await
    }

    /// Usage of a cgroup by its path below the root: `""` is the machine, `kubepods` all pods.
    pub async fn stats(&self, folder: &str) -> Result<CgroupStats, CgroupError> {
        let folder = folder.trim_start_matches('/').to_owned();
        self.blocking(move |inner| Ok(inner.tree.stats(&folder))).await
    }

    /// The folder of kubepods below the root, for [`CgroupManager::stats`].
    pub fn kubepods(&self) -> String {
        self.inner.folder(&self.inner.kubepods)
    }

    /// The size of the machine that the tree is on.
    pub fn machine(&self) -> &Machine {
        &self.inner.machine
    }

    /// The path of a pod's cgroup below the root, with a slash before it.
    pub fn path_of(&self, pod: &Pod) -> String {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        format!("/{}", self.inner.folder(&self.inner.kubepods.of_class(qos_class(pod)).pod(uid)))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, CgroupError> + Send + 'static,
    ) -> Result<T, CgroupError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|_| CgroupError::Interrupted)?
    }
}

impl Inner {
    fn folder(&self, name: &CgroupName) -> String {
        name.folder(self.config.cgroups.driver)
    }

    fn make(&self, name: &CgroupName, limits: &Limits) -> Result<(), CgroupError> {
        if let Some(slices) = &self.slices {
            slices.ensure(&name.parent_for(CgroupDriver::Systemd), limits)?;
        }
        let folder = self.folder(name);
        self.tree.create(&folder)?;
        self.tree.write(&folder, limits)
    }

    fn unmake(&self, name: &CgroupName) -> Result<(), CgroupError> {
        let folder = self.folder(name);
        if let Some(slices) = self.slices.as_ref().filter(|_| self.tree.exists(&folder)) {
            slices.stop(&name.parent_for(CgroupDriver::Systemd))?;
        }
        self.tree.remove(&folder)
    }

    /// The class of a pod that is gone is not known: it can lie in three places.
    fn names_of(&self, uid: &str) -> [CgroupName; 3] {
        [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort]
            .map(|class| self.kubepods.of_class(class).pod(uid))
    }

    fn burstable_shares(&self) -> i64 {
        let pods = self.burstable.lock().unwrap_or_else(PoisonError::into_inner);
        shares(pods.values().sum())
    }

    fn set_burstable(&self, uid: &str, cpu: Option<i64>) -> Result<(), CgroupError> {
        {
            let mut pods = self.burstable.lock().unwrap_or_else(PoisonError::into_inner);
            let old = match cpu {
                Some(cpu) => pods.insert(uid.to_owned(), cpu),
                None => pods.remove(uid),
            };
            if old == cpu {
                return Ok(());
            }
        }
        let name = self.kubepods.of_class(QosClass::Burstable);
        if !self.tree.exists(&self.folder(&name)) {
            return Ok(());
        }
        self.make(&name, &Limits { shares: Some(self.burstable_shares()), ..Limits::default() })
    }
}

#[cfg(test)]
mod tests;
