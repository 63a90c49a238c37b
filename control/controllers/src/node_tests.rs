//! Node controllers against the server in memory.

use crate::testing::Cluster;
use coracle_client::testing::FakeApi;
use serde_json::{Value, json};
use std::time::Duration;

const NODES: &str = "/api/v1/nodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const PODS: &str = "/api/v1/namespaces/a/pods";

fn node(api: &FakeApi, name: &str, ready: &str) {
    api.create(
        NODES,
        json!({"metadata": {"name": name}, "status": {"conditions": [
        {"type": "Ready", "status": ready}]}, "spec": {"taints": [
        {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}}),
    );
    api.create(
        LEASES,
        json!({"metadata": {"name": name}, "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}}),
    );
}

fn taints(api: &FakeApi, name: &str) -> Vec<String> {
    let node = api.get(&format!("{NODES}/{name}")).unwrap();
    let text = |taint: &Value| {
        let key = taint["key"].as_str().unwrap().trim_start_matches("node.kubernetes.io/");
        format!("{key}:{}", taint["effect"].as_str().unwrap())
    };
    node["spec"]["taints"].as_array().into_iter().flatten().map(text).collect()
}

#[tokio::test]
async fn a_ready_node_gets_a_network_and_loses_its_taint() {
    let mut cluster = Cluster::start();
    for name in ["n1", "n2"] {
        node(&cluster.api, name, "True");
    }
    cluster
        .api
        .until(|api| (taints(api, "n1").is_empty() && taints(api, "n2").is_empty()).then_some(()))
        .await;
    let cidr = |api: &FakeApi, name: &str| {
        api.get(&format!("{NODES}/{name}"))?["spec"]["podCIDRs"][0].as_str().map(str::to_owned)
    };
    let first = cluster.api.until(|api| cidr(api, "n1")).await;
    let second = cluster.api.until(|api| cidr(api, "n2")).await;
    let mut both = [first, second];
    both.sort();
    assert_eq!(both, ["10.244.0.0/24", "10.244.1.0/24"]);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_tainted_and_its_pods_leave_when_they_have_to() {
    let mut cluster = Cluster::start();
    for name in ["n1", "n2"] {
        node(&cluster.api, name, "True");
    }
    let tolerations = json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists",
        "effect": "NoExecute", "tolerationSeconds": 0}]);
    cluster.api.create(
        PODS,
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "tolerations": tolerations},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}),
    );
    cluster.api.create(
        PODS,
        json!({"metadata": {"name": "stays"}, "spec": {"nodeName": "n1",
        "tolerations": [{"operator": "Exists"}]}}),
    );
    cluster.api.until(|api| taints(api, "n1").is_empty().then_some(())).await;
    // n2 goes on talking.
    for second in 1..9_u32 {
        let renew = json!({"spec": {"renewTime": format!("2026-01-01T00:00:{second:02}.000000Z")}});
        cluster.api.merge(&format!("{LEASES}/n2"), &renew);
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let want = ["unreachable:NoSchedule", "unreachable:NoExecute"];
    cluster.api.until(|api| (taints(api, "n1") == want).then_some(())).await;
    assert!(taints(&cluster.api, "n2").is_empty());
    let leaves = |api: &FakeApi| {
        api.get(&format!("{PODS}/p")).filter(|pod| pod["metadata"]["deletionTimestamp"].is_string())
    };
    cluster.api.until(leaves).await;
    let stays = cluster.api.get(&format!("{PODS}/stays")).unwrap();
    assert!(stays["metadata"]["deletionTimestamp"].is_null());
    let conditions = cluster.api.get(&format!("{NODES}/n1")).unwrap()["status"]["conditions"].clone();
    assert_eq!(conditions[0]["status"], "Unknown");
    assert_eq!(conditions[0]["message"], "Kubelet stopped posting node status.");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_vanished_node_are_removed() {
    let mut cluster = Cluster::start();
    cluster.api.create(
        PODS,
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "gone"},
        "status": {"phase": "Running"}}),
    );
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(cluster.api.list(PODS).len(), 1, "the node may come back");
    cluster.api.until(|api| api.list(PODS).is_empty().then_some(())).await;
    cluster.stop().await;
}
