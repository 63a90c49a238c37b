//! Informers that several controllers read, and what each of them needs.

use crate::claim::by_controller;
use crate::views::{Deployment, Namespace, Node, Pod, ReplicaSet};
use coracle_client::{Calls, Endpoint, EventRecorder, Informer, Object, Params, Resource};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) const PODS: Resource = Resource::core("pods");
pub(crate) const NODES: Resource = Resource::core("nodes");
pub(crate) const NAMESPACES: Resource = Resource::core("namespaces");
pub(crate) const DEPLOYMENTS: Resource = Resource::new("apps", "v1", "deployments");
pub(crate) const REPLICA_SETS: Resource = Resource::new("apps", "v1", "replicasets");

/// The index of pods and ReplicaSets by the uid of their controller, see [`by_controller`].
pub(crate) const BY_CONTROLLER: &str = "controller";
/// The index of pods by node name.
pub(crate) const BY_NODE: &str = "node";

/// Informers over kinds that more than one controller reads: one copy in memory for all.
pub(crate) struct Shared {
    pub(crate) pods: Informer<Pod>,
    pub(crate) nodes: Informer<Node>,
    pub(crate) namespaces: Informer<Namespace>,
    pub(crate) deployments: Informer<Deployment>,
    pub(crate) replica_sets: Informer<ReplicaSet>,
}

impl Shared {
    pub(crate) fn start(client: &kube::Client, tracker: &TaskTracker, token: &CancellationToken) -> Self {
        let pods = Params::<Pod>::all()
            .index(BY_CONTROLLER, |pod| by_controller(&pod.metadata))
            .index(BY_NODE, |pod| vec![pod.spec.node_name.clone()]);
        let sets = Params::<ReplicaSet>::all().index(BY_CONTROLLER, |set| by_controller(&set.metadata));
        Self {
            pods: watch(client, &PODS, pods, tracker, token),
            nodes: watch(client, &NODES, Params::all(), tracker, token),
            namespaces: watch(client, &NAMESPACES, Params::all(), tracker, token),
            deployments: watch(client, &DEPLOYMENTS, Params::all(), tracker, token),
            replica_sets: watch(client, &REPLICA_SETS, sets, tracker, token),
        }
    }

    pub(crate) async fn synced(&self) {
        self.pods.synced().await;
        self.nodes.synced().await;
        self.namespaces.synced().await;
        self.deployments.synced().await;
        self.replica_sets.synced().await;
    }
}

/// An informer over all namespaces.
pub(crate) fn watch<K: Object>(
    client: &kube::Client,
    resource: &Resource,
    params: Params<K>,
    tracker: &TaskTracker,
    token: &CancellationToken,
) -> Informer<K> {
    Informer::start(Endpoint::new(client.clone(), resource, ""), params, tracker, token.clone())
}

/// What one controller writes with, and its place among the tasks.
pub(crate) struct Context {
    /// Writes as the controller itself.
    pub(crate) calls: Calls,
    /// Lists and watches: what upstream's shared informers may, the controllers' own roles may not.
    pub(crate) reader: kube::Client,
    pub(crate) tracker: TaskTracker,
    pub(crate) token: CancellationToken,
}

impl Context {
    /// A recorder of events under this controller's name.
    pub(crate) fn events(&self, component: &'static str) -> EventRecorder {
        let client = self.calls.client().clone();
        EventRecorder::start(client, component, "", &self.tracker, self.token.clone())
    }
}
