//! Sandboxes and the runtime as a whole.

use async_trait::async_trait;

use super::state::{Sandbox, holds, namespaces, sandbox_state};
use super::{FakeRuntime, reserved};
use crate::error::CriError;
use crate::proto as v1;
use crate::runtime::Sandboxes;

#[async_trait]
impl Sandboxes for FakeRuntime {
    async fn version(&self) -> Result<v1::VersionResponse, CriError> {
        let (name, version) = self.shared.config.version.clone();
        self.call("Version", "", move |_| {
            Ok(v1::VersionResponse {
                version: "0.1.0".to_owned(),
                runtime_name: name.clone(),
                runtime_version: version.clone(),
                runtime_api_version: "v1".to_owned(),
            })
        })
        .await
    }

    async fn status(&self, _verbose: bool) -> Result<v1::StatusResponse, CriError> {
        let ready = |name: &str| v1::RuntimeCondition {
            r#type: name.to_owned(),
            status: true,
            ..v1::RuntimeCondition::default()
        };
        self.call("Status", "", |_| {
            let conditions = vec![ready("RuntimeReady"), ready("NetworkReady")];
            Ok(v1::StatusResponse {
                status: Some(v1::RuntimeStatus { conditions }),
                ..v1::StatusResponse::default()
            })
        })
        .await
    }

    async fn runtime_config(&self) -> Result<Option<v1::RuntimeConfigResponse>, CriError> {
        let known = self.shared.config.runtime_config;
        let linux = v1::LinuxRuntimeConfiguration { cgroup_driver: v1::CgroupDriver::Cgroupfs.into() };
        self.call("RuntimeConfig", "", |_| {
            Ok(known.then_some(v1::RuntimeConfigResponse { linux: Some(linux) }))
        })
        .await
    }

    async fn run_pod_sandbox(&self, config: v1::PodSandboxConfig, handler: &str) -> Result<String, CriError> {
        let name =
            config.metadata.as_ref().map(|it| format!("{}/{}", it.namespace, it.name)).unwrap_or_default();
        self.call("RunPodSandbox", &name, |state| {
            let same = |it: &Sandbox| it.config.metadata == config.metadata;
            if let Some((holder, _)) = state.sandboxes.iter().find(|(_, it)| same(it)) {
                return Err(reserved("sandbox", &name, holder));
            }
            let id = state.new_id();
            let on_host = namespaces(&config).is_some_and(|it| it.network() == v1::NamespaceMode::Node);
            let number = u32::try_from(state.sandboxes.len()).unwrap_or_default() + 2;
            let ip = std::net::Ipv4Addr::from(0x0a58_0000 + number).to_string();
            let sandbox = Sandbox {
                config: config.clone(),
                handler: handler.to_owned(),
                ready: true,
                created_at: state.now(),
                ip: if on_host { String::new() } else { ip },
            };
            state.sandboxes.insert(id.clone(), sandbox);
            state.emit(v1::ContainerEventType::ContainerStartedEvent, &id);
            Ok(id)
        })
        .await
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<(), CriError> {
        self.call("StopPodSandbox", id, |state| {
            let Some(sandbox) = state.sandboxes.get_mut(id) else { return Ok(()) };
            let was_ready = std::mem::take(&mut sandbox.ready);
            for container in containers_of(state, id) {
                state.end(&container, 137, "");
            }
            if was_ready {
                state.emit(v1::ContainerEventType::ContainerStoppedEvent, id);
            }
            Ok(())
        })
        .await
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<(), CriError> {
        self.call("RemovePodSandbox", id, |state| {
            for container in containers_of(state, id) {
                state.end(&container, 137, "");
                state.containers.remove(&container);
            }
            if state.sandboxes.remove(id).is_some() {
                state.emit(v1::ContainerEventType::ContainerDeletedEvent, id);
            }
            Ok(())
        })
        .await
    }

    async fn pod_sandbox_status(&self, id: &str) -> Result<v1::PodSandboxStatusResponse, CriError> {
        self.call("PodSandboxStatus", id, |state| {
            Ok(v1::PodSandboxStatusResponse {
                status: Some(state.sandbox_status(id)?),
                containers_statuses: state.statuses_in(id),
                timestamp: state.now(),
                ..v1::PodSandboxStatusResponse::default()
            })
        })
        .await
    }

    async fn list_pod_sandboxes(
        &self,
        filter: Option<v1::PodSandboxFilter>,
    ) -> Result<Vec<v1::PodSandbox>, CriError> {
        let matches = |id: &String, it: &Sandbox| {
            filter.as_ref().is_none_or(|filter| {
                (filter.id.is_empty() || id.starts_with(&filter.id))
                    && filter.state.as_ref().is_none_or(|state| state.state() == sandbox_state(it.ready))
                    && holds(&it.config.labels, &filter.label_selector)
            })
        };
        self.call("ListPodSandbox", "", |state| {
            let chosen = state.sandboxes.iter().filter(|(id, it)| matches(id, it));
            Ok(chosen
                .map(|(id, it)| v1::PodSandbox {
                    id: id.clone(),
                    metadata: it.config.metadata.clone(),
                    state: sandbox_state(it.ready).into(),
                    created_at: it.created_at,
                    labels: it.config.labels.clone(),
                    annotations: it.config.annotations.clone(),
                    runtime_handler: it.handler.clone(),
                })
                .collect())
        })
        .await
    }
}

fn containers_of(state: &super::state::State, sandbox: &str) -> Vec<String> {
    state.containers.iter().filter(|(_, it)| it.sandbox == sandbox).map(|(id, _)| id.clone()).collect()
}
