//! A Pod in the words of CRI: `PodSandboxConfig` and `ContainerConfig`, with upstream's labels, annotations and paths.

mod error; // why a container cannot be configured, in upstream's words
mod labels; // labels and annotations that upstream's kubelet reads, too

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use coracle_cri::proto as v1;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::config::KubeletConfig;
use crate::objects::ObjectSource;
use crate::volume::PodVolumes;

pub use error::ConfigError;
pub use labels::keys;

/// What is the same for every pod of this node.
#[derive(Clone)]
pub struct TranslateDeps {
    /// The configuration.
    pub config: Arc<KubeletConfig>,
    /// ConfigMaps, Secrets and Services for environments.
    pub objects: Arc<dyn ObjectSource>,
    /// The node's addresses, primary first.
    pub node_ips: Vec<IpAddr>,
    /// The node's allocatable amounts: what a container without limit sees through `resourceFieldRef`.
    pub allocatable: NodeAllocatable,
    /// What the runtime can do, from its Status.
    pub features: RuntimeFeatures,
}

/// The node's allocatable amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeAllocatable {
    /// Thousandths of a core.
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// The machine's memory: what oom_score_adj is a part of.
    pub memory_capacity: i64,
}

/// What the runtime can do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeFeatures {
    /// Handlers (by name) that can mount recursively read-only.
    pub recursive_read_only: Vec<String>,
    /// Handlers (by name) that can do user namespaces.
    pub user_namespaces: Vec<String>,
    /// `supplementalGroupsPolicy` is understood.
    pub supplemental_groups_policy: bool,
}

/// The role of a container in its pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ContainerRole {
    /// One of `containers`.
    #[default]
    App,
    /// One of `initContainers`, restartable ones included.
    Init,
    /// One of `ephemeralContainers`; the id of the container whose processes it shares, if any.
    Ephemeral {
        /// The running id of `targetContainerName`.
        target_id: Option<String>,
    },
}

/// What the runtime said about the image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageFacts {
    /// What to create the container from: the reference that the pull or `ImageStatus` returned.
    pub image_ref: String,
    /// `Image.uid`: the user as a number, if it is one.
    pub uid: Option<i64>,
    /// `Image.username`: the user as a name, if it is one.
    pub username: String,
}

/// One container instance to be.
#[derive(Debug, Clone)]
pub struct ContainerRequest<'a> {
    /// Its spec.
    pub container: &'a Container,
    /// Its role.
    pub role: ContainerRole,
    /// Its image.
    pub image: ImageFacts,
    /// How often it ran before: the CRI attempt, the log's name, the restart count.
    pub restart_count: u32,
    /// The pod's volumes.
    pub volumes: &'a PodVolumes,
    /// The pod's addresses from its sandbox.
    pub pod_ips: &'a [IpAddr],
}

/// A container's config, and what the user should be told about it.
#[derive(Debug, Clone, Default)]
pub struct ContainerSetup {
    /// For `CreateContainer`.
    pub config: v1::ContainerConfig,
    /// Events of type Warning: reason and message.
    pub warnings: Vec<(&'static str, String)>,
}

/// Writes CRI configs for the pods of this node.
#[derive(Clone)]
pub struct Translator {
    deps: TranslateDeps,
}

impl Translator {
    /// A translator; cheap to clone.
    pub fn new(deps: TranslateDeps) -> Self {
        Self { deps }
    }

    /// The config of a pod's sandbox: its `attempt`-th, in `cgroup_parent` as `CgroupManager::ensure_pod` returned it.
    pub fn sandbox_config(
        &self,
        pod: &Pod,
        attempt: u32,
        cgroup_parent: &str,
    ) -> Result<v1::PodSandboxConfig, ConfigError> {
        let (namespace, name, uid) = labels::identity(pod);
        Ok(v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.to_owned(),
                uid: uid.to_owned(),
                namespace: namespace.to_owned(),
                attempt,
            }),
            log_directory: self.deps.config.paths.pod_log_dir(namespace, name, uid).display().to_string(),
            labels: labels::sandbox_labels(pod),
            annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
            linux: Some(v1::LinuxPodSandboxConfig {
                cgroup_parent: cgroup_parent.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    /// The config of one container instance: environment, arguments, mounts, security, resources.
    ///
    /// Makes what the container mounts from this machine: its termination log and the managed `/etc/hosts`.
    pub async fn container_config(
        &self,
        pod: &Pod,
        request: ContainerRequest<'_>,
    ) -> Result<ContainerSetup, ConfigError> {
        let _ = (pod, request, BTreeMap::<String, String>::new());
        Err(ConfigError::NotYet("container config"))
    }
}
