//! The whole control plane in one process: real store, API server, roles, controllers and scheduler; only the node
//! is played by the test.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use coracle_client::{Calls, Deletion, Propagation, Resource};
use coracle_control::{ControlConfig, ControlPlane};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const PODS: Resource = Resource::core("pods");
const DEPLOYMENTS: Resource = Resource::new("apps", "v1", "deployments");
const SETS: Resource = Resource::new("apps", "v1", "replicasets");
const SLICES: Resource = Resource::new("discovery.k8s.io", "v1", "endpointslices");
const NODE: &str = "/api/v1/nodes/n1";

struct Cluster {
    admin: Calls,
    token: CancellationToken,
    tasks: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A port that nobody has right now.
        let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = ControlConfig {
            store: folder.path().join("store.db"),
            pki: folder.path().join("pki"),
            admin_kubeconfig: folder.path().join("admin.conf"),
            listen,
            server_url: format!("https://{listen}"),
            advertise: listen.ip(),
            service_cidr: "10.96.0.0/16".into(),
            node_ports: (30000, 32767),
            pod_cidrs: vec!["10.244.0.0/16".into()],
            node_masks: coracle_control::NodeMasks::default(),
            cluster_domain: "cluster.local".into(),
        };
        let token = CancellationToken::new();
        let (plane, tasks) = ControlPlane::start(config, token.clone()).await.unwrap();
        let admin = Calls::new(plane.client("admin", &["system:masters"]), "test");
        let tasks = tokio::task::spawn(async move { tasks.run().await.unwrap() });
        let cluster = Self { admin, token, tasks, _folder: folder };
        cluster.join_node().await;
        cluster
    }

    async fn stop(self) {
        self.token.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.tasks).await.unwrap().unwrap();
    }

    async fn join_node(&self) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1",
            "labels": {"kubernetes.io/hostname": "n1"}}});
        let _: Value = self.admin.create("/api/v1/nodes", &node).await.unwrap();
        let resources = json!({"cpu": "4", "memory": "8Gi", "ephemeral-storage": "10Gi", "pods": "110"});
        let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let status =
            json!({"status": {"capacity": resources, "allocatable": resources, "conditions": [ready]}});
        let _: Value = self.admin.merge(&format!("{NODE}/status"), &status).await.unwrap();
    }

    async fn list(&self, resource: &Resource, namespace: &str) -> Vec<Value> {
        let list: Value = self.admin.get(&resource.collection(namespace)).await.unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Plays the kubelet for every pod of the namespace, then asks whether it is as wanted; for 20 s.
    async fn until<T>(&self, what: &str, namespace: &str, wanted: impl AsyncFn(&Self) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            self.play_kubelet(namespace).await;
            if let Some(found) = wanted(self).await {
                eprintln!("{what}: {:?}", started.elapsed());
                return found;
            }
            if started.elapsed() > Duration::from_secs(20) {
                self.explain(namespace).await;
                panic!("not within 20 s: {what}");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn explain(&self, namespace: &str) {
        for resource in [DEPLOYMENTS, SETS, PODS, SLICES, Resource::core("events")] {
            for mut object in self.list(&resource, namespace).await {
                object["metadata"]["managedFields"] = Value::Null;
                eprintln!("{}: {object}", resource.plural);
            }
        }
    }

    async fn play_kubelet(&self, namespace: &str) {
        for (index, pod) in self.list(&PODS, namespace).await.into_iter().enumerate() {
            let name = pod["metadata"]["name"].as_str().unwrap();
            if !pod["spec"]["nodeName"].is_string() {
                continue;
            }
            if pod["metadata"]["deletionTimestamp"].is_string() {
                let now = Deletion { grace_seconds: Some(0), ..Deletion::default() };
                let _ = self.admin.delete(&PODS.object(namespace, name), &now).await;
            } else if pod["status"]["phase"] != "Running" {
                let ip = format!("10.244.0.{}", index + 2);
                let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                    "conditions": [{"type": "Ready", "status": "True",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
                let path = PODS.subresource(namespace, name, "status");
                let _ = self.admin.strategic::<Value>(&path, &status).await;
            }
        }
    }

    async fn settled(&self, namespace: &str, replicas: usize, image: &str) {
        let what = format!("{replicas} x {image}");
        self.until(&what, namespace, async |it| {
            let path = DEPLOYMENTS.object(namespace, "web");
            let deployment: Value = it.admin.get(&path).await.unwrap();
            let status = &deployment["status"];
            let pods = it.list(&PODS, namespace).await;
            let images = pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == image);
            let done = status["observedGeneration"] == deployment["metadata"]["generation"]
                && (replicas == 0 || status["updatedReplicas"] == replicas)
                && (replicas == 0 || status["availableReplicas"] == replicas);
            (done && images && pods.len() == replicas).then_some(())
        })
        .await;
    }
}

fn deployment(image: &str, replicas: i32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}]}}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_of_a_deployment() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    cluster
        .until("node is usable", "default", async |it| {
            let node: Value = it.admin.get(NODE).await.unwrap();
            let untainted = node["spec"]["taints"].as_array().is_none_or(Vec::is_empty);
            (untainted && node["spec"]["podCIDR"] == "10.244.0.0/24").then_some(())
        })
        .await;
    let path = DEPLOYMENTS.object("default", "web");
    cluster
        .until("default account", "default", async |it| {
            it.admin.find::<Value>("/api/v1/namespaces/default/serviceaccounts/default").await.unwrap()
        })
        .await;
    let _: Value = admin.create(&DEPLOYMENTS.collection("default"), &deployment("v1", 2)).await.unwrap();
    cluster
        .until("pods bound", "none", async |it| {
            let pods = it.list(&PODS, "default").await;
            (pods.len() == 2 && pods.iter().all(|pod| pod["spec"]["nodeName"] == "n1")).then_some(())
        })
        .await;
    cluster.settled("default", 2, "v1").await;

    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {
        "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    let _: Value = admin.create("/api/v1/namespaces/default/services", &service).await.unwrap();
    cluster
        .until("endpoints", "default", async |it| {
            let slices = it.list(&SLICES, "default").await;
            let of_web = |slice: &&Value| slice["metadata"]["labels"]["kubernetes.io/service-name"] == "web";
            let endpoints = slices.iter().find(of_web)?["endpoints"].as_array()?.clone();
            let legacy: Value = it.admin.find("/api/v1/namespaces/default/endpoints/web").await.unwrap()?;
            let ready = |it: &Value| it["conditions"]["ready"] == true;
            let two = legacy["subsets"][0]["addresses"].as_array()?.len() == 2;
            (two && endpoints.len() == 2 && endpoints.iter().all(ready)).then_some(())
        })
        .await;

    let _: Value = admin.merge(&path, &json!({"spec": {"replicas": 5}})).await.unwrap();
    cluster.settled("default", 5, "v1").await;
    let image = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": image}]}}}});
    let _: Value = admin.strategic(&path, &image("v2")).await.unwrap();
    cluster.settled("default", 5, "v2").await;
    let _: Value = admin.strategic(&path, &image("v1")).await.unwrap();
    cluster.settled("default", 5, "v1").await;
    assert_eq!(cluster.list(&SETS, "default").await.len(), 2, "undo makes no third set");
    let done: Value = admin.get(&path).await.unwrap();
    assert_eq!(done["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");

    admin.delete(&path, &Deletion::default()).await.unwrap();
    cluster
        .until("all gone", "default", async |it| {
            (it.list(&PODS, "default").await.is_empty() && it.list(&SETS, "default").await.is_empty())
                .then_some(())
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_namespace_and_foreground_deletion() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}});
    let _: Value = admin.create("/api/v1/namespaces", &namespace).await.unwrap();
    cluster
        .until("account and CA", "a", async |it| {
            let account =
                it.admin.find::<Value>("/api/v1/namespaces/a/serviceaccounts/default").await.unwrap();
            let ca: Option<Value> =
                it.admin.find("/api/v1/namespaces/a/configmaps/kube-root-ca.crt").await.unwrap();
            account
                .and(ca)
                .filter(|map| map["data"]["ca.crt"].as_str().is_some_and(|it| it.contains("BEGIN")))
        })
        .await;
    let _: Value = admin.create(&DEPLOYMENTS.collection("a"), &deployment("v1", 3)).await.unwrap();
    cluster.settled("a", 3, "v1").await;
    let foreground = Deletion { propagation: Some(Propagation::Foreground), ..Deletion::default() };
    admin.delete(&DEPLOYMENTS.object("a", "web"), &foreground).await.unwrap();
    cluster
        .until("gone, dependants first", "a", async |it| {
            let deployment: Option<Value> = it.admin.find(&DEPLOYMENTS.object("a", "web")).await.unwrap();
            let pods = it.list(&PODS, "a").await;
            let empty = pods.is_empty() && it.list(&SETS, "a").await.is_empty();
            assert!(deployment.is_some() || empty, "it must wait for {} pods", pods.len());
            deployment.is_none().then_some(())
        })
        .await;
    let _: Value = admin.create(&DEPLOYMENTS.collection("a"), &deployment("v1", 3)).await.unwrap();
    cluster.settled("a", 3, "v1").await;
    admin.delete("/api/v1/namespaces/a", &Deletion::default()).await.unwrap();
    cluster
        .until("namespace gone", "a", async |it| {
            it.admin.find::<Value>("/api/v1/namespaces/a").await.unwrap().is_none().then_some(())
        })
        .await;
    cluster.stop().await;
}
