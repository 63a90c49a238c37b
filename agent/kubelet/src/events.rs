//! Events: what happened to a pod, told to users in upstream's words.

use coracle_client::{EventRecorder, EventType, ObjectRef};
use k8s_openapi::api::core::v1::Pod;

use crate::pod;

/// Good news or bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Normal,
    /// A user may want to look.
    Warning,
}

impl From<Severity> for EventType {
    fn from(it: Severity) -> Self {
        match it {
            Severity::Normal => Self::Normal,
            Severity::Warning => Self::Warning,
        }
    }
}

/// Where events go. Telling never waits and never fails.
pub trait Events: Send + Sync {
    /// Something happened to a pod, or to one container of it.
    fn pod(&self, pod: &Pod, container: Option<&str>, severity: Severity, reason: &str, message: String);
    /// Something happened to the node.
    fn node(&self, severity: Severity, reason: &str, message: String);
}

/// Nobody listens: a kubelet without an API server.
pub struct Silent;

impl Events for Silent {
    fn pod(&self, _: &Pod, _: Option<&str>, _: Severity, _: &str, _: String) {}

    fn node(&self, _: Severity, _: &str, _: String) {}
}

/// Events to the API server.
pub struct ToApi {
    /// Who writes them.
    pub recorder: EventRecorder,
    /// This node's name.
    pub node: String,
}

impl Events for ToApi {
    fn pod(&self, pod: &Pod, container: Option<&str>, severity: Severity, reason: &str, message: String) {
        let about = ObjectRef {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: pod::namespace(pod).to_owned(),
            name: pod::name(pod).to_owned(),
            uid: pod::annotation(pod, pod::CONFIG_MIRROR).unwrap_or(pod::uid(pod)).to_owned(),
            resource_version: pod.metadata.resource_version.clone().unwrap_or_default(),
            field_path: container.map(|it| pod::field_path(pod, it)).unwrap_or_default(),
        };
        if about.name.is_empty() {
            return; // an orphan of the runtime: no object to tell about
        }
        self.recorder.event(&about, severity.into(), reason, message);
    }

    fn node(&self, severity: Severity, reason: &str, message: String) {
        let about = ObjectRef {
            kind: "Node".into(),
            name: self.node.clone(),
            // As upstream has it: the kubelet speaks of its node before it knows the object.
            uid: self.node.clone(),
            ..ObjectRef::default()
        };
        self.recorder.event(&about, severity.into(), reason, message);
    }
}
