//! A Pod in the words of CRI: `PodSandboxConfig` and `ContainerConfig`, with upstream's labels, annotations and paths.

mod container; // a container's config but for its mounts
mod error; // why a container cannot be configured, in upstream's words
mod hash; // how a changed container is noticed
mod hosts; // host name and /etc/hosts
mod labels; // labels and annotations that upstream's kubelet reads, too
mod mounts; // a container's mounts, and the files behind them
mod sandbox; // the sandbox's config
mod security; // security contexts
mod sysctl; // which sysctls a pod may set

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use coracle_cri::proto as v1;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::cgroup::Tree;
use crate::config::KubeletConfig;
use crate::env::{EnvInputs, PodFacts, environment};
use crate::objects::ObjectSource;
use crate::volume::PodVolumes;

pub use error::ConfigError;
pub use hash::container_hash;
pub use labels::keys;
pub use sandbox::SandboxSetup;
pub use sysctl::forbidden_sysctl;

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
    /// Images as volumes.
    pub image_volumes: ImageVolumes,
}

/// Whether images can be mounted. A runtime does not say so: it is known by name and version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ImageVolumes {
    /// Whole, and folders of them.
    #[default]
    Whole,
    /// Not by this runtime.
    None(String),
    /// Only as a whole by this runtime.
    NoSubPath(String),
}

impl ImageVolumes {
    /// What a runtime of this name and version can do; of those that we do not know, that it can.
    pub fn of(name: &str, version: &str) -> Self {
        let mut numbers = version.trim_start_matches('v').split(['.', '-', '~', '+']).map(str::parse::<u32>);
        let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
        let (number, runtime) = ((next(), next()), format!("{name} {version}"));
        let (whole, sub_path) = match name {
            "containerd" => ((2, 1), (2, 2)),
            "cri-o" => ((1, 31), (1, 33)),
            _ => return Self::Whole,
        };
        if number < whole {
            Self::None(runtime)
        } else if number < sub_path {
            Self::NoSubPath(runtime)
        } else {
            Self::Whole
        }
    }
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
    /// References of the images that are mounted as volumes, by the volume's name.
    pub volumes: BTreeMap<String, String>,
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
    cgroup_v1: bool,
}

impl Translator {
    /// A translator; cheap to clone.
    pub fn new(deps: TranslateDeps) -> Self {
        // A machine whose mounts cannot be read gets the words that both versions know.
        let cgroup_v1 = Tree::of_this_machine().map_or(true, |it| it.is_v1());
        Self { deps, cgroup_v1 }
    }

    /// The config of a pod's sandbox: its `attempt`-th, in `cgroup_parent` as `CgroupManager::ensure_pod` returned it.
    pub fn sandbox_config(
        &self,
        pod: &Pod,
        attempt: u32,
        cgroup_parent: &str,
    ) -> Result<SandboxSetup, ConfigError> {
        sandbox::sandbox(&self.deps, pod, attempt, cgroup_parent)
    }

    /// The config of one container instance: environment, arguments, mounts, security, resources.
    ///
    /// Makes what the container mounts from this machine: its termination log and the managed `/etc/hosts`.
    pub async fn container_config(
        &self,
        pod: &Pod,
        request: ContainerRequest<'_>,
    ) -> Result<ContainerSetup, ConfigError> {
        let facts = PodFacts { host_ips: &self.deps.node_ips, pod_ips: request.pod_ips };
        let env = environment(EnvInputs {
            pod,
            container: request.container,
            objects: &*self.deps.objects,
            facts,
            allocatable: &self.deps.allocatable,
            volumes: request.volumes,
        })
        .await?;
        let mut config = container::container(&self.deps, pod, &request, &env, self.cgroup_v1)?;
        let files = mounts::files(&self.deps, pod, &request, &env)?;
        config.mounts = tokio::task::spawn_blocking(move || files.prepare())
            .await
            .map_err(|_| ConfigError::NotYet("work that was cut off"))??;
        Ok(ContainerSetup { config, warnings: env.warnings })
    }

    /// What the container's cgroup is held to, for a change while it runs.
    pub fn container_resources(&self, pod: &Pod, container: &Container) -> v1::LinuxContainerResources {
        container::resources(&self.deps, pod, container, self.cgroup_v1)
    }
}

#[cfg(test)]
mod tests;
