//! Sandboxes and the runtime as a whole.

use async_trait::async_trait;

use super::Remote;
use super::call::{Call, gone_is_done, rpc};
use crate::error::CriError;
use crate::proto as v1;
use crate::runtime::Sandboxes;

impl Remote {
    /// A call with the ordinary deadline.
    pub(super) fn ordinary<'a>(&self, name: &'static str, object: &'a str) -> Call<'a> {
        Call { name, object, deadline: Some(self.config.request_timeout) }
    }
}

/// `namespace/name` of a sandbox that has no id yet.
fn sandbox_name(config: &v1::PodSandboxConfig) -> String {
    config.metadata.as_ref().map_or_else(String::new, |it| format!("{}/{}", it.namespace, it.name))
}

#[async_trait]
impl Sandboxes for Remote {
    async fn version(&self) -> Result<v1::VersionResponse, CriError> {
        let message = v1::VersionRequest { version: "0.1.0".to_owned() };
        rpc!(self, runtime.version, self.ordinary("Version", ""), message)
    }

    async fn status(&self, verbose: bool) -> Result<v1::StatusResponse, CriError> {
        rpc!(self, runtime.status, self.ordinary("Status", ""), v1::StatusRequest { verbose })
    }

    async fn runtime_config(&self) -> Result<Option<v1::RuntimeConfigResponse>, CriError> {
        let call = self.ordinary("RuntimeConfig", "");
        match rpc!(self, runtime.runtime_config, call, v1::RuntimeConfigRequest {}) {
            Ok(answer) => Ok(Some(answer)),
            Err(err) if err.is_unimplemented() => Ok(None),
            Err(err) => Err(err),
        }
    }

    async fn run_pod_sandbox(&self, config: v1::PodSandboxConfig, handler: &str) -> Result<String, CriError> {
        let name = sandbox_name(&config);
        // A network plugin and a cold image take longer than an ordinary call.
        let call =
            Call { name: "RunPodSandbox", object: &name, deadline: Some(self.config.request_timeout * 2) };
        let message = v1::RunPodSandboxRequest { config: Some(config), runtime_handler: handler.to_owned() };
        rpc!(self, runtime.run_pod_sandbox, call, message).map(|it| it.pod_sandbox_id)
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<(), CriError> {
        let message = v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_done(rpc!(self, runtime.stop_pod_sandbox, self.ordinary("StopPodSandbox", id), message))
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<(), CriError> {
        let message = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_done(rpc!(self, runtime.remove_pod_sandbox, self.ordinary("RemovePodSandbox", id), message))
    }

    async fn pod_sandbox_status(&self, id: &str) -> Result<v1::PodSandboxStatusResponse, CriError> {
        // Verbose: the answer then names the process of the sandbox, whose end the kubelet waits for.
        let message = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
        rpc!(self, runtime.pod_sandbox_status, self.ordinary("PodSandboxStatus", id), message)
    }

    async fn list_pod_sandboxes(
        &self,
        filter: Option<v1::PodSandboxFilter>,
    ) -> Result<Vec<v1::PodSandbox>, CriError> {
        let message = v1::ListPodSandboxRequest { filter };
        rpc!(self, runtime.list_pod_sandbox, self.ordinary("ListPodSandbox", ""), message).map(|it| it.items)
    }
}
