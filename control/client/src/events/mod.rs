//! core/v1 Events: sent by a task of their own, counted and thinned out as upstream does.

mod correlate; // count, aggregate, rate limit: pure

use crate::{Calls, Resource, report, views::Meta};
use correlate::{Correlator, Verdict};
use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Whether an event is news or trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// Things go as wanted.
    Normal,
    /// Something needs attention.
    Warning,
}

impl EventType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// The object an event is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty for cluster-scoped objects, whose events go to `default`.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Identity.
    pub uid: String,
    /// Version of the object when it happened.
    pub resource_version: String,
    /// A part of the object, such as `spec.containers{web}`.
    pub field_path: String,
}

impl ObjectRef {
    /// The object with this metadata.
    #[must_use]
    pub fn of(api_version: &str, kind: &str, meta: &Meta) -> Self {
        Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            field_path: String::new(),
        }
    }

    fn to_json(&self) -> Value {
        let fields = [
            ("apiVersion", &self.api_version),
            ("kind", &self.kind),
            ("namespace", &self.namespace),
            ("name", &self.name),
            ("uid", &self.uid),
            ("resourceVersion", &self.resource_version),
            ("fieldPath", &self.field_path),
        ];
        fields
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (key.to_owned(), Value::from(value.as_str())))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

#[derive(Debug, Clone)]
struct Happening {
    about: ObjectRef,
    kind: EventType,
    reason: String,
    message: String,
    at: Timestamp,
}

/// Where one component reports what happened. Cheap to clone; never waits, never fails.
#[derive(Clone)]
pub struct EventRecorder {
    sender: Arc<mpsc::Sender<Happening>>,
}

/// How many events may wait to be sent; more are dropped.
const BACKLOG: usize = 1000;

impl EventRecorder {
    /// Starts the task that sends the events of `component` (on `host`, empty for cluster components).
    /// Events that wait when `token` is cancelled are dropped.
    pub fn start(
        client: kube::Client,
        component: &'static str,
        host: &str,
        tracker: &TaskTracker,
        token: CancellationToken,
    ) -> Self {
        let (sender, mut receiver) = mpsc::channel(BACKLOG);
        let mut sink = Sink {
            calls: Calls::new(client, component),
            component,
            host: host.to_owned(),
            correlator: Correlator::default(),
        };
        tracker.spawn(async move {
            let send_all = async {
                while let Some(happening) = receiver.recv().await {
                    sink.send(happening).await;
                }
            };
            // An event cut off in the middle is one event less: they are best effort.
            token.run_until_cancelled(send_all).await;
        });
        Self { sender: Arc::new(sender) }
    }

    /// Something as expected happened to `about`.
    pub fn normal(&self, about: &ObjectRef, reason: &str, message: impl Into<String>) {
        self.event(about, EventType::Normal, reason, message);
    }

    /// Something went wrong with `about`.
    pub fn warning(&self, about: &ObjectRef, reason: &str, message: impl Into<String>) {
        self.event(about, EventType::Warning, reason, message);
    }

    /// Something happened to `about`.
    pub fn event(&self, about: &ObjectRef, kind: EventType, reason: &str, message: impl Into<String>) {
        let happening = Happening {
            about: about.clone(),
            kind,
            reason: reason.to_owned(),
            message: message.into(),
            at: Timestamp::now(),
        };
        if self.sender.try_send(happening).is_err() {
            tracing::debug!(name = %about.name, reason, "event dropped: too many wait");
        }
    }
}

struct Sink {
    calls: Calls,
    component: &'static str,
    host: String,
    correlator: Correlator,
}

impl Sink {
    async fn send(&mut self, happening: Happening) {
        let verdict = self.correlator.observe(&happening);
        let namespace =
            if happening.about.namespace.is_empty() { "default" } else { &happening.about.namespace };
        let events = Resource::core("events");
        match verdict {
            Verdict::Drop => {}
            Verdict::Create { name, message } => {
                self.create(&events.collection(namespace), namespace, &name, &message, &happening).await;
            }
            Verdict::Count { name, count, message } => {
                let patch =
                    json!({"count": count, "message": message, "lastTimestamp": seconds(happening.at)});
                let request = Request::Patch(events.object(namespace, &name), patch);
                let result = self.send_retrying(request).await;
                if result == Sent::NotFound {
                    // It outlived its time on the server: begin anew.
                    let name = self.correlator.renew(&happening);
                    self.create(&events.collection(namespace), namespace, &name, &message, &happening).await;
                }
            }
        }
    }

    async fn create(&self, path: &str, namespace: &str, name: &str, message: &str, happening: &Happening) {
        let at = seconds(happening.at);
        let mut source = json!({"component": self.component});
        if !self.host.is_empty() {
            source["host"] = self.host.as_str().into();
        }
        let body = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": happening.about.to_json(),
            "type": happening.kind.as_str(),
            "reason": happening.reason, "message": message,
            "source": source,
            "firstTimestamp": at, "lastTimestamp": at, "count": 1,
            "reportingComponent": self.component, "reportingInstance": self.host,
        });
        self.send_retrying(Request::Create(path.to_owned(), body)).await;
    }

    async fn send_retrying(&self, request: Request) -> Sent {
        let mut backoff = crate::Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        for _ in 0..5 {
            let result: Result<IgnoredAny, _> = match &request {
                Request::Create(path, body) => self.calls.create(path, body).await,
                Request::Patch(path, patch) => self.calls.strategic(path, patch).await,
            };
            match result {
                Ok(_) => return Sent::Done,
                Err(err) if err.is_not_found() => return Sent::NotFound,
                Err(err) if !err.is_retryable() || err.is_already_exists() => {
                    tracing::debug!(error = %report(&err), "event refused");
                    return Sent::Refused;
                }
                Err(err) => {
                    tracing::debug!(error = %report(&err), "event not sent, will retry");
                    tokio::time::sleep(backoff.next_jittered()).await;
                }
            }
        }
        Sent::Refused
    }
}

/// A request on its way, by path and body.
enum Request {
    Create(String, Value),
    Patch(String, Value),
}

#[derive(PartialEq, Eq)]
enum Sent {
    Done,
    NotFound,
    Refused,
}

/// Kubernetes keeps these times in whole seconds.
fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

#[cfg(test)]
mod tests;
