//! Static pods as the API server shows them: one mirror each, made again when it is gone or of an older content.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, PostParams, Preconditions};

use crate::pod;

/// The API server answers within this, or is asked again.
const LIMIT: Duration = Duration::from_secs(30);

/// Whether this mirror shows this static pod as it is.
pub(super) fn shows(mirror: &Pod, of: &Pod) -> bool {
    pod::annotation(mirror, pod::CONFIG_MIRROR) == pod::annotation(of, pod::CONFIG_HASH)
        && mirror.metadata.deletion_timestamp.is_none()
}

/// Makes the mirror of a static pod; one that is there already is fine.
pub(super) async fn create(client: &kube::Client, of: &Arc<Pod>, node: Option<&Node>) -> Result<(), String> {
    let mut annotations = of.metadata.annotations.clone().unwrap_or_default();
    if let Some(hash) = annotations.get(pod::CONFIG_HASH).cloned() {
        annotations.insert(pod::CONFIG_MIRROR.into(), hash);
    }
    let owner = node.and_then(|it| {
        Some(OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: it.metadata.name.clone()?,
            uid: it.metadata.uid.clone()?,
            controller: Some(true),
            ..OwnerReference::default()
        })
    });
    let mirror = Pod {
        metadata: ObjectMeta {
            name: of.metadata.name.clone(),
            namespace: of.metadata.namespace.clone(),
            labels: of.metadata.labels.clone(),
            annotations: Some(annotations),
            owner_references: owner.map(|it| vec![it]),
            ..ObjectMeta::default()
        },
        spec: of.spec.clone().map(|spec| PodSpec { ..spec }),
        status: None,
    };
    let api = kube::Api::<Pod>::namespaced(client.clone(), pod::namespace(of));
    match tokio::time::timeout(LIMIT, api.create(&PostParams::default(), &mirror)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) if status.reason == "AlreadyExists" => Ok(()),
        Ok(Err(err)) => Err(coracle_client::report(&err)),
        Err(_) => Err("no answer in time".into()),
    }
}

/// Removes a mirror at once.
pub(super) async fn delete(client: &kube::Client, mirror: &Pod) -> Result<(), String> {
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: mirror.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    let api = kube::Api::<Pod>::namespaced(client.clone(), pod::namespace(mirror));
    match tokio::time::timeout(LIMIT, api.delete(pod::name(mirror), &params)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 || status.code == 409 => Ok(()),
        Ok(Err(err)) => Err(coracle_client::report(&err)),
        Err(_) => Err("no answer in time".into()),
    }
}
