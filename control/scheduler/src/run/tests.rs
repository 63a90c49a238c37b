//! The scheduler against the server in memory.

use super::*;
use coracle_client::testing::FakeApi;
use serde_json::{Value, json};

const NODES: &str = "/api/v1/nodes";
const PODS: &str = "/api/v1/namespaces/a/pods";

struct Cluster {
    api: FakeApi,
    token: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Cluster {
    fn start(api: FakeApi) -> Self {
        let token = CancellationToken::new();
        let running = tokio::task::spawn(run(SchedulerConfig::default(), api.client(), token.clone()));
        Self { api, token, running }
    }

    async fn stop(self) {
        self.token.cancel();
        self.running.await.unwrap();
    }

    fn node(&self, name: &str, cpu: &str) {
        node(&self.api, name, cpu);
    }

    fn pod(&self, name: &str, cpu: &str) {
        pod(&self.api, name, cpu);
    }

    async fn node_of(&self, name: &str) -> String {
        let path = format!("{PODS}/{name}");
        self.api.until(|api| api.get(&path)?["spec"]["nodeName"].as_str().map(str::to_owned)).await
    }

    async fn condition(&self, name: &str) -> Value {
        let path = format!("{PODS}/{name}");
        let condition = |api: &FakeApi| api.get(&path)?["status"]["conditions"].as_array()?.first().cloned();
        self.api.until(|api| condition(api).filter(|it| it["status"] == "False")).await
    }
}

fn node(api: &FakeApi, name: &str, cpu: &str) {
    api.create(
        NODES,
        json!({"metadata": {"name": name},
        "status": {"allocatable": {"cpu": cpu, "memory": "1Gi", "pods": "10"}}}),
    );
}

fn pod(api: &FakeApi, name: &str, cpu: &str) {
    api.create(
        PODS,
        json!({"metadata": {"name": name}, "spec": {"schedulerName": "default-scheduler",
        "containers": [{"resources": {"requests": {"cpu": cpu}}}]}}),
    );
}

#[tokio::test]
async fn pods_are_bound_and_told() {
    let cluster = Cluster::start(FakeApi::new());
    cluster.node("n", "1");
    cluster.pod("p", "500m");
    assert_eq!(cluster.node_of("p").await, "n");
    let message = "Successfully assigned a/p to n";
    let event = |api: &FakeApi| {
        let events = api.list("/api/v1/namespaces/a/events");
        events.into_iter().find(|it| it["message"] == message && it["reason"] == "Scheduled")
    };
    cluster.api.until(event).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_full_node_takes_the_next_pod_when_one_leaves() {
    let cluster = Cluster::start(FakeApi::new());
    cluster.node("n", "1");
    cluster.pod("first", "800m");
    cluster.node_of("first").await;
    cluster.pod("second", "800m");
    let condition = cluster.condition("second").await;
    assert_eq!(condition["reason"], "Unschedulable");
    assert_eq!(
        condition["message"],
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
         1 No preemption victims found for incoming pod."
    );
    cluster.api.delete(&format!("{PODS}/first"), &json!({"gracePeriodSeconds": 0}));
    assert_eq!(cluster.node_of("second").await, "n");
    cluster.stop().await;
}

#[tokio::test]
async fn without_nodes_pods_wait_for_one() {
    let cluster = Cluster::start(FakeApi::new());
    cluster.pod("p", "1m");
    assert_eq!(cluster.condition("p").await["message"], "no nodes available to schedule pods");
    cluster.node("n", "1");
    assert_eq!(cluster.node_of("p").await, "n");
    cluster.stop().await;
}

#[tokio::test]
async fn a_taint_that_goes_lets_pods_in() {
    let cluster = Cluster::start(FakeApi::new());
    cluster.node("n", "1");
    let path = format!("{NODES}/n");
    let taints = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]);
    cluster.api.merge(&path, &json!({"spec": {"taints": taints}}));
    cluster.pod("p", "1m");
    let message = cluster.condition("p").await["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("0/1 nodes are available: 1 node(s) had untolerated taint(s)."), "{message}");
    cluster.api.merge(&path, &json!({"spec": {"taints": []}}));
    assert_eq!(cluster.node_of("p").await, "n");
    cluster.stop().await;
}

#[tokio::test]
async fn a_failed_binding_is_taken_back_and_tried_again() {
    let api = FakeApi::new();
    api.fail(&http::Method::POST, "binding", 1, 500);
    let cluster = Cluster::start(api);
    cluster.node("n", "1");
    cluster.pod("p", "1");
    assert_eq!(cluster.node_of("p").await, "n");
    cluster.stop().await;
}

#[tokio::test]
async fn others_pods_are_left_alone_and_gates_are_kept() {
    let cluster = Cluster::start(FakeApi::new());
    cluster.node("n", "1");
    cluster.api.create(PODS, json!({"metadata": {"name": "other"}, "spec": {"schedulerName": "mine"}}));
    cluster.api.create(
        PODS,
        json!({"metadata": {"name": "gated"},
        "spec": {"schedulerName": "default-scheduler", "schedulingGates": [{"name": "g"}]}}),
    );
    cluster.pod("p", "1m");
    cluster.node_of("p").await;
    let unbound =
        |name: &str| cluster.api.get(&format!("{PODS}/{name}")).unwrap()["spec"]["nodeName"].is_null();
    assert!(unbound("other") && unbound("gated"));
    cluster.api.merge(&format!("{PODS}/gated"), &json!({"spec": {"schedulingGates": null}}));
    assert_eq!(cluster.node_of("gated").await, "n");
    assert!(unbound("other"));
    cluster.stop().await;
}

#[tokio::test]
async fn nothing_is_overbooked_by_pods_that_come_together() {
    let api = FakeApi::new();
    for name in ["x", "y"] {
        node(&api, name, "1");
    }
    for index in 0..30 {
        pod(&api, &format!("p{index:02}"), "100m");
    }
    let cluster = Cluster::start(api);
    let bound = |api: &FakeApi| -> Vec<String> {
        api.list(PODS).iter().filter_map(|pod| Some(pod["spec"]["nodeName"].as_str()?.to_owned())).collect()
    };
    let told = |api: &FakeApi| {
        let unschedulable = |pod: &Value| pod["status"]["conditions"][0]["reason"] == "Unschedulable";
        api.list(PODS).iter().filter(|pod| unschedulable(pod)).count()
    };
    cluster.api.until(|api| (told(api) == 10 && bound(api).len() == 20).then_some(())).await;
    let on_x = bound(&cluster.api).iter().filter(|node| *node == "x").count();
    assert_eq!(on_x, 10, "ten fit on each");
    cluster.stop().await;
}
