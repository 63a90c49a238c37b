//! The node's Lease: the sign of life that is cheap for everybody.

use coracle_apimachinery::time;
use coracle_client::{CallError, Calls, Resource};
use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

const LEASES: Resource = Resource::new("coordination.k8s.io", "v1", "leases");
const NAMESPACE: &str = "kube-node-lease";

/// Renews the Lease, making it when it is not there.
pub(super) async fn renew(calls: &Calls, node: &str, seconds: i32) -> Result<(), CallError> {
    let patch = json!({"spec": spec(node, seconds)});
    match calls.merge::<IgnoredAny>(&LEASES.object(NAMESPACE, node), &patch).await {
        Err(err) if err.is_not_found() => create(calls, node, seconds).await,
        other => other.map(drop),
    }
}

async fn create(calls: &Calls, node: &str, seconds: i32) -> Result<(), CallError> {
    // Owned by its Node, so that it goes when the Node goes.
    let found: Option<Value> = calls.find(&Resource::core("nodes").object("", node)).await?;
    let owner = found.as_ref().and_then(|it| it["metadata"]["uid"].as_str());
    let owners: Vec<Value> = owner
        .map(|uid| json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}))
        .into_iter()
        .collect();
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": node, "namespace": NAMESPACE, "ownerReferences": owners},
        "spec": spec(node, seconds),
    });
    match calls.create::<IgnoredAny>(&LEASES.collection(NAMESPACE), &lease).await {
        Err(err) if err.is_already_exists() => Ok(()),
        other => other.map(drop),
    }
}

fn spec(node: &str, seconds: i32) -> Value {
    json!({"holderIdentity": node, "leaseDurationSeconds": seconds, "renewTime": time::micro(Timestamp::now())})
}
