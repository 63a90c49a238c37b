//! Containers.

use std::time::Duration;

use async_trait::async_trait;

use super::Remote;
use super::call::{Call, gone_is_done, rpc, whole_seconds};
use crate::error::CriError;
use crate::proto as v1;
use crate::runtime::Containers;

#[async_trait]
impl Containers for Remote {
    async fn create_container(
        &self,
        sandbox: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, CriError> {
        let name = config.metadata.as_ref().map_or_else(String::new, |it| it.name.clone());
        let message = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        rpc!(self, runtime.create_container, self.ordinary("CreateContainer", &name), message)
            .map(|it| it.container_id)
    }

    async fn start_container(&self, id: &str) -> Result<(), CriError> {
        let message = v1::StartContainerRequest { container_id: id.to_owned() };
        rpc!(self, runtime.start_container, self.ordinary("StartContainer", id), message).map(drop)
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), CriError> {
        let timeout = whole_seconds(grace);
        let deadline = grace.saturating_add(self.config.request_timeout);
        let call = Call { name: "StopContainer", object: id, deadline: Some(deadline) };
        let message = v1::StopContainerRequest { container_id: id.to_owned(), timeout };
        gone_is_done(rpc!(self, runtime.stop_container, call, message))
    }

    async fn remove_container(&self, id: &str) -> Result<(), CriError> {
        let message = v1::RemoveContainerRequest { container_id: id.to_owned() };
        gone_is_done(rpc!(self, runtime.remove_container, self.ordinary("RemoveContainer", id), message))
    }

    async fn list_containers(
        &self,
        filter: Option<v1::ContainerFilter>,
    ) -> Result<Vec<v1::Container>, CriError> {
        let message = v1::ListContainersRequest { filter };
        rpc!(self, runtime.list_containers, self.ordinary("ListContainers", ""), message)
            .map(|it| it.containers)
    }

    async fn container_status(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<v1::ContainerStatusResponse, CriError> {
        let message = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose };
        rpc!(self, runtime.container_status, self.ordinary("ContainerStatus", id), message)
    }

    async fn update_container_resources(
        &self,
        id: &str,
        linux: v1::LinuxContainerResources,
    ) -> Result<(), CriError> {
        let message = v1::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(linux),
            ..v1::UpdateContainerResourcesRequest::default()
        };
        let call = self.ordinary("UpdateContainerResources", id);
        rpc!(self, runtime.update_container_resources, call, message).map(drop)
    }

    async fn reopen_container_log(&self, id: &str) -> Result<(), CriError> {
        let message = v1::ReopenContainerLogRequest { container_id: id.to_owned() };
        rpc!(self, runtime.reopen_container_log, self.ordinary("ReopenContainerLog", id), message).map(drop)
    }

    async fn checkpoint_container(&self, id: &str, location: &str, limit: Duration) -> Result<(), CriError> {
        let message = v1::CheckpointContainerRequest {
            container_id: id.to_owned(),
            location: location.to_owned(),
            timeout: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        };
        let deadline = limit.saturating_add(self.config.request_timeout);
        let call = Call { name: "CheckpointContainer", object: id, deadline: Some(deadline) };
        rpc!(self, runtime.checkpoint_container, call, message).map(drop)
    }
}
