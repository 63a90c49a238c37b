//! Addresses and ports of Services, and what is there from the start.

use serde_json::{Value, json};

use crate::harness::{Server, names};

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: Value) -> String {
    let mut spec = spec;
    spec["ports"] = spec.get("ports").cloned().unwrap_or_else(|| json!([{ "port": 80 }]));
    json!({ "metadata": { "name": name }, "spec": spec }).to_string()
}

#[tokio::test]
async fn a_service_gets_an_address_of_its_own_and_gives_it_back() {
    let server = Server::start().await;
    let one = server.post(SERVICES, &service("a", json!({ "clusterIP": "10.96.7.7" }))).await.ok();
    assert_eq!(one["spec"]["clusterIPs"], json!(["10.96.7.7"]));
    assert_eq!(one["spec"]["ipFamilies"], json!(["IPv4"]));
    let two = server.post(SERVICES, &service("b", json!({ "clusterIP": "10.96.7.7" }))).await;
    assert!(two.failure().contains("provided IP is already allocated"), "{}", two.failure());
    let outside = server.post(SERVICES, &service("b", json!({ "clusterIP": "10.97.0.1" }))).await;
    assert!(outside.failure().contains("The range of valid IPs is 10.96.0.0/16"), "{}", outside.failure());
    let server = server.restart().await;
    let again = server.post(SERVICES, &service("b", json!({ "clusterIP": "10.96.7.7" }))).await;
    assert_eq!(again.code, 422, "taken after a restart too");
    server.delete(&format!("{SERVICES}/a"), "").await.ok();
    server.post(SERVICES, &service("b", json!({ "clusterIP": "10.96.7.7" }))).await.ok();
    let any = server.post(SERVICES, &service("c", json!({}))).await.ok();
    assert!(any["spec"]["clusterIP"].as_str().unwrap().starts_with("10.96."));
}

#[tokio::test]
async fn node_ports_are_given_once() {
    let server = Server::start().await;
    let spec = json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 30080 }] });
    server.post(SERVICES, &service("a", spec.clone())).await.ok();
    let two = server.post(SERVICES, &service("b", spec)).await;
    assert!(
        two.failure()
            .contains("spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated")
    );
    let any = server.post(SERVICES, &service("c", json!({ "type": "NodePort" }))).await.ok();
    let port = any["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!((30000..=32767).contains(&port));
    let path = format!("{SERVICES}/c");
    let patch = r#"{"metadata":{"labels":{"a":"b"}}}"#;
    let same = server.patch(&path, "merge-patch+json", patch).await.ok();
    assert_eq!(same["spec"]["ports"][0]["nodePort"], port);
}

#[tokio::test]
async fn some_services_have_no_address() {
    let server = Server::start().await;
    let headless = server.post(SERVICES, &service("h", json!({ "clusterIP": "None" }))).await.ok();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let spec = json!({ "type": "ExternalName", "externalName": "example.com" });
    let external = server.post(SERVICES, &service("e", spec)).await.ok();
    assert!(external["spec"].get("clusterIP").is_none());
    let dual = server.post(SERVICES, &service("d", json!({ "ipFamilyPolicy": "RequireDualStack" }))).await;
    assert!(dual.failure().contains("not configured for dual-stack"), "{}", dual.failure());
}

#[tokio::test]
async fn the_first_objects_are_there() {
    let server = Server::start().await;
    let list = server.get("/api/v1/namespaces").await.ok();
    assert_eq!(names(&list), ["default", "kube-node-lease", "kube-public", "kube-system"]);
    let kubernetes = server.get(&format!("{SERVICES}/kubernetes")).await.ok();
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.96.0.1");
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    let slice = server.get(slices).await.ok();
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["192.0.2.1"]));
    let roles = server.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin").await.ok();
    assert_eq!(roles["rules"][0]["verbs"], json!(["*"]));
    let classes = server.get("/apis/scheduling.k8s.io/v1/priorityclasses").await.ok();
    assert_eq!(names(&classes), ["system-cluster-critical", "system-node-critical"]);
}

#[tokio::test]
async fn everything_served_is_discovered() {
    let server = Server::start().await;
    let core = server.get("/api/v1").await.ok();
    let list: Vec<&str> =
        core["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert!(list.contains(&"pods/exec") && list.contains(&"namespaces/finalize"));
    let groups = server.get("/apis").await.ok();
    assert_eq!(groups["groups"].as_array().unwrap().len(), 20);
    let mut get = crate::harness::request("GET", "/apis", "", "");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    get.headers_mut().insert("accept", accept.parse().unwrap());
    let all = server.send(get).await.ok();
    assert_eq!(all["kind"], "APIGroupDiscoveryList");
    let autoscaling =
        all["items"].as_array().unwrap().iter().find(|g| g["metadata"]["name"] == "autoscaling");
    assert_eq!(autoscaling.unwrap()["versions"].as_array().unwrap().len(), 2);
    assert_eq!(server.get("/version").await.ok()["minor"], "36");
    assert_eq!(server.get("/readyz").await.bytes, "ok");
    let index = server.get("/openapi/v3").await.ok();
    let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let document = server.get(&url).await.ok();
    assert!(document["paths"].get("/api/v1/namespaces/{namespace}/pods").is_some());
}
