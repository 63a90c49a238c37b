//! What a pod is given by its node: cgroup, volumes, configs. The door between the worker and the rooms that make them.

use std::net::IpAddr;

use async_trait::async_trait;
use coracle_cri::proto as v1;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::image::Credential;
use crate::translate::{ContainerRole, ContainerSetup, ImageFacts};

/// Why something could not be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HomeError {
    /// The reason of the Event, or of the waiting state.
    pub reason: &'static str,
    /// The whole sentence.
    pub message: String,
}

/// One container instance to be configured.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Its spec.
    pub container: Container,
    /// Its role.
    pub role: ContainerRole,
    /// Its image.
    pub image: ImageFacts,
    /// How often it ran before.
    pub restart_count: u32,
    /// The pod's addresses.
    pub pod_ips: Vec<IpAddr>,
}

/// What a pod's pull secrets say.
#[derive(Clone, Default)]
pub struct PullSecrets {
    /// Users of registries.
    pub known: Vec<Credential>,
    /// Names of those that could not be had.
    pub missing: Vec<String>,
}

/// The node as a pod sees it. Every method may be called again after any failure.
#[async_trait]
pub trait PodHome: Send + Sync {
    /// Makes cgroup and folders, sets up volumes.
    async fn mount(&self, pod: &Pod) -> Result<(), HomeError>;
    /// Brings the content of volumes up to date with the pod's own metadata.
    async fn refresh(&self, pod: &Pod);
    /// Holds the pod's cgroup to what `pod` may have; while `from` is given, to whatever is more of both.
    async fn resize(&self, pod: &Pod, from: Option<&Pod>) -> Result<(), HomeError>;
    /// What a container's cgroup is held to.
    fn limits(&self, pod: &Pod, container: &Container) -> v1::LinuxContainerResources;
    /// The sandbox's config, and the runtime handler that the pod wants.
    async fn sandbox(&self, pod: &Pod, attempt: u32) -> Result<(v1::PodSandboxConfig, String), HomeError>;
    /// A container's config.
    async fn container(&self, pod: &Pod, wish: Wish) -> Result<ContainerSetup, HomeError>;
    /// What the pod's pull secrets say.
    async fn pull_secrets(&self, pod: &Pod) -> PullSecrets;
    /// Takes down volumes and cgroup.
    async fn clean_up(&self, pod: &Pod) -> Result<(), HomeError>;
    /// Removes the logs of one container instance: the runtime does not have it any more.
    async fn remove_logs(&self, pod: &Pod, container: &str, restart_count: u32);
    /// Removes the pod's logs: nothing of it is left in the runtime.
    async fn forget(&self, pod: &Pod);
}
