//! What follows from a decision: binding and event, or condition and event.

use crate::pod::Pod;
use coracle_client::{CallError, Calls, EventRecorder, ObjectRef, Resource, report};
use serde::de::IgnoredAny;
use serde_json::json;

const PODS: Resource = Resource::core("pods");

/// Writes what was decided.
#[derive(Clone)]
pub(crate) struct Binder {
    pub(crate) calls: Calls,
    pub(crate) events: EventRecorder,
}

impl Binder {
    /// DefaultBinder: POSTs the Binding.
    pub(crate) async fn bind(&self, pod: &Pod, node: &str) -> Result<(), CallError> {
        let meta = &pod.metadata;
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let path = PODS.subresource(&meta.namespace, &meta.name, "binding");
        let _: IgnoredAny = self.calls.create(&path, &binding).await?;
        let message = format!("Successfully assigned {}/{} to {node}", meta.namespace, meta.name);
        self.events.normal(&about(pod), "Scheduled", message);
        Ok(())
    }

    /// Tells the pod why it waits: an event each time, the condition when it changed.
    pub(crate) async fn tell(&self, pod: &Pod, reason: &str, message: &str) {
        self.events.warning(&about(pod), "FailedScheduling", message);
        if pod.told.as_ref().is_some_and(|told| told.0 == reason && told.1 == message) {
            return;
        }
        let meta = &pod.metadata;
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "lastProbeTime": null, "lastTransitionTime": coracle_apimachinery::time::now_rfc3339(),
            "observedGeneration": meta.generation,
        });
        let patch = json!({"metadata": {"uid": meta.uid}, "status": {"conditions": [condition]}});
        let path = PODS.subresource(&meta.namespace, &meta.name, "status");
        match self.calls.strategic::<IgnoredAny>(&path, &patch).await {
            Err(err) if !(err.is_not_found() || err.is_conflict()) => {
                tracing::warn!(pod = %meta.name, namespace = %meta.namespace, error = %report(&err),
                    "pod not told why it waits");
            }
            _ => {}
        }
    }
}

fn about(pod: &Pod) -> ObjectRef {
    ObjectRef::of("v1", "Pod", &pod.metadata)
}
