//! Labels and annotations that a kubelet leaves on sandboxes and containers: upstream's keys, so that either kubelet
//! finds its way after the other.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;

/// The keys.
pub mod keys {
    /// Label: the pod's name.
    pub const POD_NAME: &str = "io.kubernetes.pod.name";
    /// Label: its namespace.
    pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    /// Label: its uid.
    pub const POD_UID: &str = "io.kubernetes.pod.uid";
    /// Label: the container's name.
    pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
    /// Annotation: hash of the container's spec.
    pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
    /// Annotation: restart count.
    pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
    /// Annotation: path of the termination message inside the container.
    pub const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    /// Annotation: `File` or `FallbackToLogsOnError`.
    pub const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
    /// Annotation: the pod's deletion grace, when it was being deleted.
    pub const POD_DELETION_GRACE_PERIOD: &str = "io.kubernetes.pod.deletionGracePeriod";
    /// Annotation: the pod's termination grace.
    pub const POD_TERMINATION_GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
    /// Annotation: the preStop hook as JSON.
    pub const PRE_STOP_HANDLER: &str = "io.kubernetes.container.preStopHandler";
    /// Annotation: the ports as JSON.
    pub const CONTAINER_PORTS: &str = "io.kubernetes.container.ports";
}

/// Namespace, name and uid; empty where the object has none.
pub(crate) fn identity(pod: &Pod) -> (&str, &str, &str) {
    let meta = &pod.metadata;
    (
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
        meta.uid.as_deref().unwrap_or_default(),
    )
}

/// The pod's own labels, and who it is.
pub(crate) fn sandbox_labels(pod: &Pod) -> HashMap<String, String> {
    let (namespace, name, uid) = identity(pod);
    let mut labels: HashMap<_, _> = pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
    labels.insert(keys::POD_NAME.into(), name.into());
    labels.insert(keys::POD_NAMESPACE.into(), namespace.into());
    labels.insert(keys::POD_UID.into(), uid.into());
    labels
}
