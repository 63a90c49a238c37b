//! Sources over an API server in memory, workers over a fake runtime.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coracle_client::testing::FakeApi;
use coracle_cri::RuntimeHandle;
use coracle_cri::fake::{FakeConfig, FakeRuntime, Run, Script};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{SourceDeps, Sources};
use crate::metrics::Metrics;
use crate::observe::{self, RelistDeps};
use crate::worker::tests::home::Bench;
use crate::worker::{Api, Roster};

const PODS: &str = "/api/v1/namespaces/default/pods";

struct Node {
    api: FakeApi,
    fake: FakeRuntime,
    roster: Arc<Roster>,
    folder: PathBuf,
    token: CancellationToken,
    tracker: TaskTracker,
    _root: tempfile::TempDir,
}

impl Node {
    fn start() -> Self {
        let api = FakeApi::new();
        api.create(
            "/api/v1/nodes",
            json!({
                "metadata": { "name": "node-1" },
                "status": { "allocatable": { "cpu": "2", "memory": "4Gi" } },
            }),
        );
        Self::over(api, FakeRuntime::new(FakeConfig::default()))
    }

    fn over(api: FakeApi, fake: FakeRuntime) -> Self {
        Self::with(api, fake, BTreeMap::new())
    }

    fn with(api: FakeApi, fake: FakeRuntime, found: BTreeMap<String, observe::Observed>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("static");
        std::fs::create_dir(&folder).unwrap();
        let mut config = crate::config::testing::config(root.path());
        config.sources.static_pod_path = Some(folder.clone());
        let runtime: RuntimeHandle = Arc::new(fake.clone());
        let (bench, _) = Bench::roster(runtime.clone());
        let roster = bench.with_api(runtime.clone(), found, Arc::new(Api::new(api.client())));
        let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
        let metrics = Arc::new(Metrics::new());
        let deps = SourceDeps {
            config: Arc::new(config),
            client: Some(api.client()),
            roster: roster.clone(),
            metrics: metrics.clone(),
            shutting_down: tokio::sync::watch::Sender::new(false).subscribe(),
        };
        let sources = Sources::start(deps, &tracker, &token);
        let (of_sources, of_tasks) = (token.clone(), tracker.clone());
        tracker.spawn(async move { sources.run(&of_tasks, of_sources).await });
        let period = Duration::from_millis(300);
        let relist = RelistDeps { runtime, roster: roster.clone(), metrics, period };
        tracker.spawn(observe::run(relist, token.clone()));
        Self { api, fake, roster, folder, token, tracker, _root: root }
    }

    fn create(&self, name: &str, cpu: &str) {
        self.api.create(PODS, json!({
            "metadata": { "name": name },
            "spec": {
                "nodeName": "node-1",
                "containers": [{ "name": "app", "image": "demo:1", "resources": { "requests": { "cpu": cpu } } }],
            },
        }));
    }

    async fn phase(&self, name: &str, phase: &str) -> Value {
        let path = format!("{PODS}/{name}");
        self.api.until(|_| self.api.get(&path).filter(|it| it["status"]["phase"] == phase)).await
    }

    /// Neither the API server nor the runtime has anything.
    async fn empty(&self) {
        self.api.until(|_| self.api.list(PODS).is_empty().then_some(())).await;
        let runtime: RuntimeHandle = Arc::new(self.fake.clone());
        let emptied = async {
            while !self.roster.entries().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), emptied).await.expect("the workers end");
        assert!(observe::everything(&runtime).await.unwrap().is_empty());
    }

    async fn stop(self) {
        self.token.cancel();
        self.roster.stop();
        self.roster.drain().await;
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_the_api() {
    let node = Node::start();
    node.create("web", "100m");
    let pod = node.phase("web", "Running").await;
    assert_eq!(pod["status"]["containerStatuses"][0]["ready"], true);
    assert_eq!(pod["status"]["conditions"].as_array().map(Vec::len), Some(5));
    node.api.cut_watches();
    node.api.delete(&format!("{PODS}/web"), &json!({ "gracePeriodSeconds": 30 }));
    node.empty().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn force_deleted() {
    let node = Node::start();
    node.fake.script("app", Script::of([Run::ignores_term()]));
    node.api.create(
        PODS,
        json!({
            "metadata": { "name": "web" },
            "spec": { "nodeName": "node-1", "terminationGracePeriodSeconds": 1,
                "containers": [{ "name": "app", "image": "demo:1" }] },
        }),
    );
    node.phase("web", "Running").await;
    node.api.delete(&format!("{PODS}/web"), &json!({ "gracePeriodSeconds": 0 }));
    node.empty().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused() {
    let node = Node::start();
    node.create("first", "1500m");
    node.phase("first", "Running").await;
    node.create("second", "1");
    let pod = node.phase("second", "Failed").await;
    assert_eq!(pod["status"]["reason"], "OutOfcpu");
    let message = "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000";
    assert_eq!(pod["status"]["message"], message);
    node.api.delete(&format!("{PODS}/first"), &json!({}));
    node.api.delete(&format!("{PODS}/second"), &json!({}));
    node.empty().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn static_pods_and_their_mirrors() {
    let node = Node::start();
    let file = node.folder.join("web.yaml");
    let text = "metadata: {name: web}\nspec: {containers: [{name: app, image: 'demo:1'}]}";
    std::fs::write(&file, text).unwrap();
    let mirror = node.phase("web-node-1", "Running").await;
    let hash = |it: &Value| it["metadata"]["annotations"]["kubernetes.io/config.mirror"].clone();
    assert_ne!(hash(&mirror), Value::Null);
    // A mirror that somebody deletes comes back; the pod runs on.
    node.api.delete(&format!("{PODS}/web-node-1"), &json!({ "gracePeriodSeconds": 0 }));
    let again = node.phase("web-node-1", "Running").await;
    assert_ne!(again["metadata"]["uid"], mirror["metadata"]["uid"]);
    assert_eq!(hash(&again), hash(&mirror));
    let started =
        |node: &Node| node.fake.calls().iter().filter(|it| it.starts_with("StartContainer")).count();
    assert_eq!(started(&node), 1);
    // An edit is another pod of the same name.
    std::fs::write(&file, text.replace("demo:1", "demo:2")).unwrap();
    let edited = |_: &FakeApi| {
        node.api
            .get(&format!("{PODS}/web-node-1"))
            .filter(|it| hash(it) != hash(&mirror) && it["status"]["phase"] == "Running")
    };
    node.api.until(edited).await;
    assert_eq!(started(&node), 2);
    std::fs::remove_file(&file).unwrap();
    node.empty().await;
    node.stop().await;
}

impl Node {
    fn resize(&self, name: &str, cpu: &str) {
        let path = format!("{PODS}/{name}");
        let mut containers = self.api.get(&path).unwrap()["spec"]["containers"].clone();
        containers[0]["resources"]["requests"]["cpu"] = cpu.into();
        self.api.merge(&path, &json!({ "spec": { "containers": containers } }));
    }

    /// Waits until the pod was given this cpu: its status then.
    async fn given(&self, name: &str, cpu: &str) -> Value {
        let path = format!("{PODS}/{name}");
        let is = |it: &Value| {
            let status = &it["status"]["containerStatuses"][0];
            status["resources"]["requests"]["cpu"] == cpu
                && status["allocatedResources"]["cpu"] == cpu
                && !has(it, "PodResizeInProgress")
        };
        self.api.until(|_| self.api.get(&path).filter(is)).await
    }

    async fn condition(&self, name: &str, kind: &str, reason: &str) -> Value {
        let path = format!("{PODS}/{name}");
        let is = |it: &Value| {
            let mut conditions = it["status"]["conditions"].as_array().into_iter().flatten();
            conditions.any(|it| it["type"] == kind && it["status"] == "True" && it["reason"] == reason)
        };
        self.api.until(|_| self.api.get(&path).filter(is)).await
    }

    fn calls(&self, name: &str) -> usize {
        self.fake.calls().iter().filter(|it| it.split(' ').next() == Some(name)).count()
    }
}

fn has(pod: &Value, condition: &str) -> bool {
    pod["status"]["conditions"].as_array().into_iter().flatten().any(|it| it["type"] == condition)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_pod_gets_other_resources() {
    let node = Node::start();
    node.create("web", "100m");
    node.phase("web", "Running").await;
    node.given("web", "100m").await;
    node.resize("web", "1500m");
    let pod = node.given("web", "1500m").await;
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    assert_eq!((node.calls("UpdateContainerResources"), node.calls("CreateContainer")), (1, 1));
    // More than the node has, ever; then more than it has now.
    node.resize("web", "3");
    let pod = node.condition("web", "PodResizePending", "Infeasible").await;
    assert_eq!(pod["status"]["containerStatuses"][0]["allocatedResources"]["cpu"], "1500m");
    node.resize("web", "100m");
    assert!(!has(&node.given("web", "100m").await, "PodResizePending"));
    node.create("other", "1");
    node.phase("other", "Running").await;
    node.resize("web", "1500m");
    let pod = node.condition("web", "PodResizePending", "Deferred").await;
    assert_eq!(pod["status"]["containerStatuses"][0]["resources"]["requests"]["cpu"], "100m");
    // The other one goes: there is room.
    node.api.delete(&format!("{PODS}/other"), &json!({ "gracePeriodSeconds": 1 }));
    assert!(!has(&node.given("web", "1500m").await, "PodResizePending"));
    assert_eq!(node.calls("CreateContainer"), 2);
    node.api.delete(&format!("{PODS}/web"), &json!({}));
    node.empty().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_wants_it_is_started_anew_for_its_resources() {
    let node = Node::start();
    node.api.create(
        PODS,
        json!({
            "metadata": { "name": "web" },
            "spec": { "nodeName": "node-1", "restartPolicy": "OnFailure", "containers": [{
                "name": "app", "image": "demo:1",
                "resources": { "requests": { "cpu": "100m" } },
                "resizePolicy": [{ "resourceName": "cpu", "restartPolicy": "RestartContainer" }],
            }] },
        }),
    );
    node.phase("web", "Running").await;
    for (count, cpu) in [(1, "200m"), (2, "300m")] {
        node.resize("web", cpu);
        let pod = node.given("web", cpu).await;
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], count);
        assert_eq!(pod["status"]["phase"], "Running");
    }
    assert_eq!(node.calls("UpdateContainerResources"), 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resize_survives_the_kubelet() {
    let node = Node::start();
    node.create("web", "100m");
    node.create("other", "1");
    node.phase("web", "Running").await;
    node.phase("other", "Running").await;
    node.given("web", "100m").await;
    node.resize("web", "1500m");
    node.condition("web", "PodResizePending", "Deferred").await;
    let (api, fake) = (node.api.clone(), node.fake.clone());
    node.stop().await;
    let found = observe::everything(&(Arc::new(fake.clone()) as RuntimeHandle)).await.unwrap();
    let node = Node::with(api, fake, found);
    let pod = node.condition("web", "PodResizePending", "Deferred").await;
    assert_eq!(pod["status"]["containerStatuses"][0]["allocatedResources"]["cpu"], "100m");
    // While it was down there was room: what was wanted is given.
    node.api.delete(&format!("{PODS}/other"), &json!({ "gracePeriodSeconds": 1 }));
    node.given("web", "1500m").await;
    assert_eq!((node.calls("UpdateContainerResources"), node.calls("CreateContainer")), (1, 2));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_exit_starts_all_containers_anew() {
    let node = Node::start();
    let quick = || Run::exits(Duration::from_millis(5), 0);
    node.fake.script("init", Script::of([quick(), quick()]));
    node.fake.script("app", Script::of([Run::exits(Duration::from_millis(300), 42), Run::default()]));
    node.fake.script("done", Script::of([quick(), Run::default()]));
    node.api.create(
        PODS,
        json!({
            "metadata": { "name": "web" },
            "spec": {
                "nodeName": "node-1", "restartPolicy": "Never",
                "initContainers": [
                    { "name": "init", "image": "demo:1" },
                    { "name": "side", "image": "demo:1", "restartPolicy": "Always" },
                ],
                "containers": [
                    { "name": "app", "image": "demo:1", "restartPolicy": "Never", "restartPolicyRules": [
                        { "action": "Restart", "exitCodes": { "operator": "In", "values": [7] } },
                        { "action": "RestartAllContainers", "exitCodes": { "operator": "In", "values": [42] } },
                    ] },
                    { "name": "other", "image": "demo:1" },
                    { "name": "done", "image": "demo:1" },
                ],
            },
        }),
    );
    let all = ["initContainerStatuses", "containerStatuses"];
    let counts = |it: &Value| -> Vec<i64> {
        let lists = all.iter().flat_map(|list| it["status"][list].as_array().into_iter().flatten());
        lists.filter_map(|it| it["restartCount"].as_i64()).collect()
    };
    let path = format!("{PODS}/web");
    let running = |it: &Value| {
        let statuses = it["status"]["containerStatuses"].as_array().into_iter().flatten();
        statuses.filter(|it| it["state"]["running"].is_object()).count() == 3
    };
    let anew = |it: &Value| counts(it) == [1; 5] && running(it) && !has(it, "AllContainersRestarting");
    let pod = node.api.until(|_| node.api.get(&path).filter(anew)).await;
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(node.calls("RunPodSandbox"), 1, "the sandbox stays");
    node.stop().await;
}
