//! As much of a pod as its changing volumes are made from: it is kept as long as the pod is here.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Whether a volume's content follows something outside of it.
pub(super) fn is_changing(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

/// The pod cut down to its changing volumes; none when it has no such volume.
pub(super) fn changing(pod: &Pod) -> Option<Pod> {
    let spec = pod.spec.as_ref()?;
    let volumes: Vec<Volume> = spec.volumes.iter().flatten().filter(|it| is_changing(it)).cloned().collect();
    if volumes.is_empty() {
        return None;
    }
    let meta = &pod.metadata;
    Some(Pod {
        metadata: ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            labels: meta.labels.clone(),
            annotations: meta.annotations.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            volumes: Some(volumes),
            node_name: spec.node_name.clone(),
            service_account_name: spec.service_account_name.clone(),
            security_context: spec.security_context.clone(),
            resources: spec.resources.clone(),
            init_containers: spec.init_containers.as_ref().map(|it| it.iter().map(container).collect()),
            containers: spec.containers.iter().map(container).collect(),
            ..PodSpec::default()
        }),
        status: None,
    })
}

fn container(container: &Container) -> Container {
    Container {
        name: container.name.clone(),
        resources: container.resources.clone(),
        security_context: container.security_context.clone(),
        ..Container::default()
    }
}
