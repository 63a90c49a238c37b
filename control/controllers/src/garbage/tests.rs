//! The garbage collector and the namespace controller against the server in memory.

use crate::testing::Cluster;
use coracle_client::testing::FakeApi;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/a/pods";
const MAPS: &str = "/api/v1/namespaces/a/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/a/deployments";
const SETS: &str = "/apis/apps/v1/namespaces/a/replicasets";

/// A server with discovery and the namespace `a`.
fn api() -> FakeApi {
    let api = FakeApi::new();
    let verbs = json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
    let one = |name: &str, kind: &str, namespaced: bool| json!({"name": name, "kind": kind, "namespaced": namespaced, "verbs": verbs});
    api.serve("/apis", json!({"groups": [{"name": "apps", "preferredVersion": {"version": "v1"}}]}));
    api.serve(
        "/api/v1",
        json!({"resources": [one("configmaps", "ConfigMap", true), one("nodes", "Node", false),
        one("pods", "Pod", true), one("serviceaccounts", "ServiceAccount", true),
        {"name": "pods/status", "kind": "Pod", "namespaced": true, "verbs": ["get"]}]}),
    );
    api.serve(
        "/apis/apps/v1",
        json!({"resources": [
        one("deployments", "Deployment", true), one("replicasets", "ReplicaSet", true)]}),
    );
    api.create("/api/v1/namespaces", json!({"metadata": {"name": "a"}}));
    api
}

fn deploy(api: &FakeApi) {
    api.create(
        DEPLOYMENTS,
        json!({"metadata": {"name": "web"}, "spec": {"replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}}}),
    );
}

async fn has(api: &FakeApi, path: &str, count: usize) {
    api.until(|api| (api.list(path).len() == count).then_some(())).await;
}

fn owned(name: &str, owner: &Value, blocks: bool) -> Value {
    json!({"metadata": {"name": name, "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap",
        "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "blockOwnerDeletion": blocks}]}})
}

#[tokio::test]
async fn what_a_deployment_made_goes_with_it() {
    let mut cluster = Cluster::start_on(api());
    deploy(&cluster.api);
    has(&cluster.api, PODS, 2).await;
    cluster.api.delete(&format!("{DEPLOYMENTS}/web"), &json!({}));
    has(&cluster.api, SETS, 0).await;
    has(&cluster.api, PODS, 0).await;
    cluster.stop().await;
}

#[tokio::test]
async fn foreground_deletion_waits_for_the_dependants() {
    let mut cluster = Cluster::start_on(api());
    let api = cluster.api.clone();
    let owner = api.create(MAPS, json!({"metadata": {"name": "owner"}}));
    let mut held = owned("held", &owner, true);
    held["metadata"]["finalizers"] = json!(["test/hold"]);
    api.create(MAPS, held);
    api.create(MAPS, owned("free", &owner, false));
    api.delete(&format!("{MAPS}/owner"), &json!({"propagationPolicy": "Foreground"}));
    let held_path = format!("{MAPS}/held");
    api.until(|api| api.get(&held_path).filter(|it| it["metadata"]["deletionTimestamp"].is_string())).await;
    assert!(api.get(&format!("{MAPS}/owner")).is_some(), "it must wait");
    api.merge(&held_path, &json!({"metadata": {"finalizers": null}}));
    api.until(|api| {
        let gone = |name: &str| api.get(&format!("{MAPS}/{name}")).is_none();
        (gone("owner") && gone("held") && gone("free")).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test]
async fn orphans_stay_without_their_owner() {
    let mut cluster = Cluster::start_on(api());
    deploy(&cluster.api);
    has(&cluster.api, PODS, 2).await;
    cluster.api.delete(&format!("{DEPLOYMENTS}/web"), &json!({"propagationPolicy": "Orphan"}));
    has(&cluster.api, DEPLOYMENTS, 0).await;
    let set = cluster.api.list(SETS)[0].clone();
    assert!(set["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty), "{set}");
    assert_eq!(cluster.api.list(PODS).len(), 2);
    cluster.stop().await;
}

#[tokio::test]
async fn an_owner_that_never_was_is_found_out_and_a_second_owner_keeps() {
    let mut cluster = Cluster::start_on(api());
    let api = cluster.api.clone();
    let never = json!({"metadata": {"name": "x", "uid": "never"}});
    let owner = api.create(MAPS, json!({"metadata": {"name": "owner"}}));
    api.create(MAPS, owned("lost", &never, false));
    let mut both = owned("both", &never, false);
    let second = owned("both", &owner, false)["metadata"]["ownerReferences"][0].clone();
    both["metadata"]["ownerReferences"].as_array_mut().unwrap().push(second);
    api.create(MAPS, both);
    let kept = api
        .until(|api| {
            let both = api.get(&format!("{MAPS}/both"))?;
            let one = both["metadata"]["ownerReferences"].as_array()?.len() == 1;
            (one && api.get(&format!("{MAPS}/lost")).is_none()).then_some(both)
        })
        .await;
    assert_eq!(kept["metadata"]["ownerReferences"][0]["name"], "owner");
    cluster.stop().await;
}

#[tokio::test]
async fn a_namespace_ends_when_it_is_empty() {
    let mut cluster = Cluster::start_on(api());
    let api = cluster.api.clone();
    deploy(&api);
    has(&api, PODS, 2).await;
    api.create(MAPS, json!({"metadata": {"name": "held", "finalizers": ["test/hold"]}}));
    api.delete("/api/v1/namespaces/a", &json!({}));
    let told = |api: &FakeApi| {
        let conditions = api.get("/api/v1/namespaces/a")?["status"]["conditions"].clone();
        let of = |kind: &str| conditions.as_array()?.iter().find(|it| it["type"] == kind).cloned();
        Some((of("NamespaceContentRemaining")?, of("NamespaceFinalizersRemaining")?))
    };
    let (remaining, finalizers) = api
        .until(|api| {
            told(api).filter(|(it, _)| {
                it["message"] == "Some resources are remaining: configmaps. has 1 resource instances"
            })
        })
        .await;
    assert_eq!((&remaining["status"], &remaining["reason"]), (&json!("True"), &json!("SomeResourcesRemain")));
    assert_eq!(
        finalizers["message"],
        "Some content in the namespace has finalizers remaining: test/hold in 1 resource instances"
    );
    api.merge(&format!("{MAPS}/held"), &json!({"metadata": {"finalizers": null}}));
    api.until(|api| api.get("/api/v1/namespaces/a").is_none().then_some(())).await;
    for path in [PODS, MAPS, SETS, DEPLOYMENTS] {
        assert!(api.list(path).is_empty(), "{path}");
    }
    cluster.stop().await;
}
