//! All controllers over a server in memory.

use crate::{ControllersConfig, run};
use coracle_client::testing::FakeApi;
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub(crate) struct Cluster {
    pub(crate) api: FakeApi,
    token: CancellationToken,
    running: Option<tokio::task::JoinHandle<()>>,
}

impl Cluster {
    /// Controllers over a server with the namespace `a`.
    pub(crate) fn start() -> Self {
        let api = FakeApi::new();
        api.create("/api/v1/namespaces", json!({"metadata": {"name": "a"}}));
        Self::start_on(api)
    }

    pub(crate) fn start_on(api: FakeApi) -> Self {
        let mut cluster = Self { api, token: CancellationToken::new(), running: None };
        cluster.start_controllers();
        cluster
    }

    pub(crate) fn start_controllers(&mut self) {
        let (api, token) = (self.api.clone(), CancellationToken::new());
        self.token = token.clone();
        let config = ControllersConfig {
            root_ca_pem: "PEM".into(),
            cluster_cidrs: vec!["10.244.0.0/16".into()],
            ..ControllersConfig::default()
        };
        self.running = Some(tokio::task::spawn(run(config, move |_| api.client(), token)));
    }

    pub(crate) async fn stop(&mut self) {
        self.token.cancel();
        self.running.take().unwrap().await.unwrap();
    }
}
