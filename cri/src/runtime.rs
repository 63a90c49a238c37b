//! What a node asks of a container runtime, in the shape of CRI v1.
//!
//! Four small traits, one per concern; [`Runtime`] and [`RuntimeHandle`] join them. Each call carries its own deadline
//! (the implementation's configuration) and every failure names the call and the object it was about.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::error::CriError;
use crate::proto as v1;

/// Pod sandboxes and the runtime as a whole.
#[async_trait]
pub trait Sandboxes: Send + Sync {
    /// `Version`.
    async fn version(&self) -> Result<v1::VersionResponse, CriError>;
    /// `Status`; `verbose` adds the runtime's own configuration as JSON in `info`.
    async fn status(&self, verbose: bool) -> Result<v1::StatusResponse, CriError>;
    /// `RuntimeConfig`; `Ok(None)` when the runtime does not know the call.
    async fn runtime_config(&self) -> Result<Option<v1::RuntimeConfigResponse>, CriError>;
    /// `RunPodSandbox`: the new sandbox's id.
    async fn run_pod_sandbox(&self, config: v1::PodSandboxConfig, handler: &str) -> Result<String, CriError>;
    /// `StopPodSandbox`; a sandbox that is gone is no error.
    async fn stop_pod_sandbox(&self, id: &str) -> Result<(), CriError>;
    /// `RemovePodSandbox`; a sandbox that is gone is no error.
    async fn remove_pod_sandbox(&self, id: &str) -> Result<(), CriError>;
    /// `PodSandboxStatus`, containers' statuses included where the runtime sends them.
    async fn pod_sandbox_status(&self, id: &str) -> Result<v1::PodSandboxStatusResponse, CriError>;
    /// `ListPodSandbox`.
    async fn list_pod_sandboxes(
        &self,
        filter: Option<v1::PodSandboxFilter>,
    ) -> Result<Vec<v1::PodSandbox>, CriError>;
}

/// Containers.
#[async_trait]
pub trait Containers: Send + Sync {
    /// `CreateContainer`: the new container's id.
    async fn create_container(
        &self,
        sandbox: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, CriError>;
    /// `StartContainer`.
    async fn start_container(&self, id: &str) -> Result<(), CriError>;
    /// `StopContainer`: TERM, then KILL after `grace`. The call's deadline is grace plus the usual one.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), CriError>;
    /// `RemoveContainer`; a container that is gone is no error.
    async fn remove_container(&self, id: &str) -> Result<(), CriError>;
    /// `ListContainers`.
    async fn list_containers(
        &self,
        filter: Option<v1::ContainerFilter>,
    ) -> Result<Vec<v1::Container>, CriError>;
    /// `ContainerStatus`; `verbose` adds the runtime's own view (the process id among it) as JSON in `info`.
    async fn container_status(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<v1::ContainerStatusResponse, CriError>;
    /// `UpdateContainerResources`.
    async fn update_container_resources(
        &self,
        id: &str,
        linux: v1::LinuxContainerResources,
    ) -> Result<(), CriError>;
    /// `ReopenContainerLog`, after a rotation.
    async fn reopen_container_log(&self, id: &str) -> Result<(), CriError>;
    /// `CheckpointContainer`: its state into the archive at `location`. The runtime gives up after `limit`.
    async fn checkpoint_container(&self, id: &str, location: &str, limit: Duration) -> Result<(), CriError>;
}

/// Images.
#[async_trait]
pub trait Images: Send + Sync {
    /// `ListImages`.
    async fn list_images(&self) -> Result<Vec<v1::Image>, CriError>;
    /// `ImageStatus`; `None` when the image is not there.
    async fn image_status(&self, image: &str) -> Result<Option<v1::Image>, CriError>;
    /// `PullImage`: the reference by which the runtime knows it now. No deadline but the caller's.
    async fn pull_image(
        &self,
        image: v1::ImageSpec,
        auth: Option<v1::AuthConfig>,
        sandbox_config: Option<v1::PodSandboxConfig>,
    ) -> Result<String, CriError>;
    /// `RemoveImage`; an image that is gone is no error.
    async fn remove_image(&self, image: &str) -> Result<(), CriError>;
    /// `ImageFsInfo`.
    async fn image_fs_info(&self) -> Result<v1::ImageFsInfoResponse, CriError>;
}

/// Commands and byte streams in and out of containers, events and statistics out of the runtime.
#[async_trait]
pub trait Streams: Send + Sync {
    /// `ExecSync`: stdout, stderr and exit code, cut off at `timeout` (zero: none).
    async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<v1::ExecSyncResponse, CriError>;
    /// `Exec`: the URL at which the runtime serves the stream.
    async fn exec(&self, request: v1::ExecRequest) -> Result<String, CriError>;
    /// `Attach`: the URL at which the runtime serves the stream.
    async fn attach(&self, request: v1::AttachRequest) -> Result<String, CriError>;
    /// `PortForward`: the URL at which the runtime serves the stream.
    async fn port_forward(&self, request: v1::PortForwardRequest) -> Result<String, CriError>;
    /// `GetContainerEvents`; `Ok(None)` when the runtime does not know the call.
    async fn container_events(
        &self,
    ) -> Result<Option<BoxStream<'static, Result<v1::ContainerEventResponse, CriError>>>, CriError>;
    /// `ListContainerStats`.
    async fn list_container_stats(
        &self,
        filter: Option<v1::ContainerStatsFilter>,
    ) -> Result<Vec<v1::ContainerStats>, CriError>;
    /// `ListPodSandboxStats`.
    async fn list_pod_sandbox_stats(
        &self,
        filter: Option<v1::PodSandboxStatsFilter>,
    ) -> Result<Vec<v1::PodSandboxStats>, CriError>;
}

/// A whole container runtime.
pub trait Runtime: Sandboxes + Containers + Images + Streams {}
impl<T: Sandboxes + Containers + Images + Streams> Runtime for T {}

/// A runtime that is shared by all of a node's workers.
pub type RuntimeHandle = Arc<dyn Runtime>;
