//! Commands, events and statistics. Byte streams have no server here: their calls are refused by name.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};

use super::state::{Container, Life, State, holds};
use super::{FakeRuntime, Refusal};
use crate::error::CriError;
use crate::proto as v1;
use crate::runtime::Streams;

fn no_server<T>() -> Result<T, Refusal> {
    Err(Refusal(tonic::Code::Unimplemented, "the fake runtime serves no byte streams".to_owned()))
}

#[async_trait]
impl Streams for FakeRuntime {
    async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        _timeout: Duration,
    ) -> Result<v1::ExecSyncResponse, CriError> {
        self.call("ExecSync", id, |state| {
            let container = state.container(id)?;
            if !matches!(container.life, Life::Running { .. }) {
                return Err(Refusal::unknown(format!("container {id:?} is not running")));
            }
            let name = container.config.metadata.clone().unwrap_or_default().name;
            let exec = state.scripts.get(&name).and_then(|it| it.exec.clone());
            Ok(exec.map(|exec| exec(&command)).unwrap_or_default())
        })
        .await
    }

    async fn exec(&self, request: v1::ExecRequest) -> Result<String, CriError> {
        self.call("Exec", &request.container_id, |_| no_server()).await
    }

    async fn attach(&self, request: v1::AttachRequest) -> Result<String, CriError> {
        self.call("Attach", &request.container_id, |_| no_server()).await
    }

    async fn port_forward(&self, request: v1::PortForwardRequest) -> Result<String, CriError> {
        self.call("PortForward", &request.pod_sandbox_id, |_| no_server()).await
    }

    async fn container_events(
        &self,
    ) -> Result<Option<BoxStream<'static, Result<v1::ContainerEventResponse, CriError>>>, CriError> {
        if !self.shared.config.events {
            return Ok(None);
        }
        let from = self.call("GetContainerEvents", "", |state| Ok(state.next_event)).await?;
        let generation = self.faults().generation;
        let events = futures::stream::unfold((self.clone(), from), move |(fake, at)| async move {
            let event = fake.while_up(generation, fake.event(at)).await?;
            Some((Ok(event), (fake, at + 1)))
        });
        Ok(Some(events.boxed()))
    }

    async fn list_container_stats(
        &self,
        filter: Option<v1::ContainerStatsFilter>,
    ) -> Result<Vec<v1::ContainerStats>, CriError> {
        let matches = |id: &str, it: &Container| {
            filter.as_ref().is_none_or(|filter| {
                (filter.id.is_empty() || filter.id == id)
                    && (filter.pod_sandbox_id.is_empty() || filter.pod_sandbox_id == it.sandbox)
                    && holds(&it.config.labels, &filter.label_selector)
            })
        };
        self.call("ListContainerStats", "", |state| {
            let running = state.containers.iter().filter(|(_, it)| matches!(it.life, Life::Running { .. }));
            Ok(running.filter(|(id, it)| matches(id, it)).map(|(id, it)| stats(state, id, it)).collect())
        })
        .await
    }

    async fn list_pod_sandbox_stats(
        &self,
        _filter: Option<v1::PodSandboxStatsFilter>,
    ) -> Result<Vec<v1::PodSandboxStats>, CriError> {
        self.call("ListPodSandboxStats", "", |_| Ok(Vec::new())).await
    }
}

impl FakeRuntime {
    /// The event of that number, once there is one; a stream that lagged too far goes on with the oldest kept.
    async fn event(&self, number: u64) -> v1::ContainerEventResponse {
        loop {
            let changed = self.shared.changed.notified();
            let next = {
                let mut state = self.state();
                state.settle();
                if let Some((_, event)) = state.events.iter().find(|(it, _)| *it >= number) {
                    return event.clone();
                }
                state.next_exit()
            };
            match next {
                Some(at) => drop(tokio::time::timeout_at(at, changed).await),
                None => changed.await,
            }
        }
    }
}

fn stats(state: &State, id: &str, it: &Container) -> v1::ContainerStats {
    let value = |value| Some(v1::UInt64Value { value });
    let timestamp = state.now();
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: id.to_owned(),
            metadata: it.config.metadata.clone(),
            labels: it.config.labels.clone(),
            annotations: it.config.annotations.clone(),
        }),
        cpu: Some(v1::CpuUsage { timestamp, usage_core_nano_seconds: value(0), ..v1::CpuUsage::default() }),
        memory: Some(v1::MemoryUsage {
            timestamp,
            working_set_bytes: value(1 << 20),
            ..v1::MemoryUsage::default()
        }),
        ..v1::ContainerStats::default()
    }
}
