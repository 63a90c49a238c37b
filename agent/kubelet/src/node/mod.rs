//! The Node object: registration, Lease, status; and the node's own facts.

mod capacity; // what the node has, and what of it pods can have
mod cni; // why a network is not ready
mod conditions; // the node's conditions
mod facts; // what is found out once
mod lease; // the sign of life
mod machine; // the machine's size
mod object; // the Node object, piece by piece
mod pressure; // what is left, and what is too little
mod process; // this process's own standing
mod report; // the loops

use std::sync::Arc;

use coracle_client::{Calls, EventRecorder};
use coracle_cri::RuntimeHandle;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::KubeletConfig;

pub use facts::{KUBELET_VERSION, NodeFacts, SystemInfo};
pub use machine::Machine;
pub(crate) use machine::meminfo_bytes;
pub(crate) use pressure::{FileSystem, file_system};
pub use process::settle;

/// What could not be found out or reported about this node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A fact about the machine.
    #[error("read {what}")]
    Fact {
        /// Which.
        what: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// Something about the machine is not as it must be.
    #[error("{0}")]
    Refused(String),
}

/// What the reporter needs of the rest.
#[derive(Clone)]
pub struct NodeDeps {
    /// The configuration.
    pub config: Arc<KubeletConfig>,
    /// The API server; none: nothing is reported, facts are still there.
    pub client: Option<kube::Client>,
    /// Conditions, version and images come from here.
    pub runtime: RuntimeHandle,
}

/// Keeps the Node object true.
pub struct NodeReporter {
    deps: NodeDeps,
    facts: NodeFacts,
    ready: watch::Sender<bool>,
    shutting_down: Arc<watch::Sender<bool>>,
}

impl NodeReporter {
    /// Reads the machine's facts; refuses a machine that is not as the configuration says.
    pub async fn new(deps: NodeDeps) -> Result<Arc<Self>, NodeError> {
        let config = Arc::clone(&deps.config);
        let facts = tokio::task::spawn_blocking(move || NodeFacts::read(&config))
            .await
            .map_err(|_| NodeError::Refused("reading the machine's facts was cut off".to_owned()))??;
        let (ready, shutting_down) = (watch::Sender::new(false), Arc::new(watch::Sender::new(false)));
        Ok(Arc::new(Self { deps, facts, ready, shutting_down }))
    }

    /// The machine's facts.
    pub fn facts(&self) -> &NodeFacts {
        &self.facts
    }

    /// Whether the node is Ready, as last computed: the runtime answers and its network is up.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Whether the machine is going down: set by those who know, and the node is not ready then.
    pub fn shutting_down(&self) -> Arc<watch::Sender<bool>> {
        self.shutting_down.clone()
    }

    /// Registers the node, then renews the Lease and reports the status until `token` is cancelled.
    pub async fn run(&self, token: CancellationToken) {
        // Cancelled at a wait: a request under way is then answered to nobody, and the next start sends it again.
        let _ = token.run_until_cancelled(self.keep(&token)).await;
    }

    async fn keep(&self, token: &CancellationToken) {
        let Some(client) = self.deps.client.clone() else {
            return self.report_status(None, None, Value::Null).await;
        };
        let calls = Calls::new(client.clone(), "kubelet");
        let tracker = TaskTracker::new();
        let events = EventRecorder::start(client, "kubelet", &self.facts.name, &tracker, token.child_token());
        events.normal(&self.about(), "Starting", "Starting kubelet.");
        let known = if self.deps.config.node.register { self.register(&calls).await } else { Value::Null };
        tokio::join!(self.renew_lease(&calls), self.report_status(Some(&calls), Some(&events), known));
    }
}

#[cfg(test)]
mod tests;
