//! Binding, eviction, scale, tokens, kinds with two versions.

use serde_json::{Value, json};

use crate::harness::{PODS, Server, names};

async fn pod(server: &Server, name: &str) -> Value {
    let body = json!({
        "metadata": { "name": name, "labels": { "a": "b" } },
        "spec": { "containers": [{ "name": "c", "image": "i" }] },
    });
    server.post(PODS, &body.to_string()).await.ok()
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let server = Server::start().await;
    pod(&server, "p").await;
    let binding =
        json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": "n1" } }).to_string();
    let done = server.post(&format!("{PODS}/p/binding"), &binding).await;
    assert_eq!((done.code, done.json()["status"].clone()), (201, json!("Success")));
    let bound = server.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let again = server.post(&format!("{PODS}/p/binding"), &binding).await;
    assert_eq!(
        again.failure(),
        "409 Conflict: Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
    );
}

#[tokio::test]
async fn an_eviction_deletes_unless_a_budget_forbids() {
    let server = Server::start().await;
    pod(&server, "p").await;
    let running = r#"{"status":{"phase":"Running"}}"#;
    server.patch(&format!("{PODS}/p/status"), "merge-patch+json", running).await.ok();
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({ "metadata": { "name": "b" },
        "spec": { "minAvailable": 1, "selector": { "matchLabels": { "a": "b" } } } });
    server.post(budgets, &budget.to_string()).await.ok();
    let eviction = json!({ "metadata": { "name": "p" } }).to_string();
    let refused = server.post(&format!("{PODS}/p/eviction"), &eviction).await;
    assert_eq!(refused.code, 429, "{}", refused.failure());
    server.delete(&format!("{budgets}/b"), "").await.ok();
    assert_eq!(server.post(&format!("{PODS}/p/eviction"), &eviction).await.code, 201);
    assert_eq!(server.get(&format!("{PODS}/p")).await.code, 404);
}

#[tokio::test]
async fn scale_is_the_replicas() {
    let server = Server::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let body = json!({
        "metadata": { "name": "d" },
        "spec": {
            "selector": { "matchLabels": { "a": "b" } },
            "template": {
                "metadata": { "labels": { "a": "b" } },
                "spec": { "containers": [{ "name": "c", "image": "i" }] },
            },
        },
    });
    server.post(path, &body.to_string()).await.ok();
    let path = format!("{path}/d/scale");
    let scale = server.get(&path).await.ok();
    assert_eq!(
        (scale["spec"]["replicas"].as_i64(), scale["status"]["selector"].as_str()),
        (Some(1), Some("a=b"))
    );
    let scaled = server.patch(&path, "merge-patch+json", r#"{"spec":{"replicas":4}}"#).await.ok();
    assert_eq!(scaled["spec"]["replicas"], 4);
    let bad = server.patch(&path, "merge-patch+json", r#"{"spec":{"replicas":-1}}"#).await;
    assert_eq!(bad.code, 422);
    let mut put = scaled.clone();
    put["spec"]["replicas"] = json!(2);
    assert_eq!(server.put(&path, &put.to_string()).await.ok()["spec"]["replicas"], 2);
    assert_eq!(server.put(&path, &put.to_string()).await.code, 409);
}

#[tokio::test]
async fn a_token_is_for_its_account_and_pod() {
    let server = Server::start().await;
    let made = pod(&server, "p").await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let body = json!({ "spec": { "audiences": [], "expirationSeconds": 3600, "boundObjectRef": {
        "kind": "Pod", "apiVersion": "v1", "name": "p", "uid": made["metadata"]["uid"] } } });
    let request = server.post(path, &body.to_string()).await.ok();
    let token = request["status"]["token"].as_str().unwrap();
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let review = json!({ "spec": { "token": token } }).to_string();
    let answer = server.post(reviews, &review).await.ok();
    assert_eq!(answer["status"]["user"]["username"], "system:serviceaccount:default:default");
    server.delete(&format!("{PODS}/p"), "").await.ok();
    server.get(PODS).await.ok();
    let answer = server.post(reviews, &review).await.ok();
    assert!(answer["status"]["authenticated"] != json!(true), "the pod is gone: {answer}");
    let short = json!({ "spec": { "expirationSeconds": 60 } });
    assert_eq!(server.post(path, &short.to_string()).await.code, 422);
    let long = json!({ "spec": { "expirationSeconds": (1_i64 << 32) + 1 } });
    assert_eq!(server.post(path, &long.to_string()).await.code, 422);
    let secret =
        json!({ "spec": { "boundObjectRef": { "kind": "Secret", "apiVersion": "v1", "name": "s" } } });
    assert_eq!(server.post(path, &secret.to_string()).await.code, 400);
}

#[tokio::test]
async fn events_are_one_thing_in_two_groups() {
    let server = Server::start().await;
    let body = json!({
        "metadata": { "name": "e" },
        "involvedObject": { "kind": "Pod", "name": "p", "namespace": "default" },
        "reason": "Started",
        "message": "m",
        "type": "Normal",
    });
    server.post("/api/v1/namespaces/default/events", &body.to_string()).await.ok();
    let other = server.get("/apis/events.k8s.io/v1/namespaces/default/events").await.ok();
    assert_eq!(names(&other), ["e"]);
    assert_eq!(other["items"][0]["regarding"]["name"], "p");
    assert_eq!(other["items"][0]["note"], "m");
}
