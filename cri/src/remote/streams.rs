//! Commands, streams, events and statistics.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use tonic::{Status, Streaming};

use super::Remote;
use super::call::{Call, rpc, whole_seconds};
use crate::error::CriError;
use crate::proto as v1;
use crate::runtime::Streams;

/// How long to wait for a runtime to refuse the event stream. One that serves it may say nothing at all before the
/// first event, so silence means yes.
const REFUSAL_WAIT: Duration = Duration::from_millis(500);

type Events = BoxStream<'static, Result<v1::ContainerEventResponse, CriError>>;

#[async_trait]
impl Streams for Remote {
    async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<v1::ExecSyncResponse, CriError> {
        let deadline = (!timeout.is_zero()).then(|| timeout.saturating_add(self.config.request_timeout));
        let call = Call { name: "ExecSync", object: id, deadline };
        let message = v1::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command,
            timeout: whole_seconds(timeout),
        };
        match rpc!(self, runtime.exec_sync, call, message) {
            // What passed is the command's own limit, long before the call's.
            Err(CriError::TimedOut { call, object, .. }) => {
                Err(CriError::TimedOut { call, object, after: timeout })
            }
            outcome => outcome,
        }
    }

    async fn exec(&self, request: v1::ExecRequest) -> Result<String, CriError> {
        let id = request.container_id.clone();
        rpc!(self, runtime.exec, self.ordinary("Exec", &id), request).map(|it| it.url)
    }

    async fn attach(&self, request: v1::AttachRequest) -> Result<String, CriError> {
        let id = request.container_id.clone();
        rpc!(self, runtime.attach, self.ordinary("Attach", &id), request).map(|it| it.url)
    }

    async fn port_forward(&self, request: v1::PortForwardRequest) -> Result<String, CriError> {
        let id = request.pod_sandbox_id.clone();
        rpc!(self, runtime.port_forward, self.ordinary("PortForward", &id), request).map(|it| it.url)
    }

    async fn container_events(&self) -> Result<Option<Events>, CriError> {
        let mut client = self.runtime.clone();
        let endpoint = self.endpoint.clone();
        let mut opening = Box::pin(async move {
            let call = Call { name: "GetContainerEvents", object: "", deadline: None };
            let opened = client.get_container_events(call.request(v1::GetEventsRequest {}));
            let stream = call.settle(&endpoint, opened).await?;
            Ok::<_, CriError>(translated(stream, endpoint))
        });
        match tokio::time::timeout(REFUSAL_WAIT, opening.as_mut()).await {
            Ok(Ok(stream)) => Ok(Some(stream)),
            Ok(Err(err)) if err.is_unimplemented() => Ok(None),
            Ok(Err(err)) => Err(err),
            Err(_silence) => Ok(Some(
                futures::stream::once(opening)
                    .flat_map(|opened| match opened {
                        Ok(stream) => stream,
                        Err(err) => futures::stream::iter([Err(err)]).boxed(),
                    })
                    .boxed(),
            )),
        }
    }

    async fn list_container_stats(
        &self,
        filter: Option<v1::ContainerStatsFilter>,
    ) -> Result<Vec<v1::ContainerStats>, CriError> {
        let message = v1::ListContainerStatsRequest { filter };
        rpc!(self, runtime.list_container_stats, self.ordinary("ListContainerStats", ""), message)
            .map(|it| it.stats)
    }

    async fn list_pod_sandbox_stats(
        &self,
        filter: Option<v1::PodSandboxStatsFilter>,
    ) -> Result<Vec<v1::PodSandboxStats>, CriError> {
        let message = v1::ListPodSandboxStatsRequest { filter };
        rpc!(self, runtime.list_pod_sandbox_stats, self.ordinary("ListPodSandboxStats", ""), message)
            .map(|it| it.stats)
    }
}

fn translated(stream: Streaming<v1::ContainerEventResponse>, endpoint: String) -> Events {
    let call = Call { name: "GetContainerEvents", object: "", deadline: None };
    stream
        .map(move |event: Result<_, Status>| event.map_err(|status| call.failed(&endpoint, &status)))
        .boxed()
}
