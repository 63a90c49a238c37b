//! Deletion.

use serde_json::{Value, json};

use crate::harness::{MAPS, PODS, Server, names};

async fn pod(server: &Server, name: &str, node: &str) -> Value {
    let body = json!({
        "metadata": { "name": name },
        "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "i" }] },
    });
    server.post(PODS, &body.to_string()).await.ok()
}

#[tokio::test]
async fn a_plain_object_is_gone_at_once() {
    let server = Server::start().await;
    let made = server.config_map("a", "{}").await;
    let gone = server.delete(&format!("{MAPS}/a"), "").await.ok();
    assert_eq!((gone["kind"].as_str(), gone["status"].as_str()), (Some("Status"), Some("Success")));
    assert_eq!(gone["details"]["uid"], made["metadata"]["uid"]);
    assert_eq!(server.delete(&format!("{MAPS}/a"), "").await.code, 404);
}

#[tokio::test]
async fn a_finalizer_holds_it_until_it_is_taken_off() {
    let server = Server::start().await;
    server.post(MAPS, r#"{"metadata":{"name":"a","finalizers":["x.io/y"]}}"#).await.ok();
    let path = format!("{MAPS}/a");
    let pending = server.delete(&path, "").await.ok();
    assert!(pending["metadata"]["deletionTimestamp"].is_string());
    let added = r#"{"metadata":{"finalizers":["x.io/y","x.io/z"]}}"#;
    assert_eq!(server.patch(&path, "merge-patch+json", added).await.code, 422);
    server.patch(&path, "merge-patch+json", r#"{"metadata":{"finalizers":null}}"#).await.ok();
    assert_eq!(server.get(&path).await.code, 404);
}

#[tokio::test]
async fn propagation_is_a_finalizer() {
    let server = Server::start().await;
    let check = async |policy: &str, want: Value| {
        server.config_map("a", "{}").await;
        let options =
            format!(r#"{{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"{policy}"}}"#);
        let answer = server.delete(&format!("{MAPS}/a"), &options).await.ok();
        assert_eq!(answer["metadata"]["finalizers"], want, "{policy}");
        if !want.is_null() {
            let clear = r#"{"metadata":{"finalizers":null}}"#;
            server.patch(&format!("{MAPS}/a"), "merge-patch+json", clear).await.ok();
        }
    };
    check("Background", Value::Null).await;
    check("Foreground", json!(["foregroundDeletion"])).await;
    check("Orphan", json!(["orphan"])).await;
}

#[tokio::test]
async fn a_pod_on_a_node_is_given_its_time_and_then_less() {
    let server = Server::start().await;
    pod(&server, "p", "n1").await;
    let path = format!("{PODS}/p");
    let first = server.delete(&path, "").await.ok();
    assert_eq!(first["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(first["metadata"]["generation"], 2);
    let longer = server.delete(&path, r#"{"gracePeriodSeconds":60}"#).await.ok();
    assert_eq!(longer["metadata"]["deletionTimestamp"], first["metadata"]["deletionTimestamp"]);
    let shorter = server.delete(&path, r#"{"gracePeriodSeconds":5}"#).await.ok();
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    assert!(
        shorter["metadata"]["deletionTimestamp"].as_str() < first["metadata"]["deletionTimestamp"].as_str()
    );
    let forced = server.delete(&format!("{path}?gracePeriodSeconds=0"), "").await;
    assert_eq!(forced.ok()["kind"], "Pod");
    assert_eq!(server.get(&path).await.code, 404);
}

#[tokio::test]
async fn a_pod_that_runs_nowhere_is_gone_at_once() {
    let server = Server::start().await;
    pod(&server, "p", "").await;
    server.delete(&format!("{PODS}/p"), "").await.ok();
    assert_eq!(server.get(&format!("{PODS}/p")).await.code, 404);
}

#[tokio::test]
async fn preconditions_must_hold() {
    let server = Server::start().await;
    let made = server.config_map("a", "{}").await;
    let path = format!("{MAPS}/a");
    let wrong = server.delete(&path, r#"{"preconditions":{"uid":"other"}}"#).await;
    assert!(wrong.failure().starts_with("409 Conflict"), "{}", wrong.failure());
    assert_eq!(server.delete(&path, r#"{"preconditions":{"resourceVersion":"1"}}"#).await.code, 409);
    let right = json!({ "preconditions": { "uid": made["metadata"]["uid"] } });
    server.delete(&path, &right.to_string()).await.ok();
}

#[tokio::test]
async fn a_collection_goes_as_far_as_it_is_selected() {
    let server = Server::start().await;
    for n in 0..40 {
        server.config_map(&format!("m{n}"), r#"{"x":"1"}"#).await;
    }
    server.config_map("stays", "{}").await;
    let gone = server.delete(&format!("{MAPS}?labelSelector=x"), "").await.ok();
    assert_eq!(names(&gone).len(), 40);
    assert_eq!(names(&server.get(MAPS).await.ok()), ["stays"]);
}

#[tokio::test]
async fn a_namespace_is_emptied_first_and_takes_nothing_new() {
    let server = Server::start().await;
    server.post("/api/v1/namespaces", r#"{"metadata":{"name":"n"}}"#).await.ok();
    let pending = server.delete("/api/v1/namespaces/n", "").await.ok();
    assert_eq!(pending["status"]["phase"], "Terminating");
    let refused = server.post("/api/v1/namespaces/n/configmaps", r#"{"metadata":{"name":"a"}}"#).await;
    assert_eq!(
        refused.failure(),
        "403 Forbidden: configmaps \"a\" is forbidden: unable to create new content in namespace n because it is \
         being terminated"
    );
    let body = json!({ "metadata": { "name": "n" }, "spec": { "finalizers": [] } });
    server.put("/api/v1/namespaces/n/finalize", &body.to_string()).await.ok();
    assert_eq!(server.get("/api/v1/namespaces/n").await.code, 404);
    let immortal = server.delete("/api/v1/namespaces/kube-system", "").await;
    assert!(immortal.failure().contains("this namespace may not be deleted"));
}
