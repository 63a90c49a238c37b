//! One reading of everything.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use coracle_cri::proto as v1;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::{Stats, StatsError};
use crate::cgroup::CgroupStats;
use crate::node::{FileSystem, file_system, meminfo_bytes};
use crate::translate::keys;

/// Usage of one thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) stats: CgroupStats,
    /// Billionths of a core, since the reading before.
    pub(super) nano_cores: Option<u64>,
}

/// Usage of a container.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ContainerSample {
    pub(super) name: String,
    pub(super) started: Option<Timestamp>,
    pub(super) usage: Usage,
    /// Bytes and inodes that it wrote over its image.
    pub(super) written: Option<(u64, u64)>,
}

/// Usage of a pod.
#[derive(Debug, Clone)]
pub(super) struct PodSample {
    pub(super) pod: Arc<Pod>,
    pub(super) usage: Usage,
    pub(super) containers: Vec<ContainerSample>,
}

/// Everything at one time.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: Timestamp,
    pub(super) booted: Option<Timestamp>,
    pub(super) node: Usage,
    /// Bytes of memory that are left.
    pub(super) available: Option<u64>,
    pub(super) kubepods: Usage,
    pub(super) pods: Vec<PodSample>,
}

/// File systems of the node and of images.
#[derive(Debug, Clone, Default)]
pub(super) struct FileSystems {
    pub(super) node: Option<FileSystem>,
    pub(super) images: Option<FileSystem>,
    /// Bytes and inodes that images use.
    pub(super) images_used: Option<(u64, u64)>,
}

impl Sample {
    /// Every usage by a name of its own.
    pub(super) fn for_each_usage(&mut self, mut with: impl FnMut(String, &mut Usage)) {
        with("node".to_owned(), &mut self.node);
        with("kubepods".to_owned(), &mut self.kubepods);
        for pod in &mut self.pods {
            let uid = pod.pod.metadata.uid.clone().unwrap_or_default();
            for container in &mut pod.containers {
                with(format!("{uid}/{}", container.name), &mut container.usage);
            }
            with(uid, &mut pod.usage);
        }
    }
}

impl Stats {
    pub(super) async fn sample(&self, pods: &[Arc<Pod>]) -> Result<Sample, StatsError> {
        let mut by_pod =
            containers(self.runtime.list_container_stats(None).await.map_err(StatsError::Runtime)?);
        let usage = |stats| Usage { stats, nano_cores: None };
        let mut samples = Vec::with_capacity(pods.len());
        for pod in pods {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            let stats = self.cgroups.pod_stats(uid).await.map_err(StatsError::Cgroup)?;
            let mut own = by_pod.remove(uid).unwrap_or_default();
            for container in &mut own {
                container.started = started(pod, &container.name);
            }
            samples.push(PodSample { pod: Arc::clone(pod), usage: usage(stats), containers: own });
        }
        let kubepods = self.cgroups.stats(&self.cgroups.kubepods()).await.map_err(StatsError::Cgroup)?;
        let mut node = self.cgroups.stats("").await.map_err(StatsError::Cgroup)?;
        // The root of a v2 tree does not count memory; the kernel's own table does, in every version.
        let meminfo = tokio::fs::read_to_string("/proc/meminfo").await.unwrap_or_default();
        let bytes = |name: &str| meminfo_bytes(&meminfo, name).and_then(|it| u64::try_from(it).ok());
        let used = bytes("MemTotal").zip(bytes("MemFree")).map(|(total, free)| total.saturating_sub(free));
        node.memory_usage = used;
        node.memory_working_set = used.map(|it| it.saturating_sub(bytes("Inactive(file)").unwrap_or(0)));
        node.swap_usage =
            bytes("SwapTotal").zip(bytes("SwapFree")).map(|(total, free)| total.saturating_sub(free));
        let stat = tokio::fs::read_to_string("/proc/stat").await.unwrap_or_default();
        Ok(Sample {
            at: Timestamp::now(),
            booted: boot_time(&stat),
            available: bytes("MemTotal")
                .zip(node.memory_working_set)
                .map(|(total, used)| total.saturating_sub(used)),
            node: usage(node),
            kubepods: usage(kubepods),
            pods: samples,
        })
    }

    pub(super) async fn file_systems(&self) -> FileSystems {
        let info = self.runtime.image_fs_info().await.unwrap_or_default();
        let images = info.image_filesystems.into_iter().next();
        let path = images.as_ref().and_then(|it| it.fs_id.as_ref()).map(|it| PathBuf::from(&it.mountpoint));
        let value = |it: Option<v1::UInt64Value>| it.map_or(0, |it| it.value);
        let images_used = images.map(|it| (value(it.used_bytes), value(it.inodes_used)));
        let root = self.config.paths.root.clone();
        let read =
            tokio::task::spawn_blocking(move || (file_system(&root), path.and_then(|it| file_system(&it))));
        let (node, images) = read.await.unwrap_or_default();
        FileSystems { node, images, images_used }
    }
}

/// The runtime's figures by pod uid.
fn containers(list: Vec<v1::ContainerStats>) -> HashMap<String, Vec<ContainerSample>> {
    let mut by_pod: HashMap<String, Vec<ContainerSample>> = HashMap::new();
    for it in list {
        let Some(attributes) = it.attributes else { continue };
        let label = |key: &str| attributes.labels.get(key).cloned();
        let (Some(uid), Some(name)) = (label(keys::POD_UID), label(keys::CONTAINER_NAME)) else { continue };
        let value = |it: Option<v1::UInt64Value>| it.map(|it| it.value);
        let memory = it.memory.unwrap_or_default();
        let stats = CgroupStats {
            cpu_usage_nanos: it.cpu.and_then(|it| value(it.usage_core_nano_seconds)),
            memory_usage: value(memory.usage_bytes),
            memory_working_set: value(memory.working_set_bytes),
            memory_rss: value(memory.rss_bytes),
            page_faults: value(memory.page_faults),
            major_page_faults: value(memory.major_page_faults),
            swap_usage: it.swap.and_then(|it| value(it.swap_usage_bytes)),
            ..CgroupStats::default()
        };
        let written = it
            .writable_layer
            .map(|it| (value(it.used_bytes).unwrap_or_default(), value(it.inodes_used).unwrap_or_default()));
        let usage = Usage { stats, nano_cores: None };
        by_pod.entry(uid).or_default().push(ContainerSample { name, started: None, usage, written });
    }
    for own in by_pod.values_mut() {
        own.sort_by(|a, b| a.name.cmp(&b.name));
    }
    by_pod
}

fn started(pod: &Pod, container: &str) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let all: [&Option<Vec<ContainerStatus>>; 3] =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let found = all.into_iter().flatten().flatten().find(|it| it.name == container)?;
    Some(found.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0)
}

fn boot_time(stat: &str) -> Option<Timestamp> {
    let seconds = stat.lines().find_map(|it| it.strip_prefix("btime "))?;
    Timestamp::from_second(seconds.trim().parse().ok()?).ok()
}
