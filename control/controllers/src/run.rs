//! Starts every controller, and ends them together.

use crate::node_ipam::{NodeMasks, Range};
use crate::shared::{Context, Shared};
use crate::{
    CertificateAuthority, CidrError, bootstrap, certificates, deployment, endpoints, garbage, namespace,
    node_ipam, node_lifecycle, pod_gc, replicaset, root_ca, service_account, taint_eviction,
};
use coracle_client::Calls;
use jiff::Timestamp;
use std::net::IpAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the controllers must be told.
#[derive(Debug, Clone, Default)]
pub struct ControllersConfig {
    /// The CA that pods verify the API server with, as PEM; none is published when empty.
    pub root_ca_pem: String,
    /// Where nodes get their pod networks from, such as `10.244.0.0/16`; none are given when empty.
    pub cluster_cidrs: Vec<String>,
    /// Addresses of Services: no node gets these, should the two overlap.
    pub service_cidrs: Vec<String>,
    /// How much of the cluster's addresses a node gets.
    pub node_masks: NodeMasks,
    /// Where the API server answers: no node gets a certificate for it.
    pub server_addresses: Vec<IpAddr>,
    /// Signs what is approved; without it certificates are neither approved nor signed.
    pub authority: Option<Arc<dyn CertificateAuthority>>,
}

impl ControllersConfig {
    /// Whether the controllers can work with it; [`run`] goes on without what it can't use.
    ///
    /// # Errors
    /// When a cluster CIDR can't be cut into networks for nodes.
    pub fn check(&self) -> Result<(), CidrError> {
        self.ranges().map(drop)
    }

    fn ranges(&self) -> Result<Vec<Range>, CidrError> {
        self.cluster_cidrs.iter().map(|text| Range::parse(text, self.node_masks)).collect()
    }
}

/// Runs all controllers until `token` is cancelled; work in progress may take two seconds more.
///
/// `make_client` gives the client a controller acts with, by upstream's name of its service account; the shared
/// informers read with that of `kube-controller-manager`.
pub async fn run(
    config: ControllersConfig,
    make_client: impl Fn(&str) -> kube::Client,
    token: CancellationToken,
) {
    let tracker = TaskTracker::new();
    let reader = make_client("kube-controller-manager");
    let context = |name: &'static str| Context {
        calls: Calls::new(make_client(name), name),
        reader: reader.clone(),
        tracker: tracker.clone(),
        token: token.clone(),
    };
    let shared = Shared::start(&reader, &tracker, &token);
    shared.synced().await;
    if !token.is_cancelled() {
        node_lifecycle::start(&context("node-controller"), &shared).await;
        match config.ranges() {
            Ok(ranges) if ranges.is_empty() => {}
            Ok(ranges) => {
                node_ipam::start(&context("node-controller"), &shared, ranges, config.service_cidrs.clone())
            }
            Err(err) => tracing::error!(error = %err, "nodes get no pod networks"),
        }
        taint_eviction::start(&context("node-controller"), &shared);
        pod_gc::start(&context("pod-garbage-collector"), &shared);
        deployment::start(&context("deployment-controller"), &shared);
        replicaset::start(&context("replicaset-controller"), &shared);
        endpoints::start(&context("endpointslice-controller"), &context("endpoint-controller"), &shared)
            .await;
        garbage::start(&context("generic-garbage-collector"));
        namespace::start(&context("namespace-controller"), &shared);
        service_account::start(&context("service-account-controller"), &shared).await;
        if let Some(authority) = config.authority {
            let certificate = context("certificate-controller");
            let requests = certificates::requests(&certificate).await;
            let reserved = certificates::Reserved {
                service_cidrs: config.service_cidrs,
                addresses: config.server_addresses,
            };
            certificates::start_approver(&certificate, &shared, &requests, reserved);
            certificates::start_signer(&certificate, &requests, authority);
            certificates::start_cleaner(&certificate, &requests);
        }
        let tokens = bootstrap::tokens(&context("token-cleaner")).await;
        bootstrap::start_cleaner(&context("token-cleaner"), &tokens);
        bootstrap::start_signer(&context("bootstrap-signer"), &tokens).await;
        if !config.root_ca_pem.is_empty() {
            root_ca::start(&context("root-ca-cert-publisher"), &shared, config.root_ca_pem).await;
        }
    }
    token.cancelled().await;
    tracker.close();
    tracker.wait().await;
}

/// Now, as precise as the API keeps times.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
