//! EndpointSlices and Endpoints against the server in memory.

use crate::testing::Cluster;
use coracle_client::testing::FakeApi;
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/a/services";
const PODS: &str = "/api/v1/namespaces/a/pods";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices";
const ENDPOINTS: &str = "/api/v1/namespaces/a/endpoints";

fn pod(api: &FakeApi, name: &str, ip: &str, ready: bool) {
    let status = if ready { "True" } else { "False" };
    api.create(
        PODS,
        json!({"metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": status}]}}),
    );
}

fn service(api: &FakeApi) {
    api.create(
        SERVICES,
        json!({"metadata": {"name": "web", "labels": {"team": "x"}}, "spec": {
        "selector": {"app": "web"}, "clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"],
        "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]}}),
    );
}

/// `address:ready/serving/terminating` of every slice, sorted.
fn shown(api: &FakeApi) -> Vec<String> {
    let flag = |it: &Value| if it.as_bool() == Some(true) { "1" } else { "0" };
    let mut list: Vec<_> = api
        .list(SLICES)
        .iter()
        .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default())
        .map(|it| {
            let c = &it["conditions"];
            let flags = [flag(&c["ready"]), flag(&c["serving"]), flag(&c["terminating"])].concat();
            format!("{}:{flags}", it["addresses"][0].as_str().unwrap())
        })
        .collect();
    list.sort();
    list
}

async fn shows(api: &FakeApi, want: &[&str]) {
    api.until(|api| (shown(api) == want).then_some(())).await;
}

#[tokio::test]
async fn slices_and_endpoints_follow_pods() {
    let mut cluster = Cluster::start();
    let api = cluster.api.clone();
    service(&api);
    api.until(|api| (api.list(SLICES).len() == 1).then_some(())).await;
    pod(&api, "p1", "10.0.0.1", true);
    pod(&api, "p2", "10.0.0.2", false);
    shows(&api, &["10.0.0.1:110", "10.0.0.2:000"]).await;
    let slice =
        api.until(|api| api.list(SLICES).into_iter().next().filter(|_| api.list(SLICES).len() == 1)).await;
    assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "web");
    assert_eq!(
        slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"],
        "endpointslice-controller.k8s.io"
    );
    assert_eq!(slice["metadata"]["labels"]["team"], "x");
    assert_eq!(slice["metadata"]["ownerReferences"][0]["kind"], "Service");
    assert_eq!(slice["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    assert_eq!(slice["endpoints"][0]["nodeName"], "n");
    let legacy = |api: &FakeApi| {
        let subset = api.get(&format!("{ENDPOINTS}/web"))?["subsets"][0].clone();
        (subset["addresses"][0]["ip"] == "10.0.0.1" && subset["notReadyAddresses"][0]["ip"] == "10.0.0.2")
            .then_some(())
    };
    api.until(legacy).await;

    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    api.merge(&format!("{PODS}/p2"), &ready);
    shows(&api, &["10.0.0.1:110", "10.0.0.2:110"]).await;
    api.delete(&format!("{PODS}/p1"), &json!({}));
    shows(&api, &["10.0.0.1:011", "10.0.0.2:110"]).await;
    api.delete(&format!("{PODS}/p1"), &json!({"gracePeriodSeconds": 0}));
    shows(&api, &["10.0.0.2:110"]).await;

    api.delete(&format!("{SERVICES}/web"), &json!({}));
    api.until(|api| api.list(ENDPOINTS).is_empty().then_some(())).await;
    cluster.stop().await;
}

#[tokio::test]
async fn many_pods_at_once_make_no_double_slices() {
    let mut cluster = Cluster::start();
    let api = cluster.api.clone();
    service(&api);
    for index in 0..150 {
        pod(&api, &format!("p{index:03}"), &format!("10.0.1.{index}"), true);
    }
    api.until(|api| (shown(api).len() == 150).then_some(())).await;
    let sizes: Vec<_> = api.list(SLICES).iter().map(|it| it["endpoints"].as_array().unwrap().len()).collect();
    assert!(sizes.iter().all(|size| *size <= 100) && sizes.len() == 2, "{sizes:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn services_without_selector_are_left_to_others() {
    let mut cluster = Cluster::start();
    cluster.api.create(SERVICES, json!({"metadata": {"name": "mine"}, "spec": {"ports": [{"port": 80}]}}));
    cluster.api.create(ENDPOINTS, json!({"metadata": {"name": "alone"}, "subsets": []}));
    service(&cluster.api);
    cluster.api.until(|api| api.get(&format!("{ENDPOINTS}/web"))).await;
    assert_eq!(cluster.api.list(SLICES).len(), 1);
    assert!(cluster.api.get(&format!("{ENDPOINTS}/alone")).is_some());
    cluster.stop().await;
}
