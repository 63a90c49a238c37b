//! The reporter against an API server and a runtime in memory.

use std::time::Duration;

use coracle_client::testing::FakeApi;
use coracle_cri::fake::{FakeConfig, FakeRuntime};
use serde_json::json;

use super::*;
use crate::config::testing::config;

const NODE: &str = "/api/v1/nodes/node-1";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1";

struct World {
    api: FakeApi,
    token: CancellationToken,
    reporter: Arc<NodeReporter>,
    tasks: TaskTracker,
    _dir: tempfile::TempDir,
}

async fn world(api: FakeApi) -> World {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.resources.fail_swap_on = false;
    config.resources.eviction_hard.clear();
    let runtime = Arc::new(FakeRuntime::new(FakeConfig::default()));
    let deps = NodeDeps { config: Arc::new(config), client: Some(api.client()), runtime };
    let reporter = NodeReporter::new(deps).await.unwrap();
    let (token, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (running, until) = (reporter.clone(), token.clone());
    tasks.spawn(async move { running.run(until).await });
    World { api, token, reporter, tasks, _dir: dir }
}

impl World {
    async fn wait(&self, what: &str, mut test: impl FnMut(&FakeApi) -> bool) {
        let wait = async {
            while !test(&self.api) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(900), wait).await.unwrap_or_else(|_| panic!("{what}"));
    }

    async fn end(self) {
        self.token.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn patches(api: &FakeApi) -> usize {
    api.requests().get(&format!("PATCH {NODE}/status")).copied().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn a_new_node_is_registered_and_becomes_ready() {
    let world = world(FakeApi::new()).await;
    world
        .wait("ready", |api| {
            api.get(NODE).is_some_and(|it| it["status"]["conditions"][3]["status"] == "True")
        })
        .await;
    let node = world.api.get(NODE).unwrap();
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "node-1");
    assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], KUBELET_VERSION);
    assert!(node["status"]["nodeInfo"]["containerRuntimeVersion"].as_str().unwrap().contains("://"));
    assert!(*world.reporter.ready().borrow());
    world.wait("lease", |api| api.get(LEASE).is_some()).await;
    let lease = world.api.get(LEASE).unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "node-1");
    assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], node["metadata"]["uid"]);
    let first = lease["spec"]["renewTime"].clone();
    world.wait("renewal", |api| api.get(LEASE).unwrap()["spec"]["renewTime"] != first).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_status_is_sent_every_five_minutes_only() {
    let world = world(FakeApi::new()).await;
    world
        .wait("ready", |api| {
            api.get(NODE).is_some_and(|it| it["status"]["conditions"][3]["status"] == "True")
        })
        .await;
    let before = patches(&world.api);
    tokio::time::sleep(Duration::from_secs(240)).await;
    assert_eq!(patches(&world.api), before);
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!(patches(&world.api), before + 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_existing_node_keeps_what_others_wrote() {
    let api = FakeApi::new();
    api.create(
        "/api/v1/nodes",
        json!({"metadata": {"name": "node-1", "labels": {"mine": "x"}}, "spec": {"unschedulable": true}}),
    );
    let world = world(api).await;
    world
        .wait("labels", |api| !api.get(NODE).unwrap()["metadata"]["labels"]["kubernetes.io/os"].is_null())
        .await;
    let node = world.api.get(NODE).unwrap();
    assert_eq!(
        (&node["metadata"]["labels"]["mine"], &node["spec"]["unschedulable"]),
        (&json!("x"), &json!(true))
    );
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn registration_is_tried_until_it_works() {
    let api = FakeApi::new();
    api.fail(&http::Method::POST, "/api/v1/nodes", 3, 500);
    let world = world(api).await;
    world.wait("registered", |api| api.get(NODE).is_some()).await;
    world.end().await;
}
