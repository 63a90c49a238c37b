//! Containers.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::state::{Container, Life, container_status};
use super::{FakeRuntime, Refusal, reserved};
use crate::error::CriError;
use crate::proto as v1;
use crate::proto::ContainerEventType as Event;
use crate::runtime::Containers;

#[async_trait]
impl Containers for FakeRuntime {
    async fn create_container(
        &self,
        sandbox: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, CriError> {
        let metadata = config.metadata.clone().unwrap_or_default();
        self.call("CreateContainer", &metadata.name, |state| {
            if !state.sandboxes.contains_key(sandbox) {
                return Err(Refusal::not_found("sandbox", sandbox));
            }
            let image = config.image.as_ref().map(|it| it.image.clone()).unwrap_or_default();
            if state.image(&image).is_none() {
                return Err(Refusal::not_found("image", &image));
            }
            let same = |it: &Container| it.sandbox == sandbox && it.config.metadata == config.metadata;
            if let Some((holder, _)) = state.containers.iter().find(|(_, it)| same(it)) {
                return Err(reserved(
                    "container",
                    &format!("{}_{}", metadata.name, metadata.attempt),
                    holder,
                ));
            }
            let id = state.new_id();
            let script = state.scripts.get(&metadata.name).cloned().unwrap_or_default();
            let container = Container {
                sandbox: sandbox.to_owned(),
                log_path: log_path(&sandbox_config, &config),
                config: config.clone(),
                run: script.run(metadata.attempt),
                life: Life::Created,
                created_at: state.now(),
                started_at: 0,
                resources: config.linux.as_ref().and_then(|it| it.resources.clone()),
            };
            state.containers.insert(id.clone(), container);
            state.emit(Event::ContainerCreatedEvent, &id);
            Ok(id)
        })
        .await
    }

    async fn start_container(&self, id: &str) -> Result<(), CriError> {
        self.call("StartContainer", id, |state| {
            let now = state.now();
            let container = state.container(id)?;
            if !matches!(container.life, Life::Created) {
                return Err(Refusal::unknown(format!("container {id:?} is not in created state")));
            }
            if let Some(error) = container.run.start_error.clone() {
                container.life = Life::Exited { at: now, exit_code: 128, reason: "StartError".to_owned() };
                return Err(Refusal::unknown(error));
            }
            container.started_at = now;
            let ending = container.run.ending.clone();
            let end = ending.map(|it| (Instant::now() + it.after, it.exit_code, it.reason));
            container.life = Life::Running { end };
            state.emit(Event::ContainerStartedEvent, id);
            Ok(())
        })
        .await
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), CriError> {
        // TERM now; KILL when the grace is over.
        self.call("StopContainer", id, |state| {
            let Ok(container) = state.container(id) else { return Ok(()) };
            if let Life::Running { end } = &mut container.life {
                let (wait, code) = match container.run.term {
                    Some(term) if term <= grace => (term, 143),
                    Some(_) | None => (grace, 137),
                };
                let at = Instant::now() + wait;
                if end.as_ref().is_none_or(|(before, ..)| *before > at) {
                    *end = Some((at, code, String::new()));
                }
            }
            state.settle();
            Ok(())
        })
        .await?;
        self.wait_until(|all| {
            all.iter().all(|it| it.id != id || it.state() != v1::ContainerState::ContainerRunning)
        })
        .await;
        self.shared.changed.notify_waiters();
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<(), CriError> {
        self.call("RemoveContainer", id, |state| {
            state.end(id, 137, "");
            if state.containers.contains_key(id) {
                state.emit(Event::ContainerDeletedEvent, id);
                state.containers.remove(id);
            }
            Ok(())
        })
        .await
    }

    async fn list_containers(
        &self,
        filter: Option<v1::ContainerFilter>,
    ) -> Result<Vec<v1::Container>, CriError> {
        self.call("ListContainers", "", |state| Ok(state.list_containers(filter.as_ref()))).await
    }

    async fn container_status(
        &self,
        id: &str,
        _verbose: bool,
    ) -> Result<v1::ContainerStatusResponse, CriError> {
        self.call("ContainerStatus", id, |state| {
            let container = state.container(id)?;
            Ok(v1::ContainerStatusResponse {
                status: Some(container_status(id, container)),
                ..v1::ContainerStatusResponse::default()
            })
        })
        .await
    }

    async fn update_container_resources(
        &self,
        id: &str,
        linux: v1::LinuxContainerResources,
    ) -> Result<(), CriError> {
        self.call("UpdateContainerResources", id, |state| {
            state.container(id)?.resources = Some(linux.clone());
            Ok(())
        })
        .await
    }

    async fn checkpoint_container(&self, id: &str, location: &str, _: Duration) -> Result<(), CriError> {
        let location = location.to_owned();
        self.call("CheckpointContainer", id, move |state| match state.container(id)?.life {
            Life::Running { .. } => {
                std::fs::write(&location, b"checkpoint").map_err(|err| Refusal::unknown(err.to_string()))
            }
            Life::Created | Life::Exited { .. } => Err(Refusal::unknown("container is not running")),
        })
        .await
    }

    async fn reopen_container_log(&self, id: &str) -> Result<(), CriError> {
        self.call("ReopenContainerLog", id, |state| match state.container(id)?.life {
            Life::Running { .. } => Ok(()),
            Life::Created | Life::Exited { .. } => Err(Refusal::unknown("container is not running")),
        })
        .await
    }
}

fn log_path(sandbox: &v1::PodSandboxConfig, config: &v1::ContainerConfig) -> String {
    if sandbox.log_directory.is_empty() || config.log_path.is_empty() {
        return String::new();
    }
    format!("{}/{}", sandbox.log_directory.trim_end_matches('/'), config.log_path)
}
