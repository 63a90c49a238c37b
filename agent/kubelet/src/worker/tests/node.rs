//! A kubelet's workers over a fake runtime.

use std::sync::Arc;
use std::time::Duration;

use coracle_cri::RuntimeHandle;
use coracle_cri::fake::{FakeConfig, FakeRuntime};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio_util::sync::CancellationToken;

use super::dsl;
use super::home::Bench;
use crate::metrics::Metrics;
use crate::observe::{self, RelistDeps};
use crate::worker::Roster;

/// A kubelet's workers over a fake runtime, with the safety net.
pub(super) struct Node {
    pub fake: FakeRuntime,
    pub bench: Bench,
    pub roster: Arc<Roster>,
    pub token: CancellationToken,
    /// How often the safety net looks.
    pub relist: Duration,
}

impl Node {
    pub fn start() -> Self {
        Self::over(FakeConfig::default(), Duration::from_millis(300), Duration::from_secs(20))
    }

    /// With this safety net, and this patience where something is waited for.
    pub fn over(config: FakeConfig, relist: Duration, patience: Duration) -> Self {
        let fake = FakeRuntime::new(config);
        let (bench, roster) = Bench::roster(Arc::new(fake.clone()));
        let bench = Bench { patience, ..bench };
        let node = Self { fake, bench, roster, token: CancellationToken::new(), relist };
        node.listen();
        node
    }

    pub fn runtime(&self) -> RuntimeHandle {
        Arc::new(self.fake.clone())
    }

    pub fn listen(&self) {
        self.roster.sources_synced();
        let deps = RelistDeps {
            runtime: self.runtime(),
            roster: self.roster.clone(),
            metrics: Arc::new(Metrics::new()),
            period: self.relist,
        };
        tokio::spawn(observe::run(deps, self.token.clone()));
    }

    /// kill -9 and a start: nothing but the runtime, the API server and the disk is left.
    pub async fn restart(mut self) -> Self {
        self.token.cancel();
        self.roster.stop();
        self.roster.drain().await;
        let found = observe::everything(&self.runtime()).await.unwrap();
        self.roster = self.bench.again(self.runtime(), found);
        self.token = CancellationToken::new();
        self
    }

    pub fn create(&self, spec: &str) -> Arc<Pod> {
        self.put(&dsl::pod(spec))
    }

    pub fn put(&self, pod: &Pod) -> Arc<Pod> {
        let pod = self.bench.create(pod);
        self.roster.put(pod.clone());
        pod
    }

    pub fn delete(&self, grace: i64) {
        let mut pod = self.bench.get("u1").unwrap();
        pod.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::now()));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.roster.put(Arc::new(pod));
    }

    /// The object is gone, and so is everything of it.
    pub async fn gone(&self, what: &str) {
        self.bench.until("u1", &format!("{what}: deleted"), |it| it.is_none()).await;
        let changes = self.roster.container_changes();
        let vanished = async {
            while self.roster.by_uid("u1").is_some() {
                changes.notified().await;
            }
        };
        let in_time = tokio::time::timeout(self.bench.patience, vanished).await;
        assert!(in_time.is_ok(), "{what}: the worker is still there; calls {:?}", self.fake.calls());
        self.fake.heal();
        let left = observe::everything(&self.runtime()).await.unwrap();
        assert!(left.is_empty(), "{what}: left in the runtime {left:?}");
        assert!(self.bench.home.mounted.lock().unwrap().is_empty(), "{what}: still mounted");
    }

    pub fn count(&self, call: &str) -> usize {
        self.fake.calls().iter().filter(|it| it.split(' ').next() == Some(call)).count()
    }

    /// Lets go of the pods, as at the kubelet's end.
    pub async fn end(self) {
        self.token.cancel();
        self.roster.stop();
        self.roster.drain().await;
    }
}
