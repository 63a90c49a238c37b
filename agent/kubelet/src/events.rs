//! Events: what happened to a pod, told to users in upstream's words.

use k8s_openapi::api::core::v1::Pod;

/// Good news or bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Normal,
    /// A user may want to look.
    Warning,
}

/// Where events go. Telling never waits and never fails.
pub trait Events: Send + Sync {
    /// Something happened to a pod, or to one container of it.
    fn pod(&self, pod: &Pod, container: Option<&str>, severity: Severity, reason: &str, message: String);
}

/// Nobody listens: a kubelet without an API server.
pub struct Silent;

impl Events for Silent {
    fn pod(&self, _: &Pod, _: Option<&str>, _: Severity, _: &str, _: String) {}
}
