//! This node's pod network: the plugins put in place, their configuration written once the node has its addresses.
//!
//! Until then the runtime reports that it has no network, and the node is not Ready: no pod starts without one.

use std::path::PathBuf;

use coracle_client::views::Meta;
use coracle_client::{Endpoint, Informer, Params, Resource, report};
use coracle_cni::conflist::PodNetwork;
use kube::Client;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::settings::NodeSettings;

/// What is read of the Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct NodeView {
    metadata: Meta,
    spec: NodeSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeSpec {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

coracle_client::slim_view!(NodeView);

/// What the configuration is made of.
#[derive(Debug, Clone)]
pub struct NodeNetwork {
    node_name: String,
    bridge: String,
    conf_dir: PathBuf,
    lease_dir: PathBuf,
}

impl NodeNetwork {
    /// Puts the plugins in place and prepares the rest.
    pub fn install(settings: &NodeSettings) -> Result<Self, coracle_cni::install::InstallError> {
        let layout = settings.layout();
        coracle_cni::install::install_from(&settings.cni_binary, &layout.cni_bin())?;
        Ok(Self {
            node_name: settings.node_name.clone(),
            bridge: settings.bridge.clone(),
            conf_dir: layout.cni_conf(),
            lease_dir: layout.cni_leases(),
        })
    }

    /// Writes the configuration when the node gets its addresses, and again when they change.
    pub async fn run(self, client: Client, token: CancellationToken) {
        let tracker = TaskTracker::new();
        let params = Params::<NodeView>::all().fields(format!("metadata.name={}", self.node_name));
        let nodes = Informer::start(
            Endpoint::new(client, &Resource::core("nodes"), ""),
            params,
            &tracker,
            token.child_token(),
        );
        let mut changes = nodes.subscribe();
        let mut written = Vec::new();
        // Cancelled only at the wait for a change: a file is written whole or not at all.
        while let Some(Some(_)) = token.run_until_cancelled(changes.next()).await {
            let Some(node) = nodes.store().find("", &self.node_name) else { continue };
            if node.spec.pod_cidrs.is_empty() || node.spec.pod_cidrs == written {
                continue;
            }
            if self.write(&node.spec.pod_cidrs) {
                written.clone_from(&node.spec.pod_cidrs);
            }
        }
        tracker.close();
        tracker.wait().await;
    }

    /// Whether the configuration for these addresses is in place.
    fn write(&self, pod_cidrs: &[String]) -> bool {
        let parsed: Result<Vec<_>, _> = pod_cidrs.iter().map(|it| it.parse()).collect();
        let Ok(pod_cidrs) = parsed else {
            tracing::error!(node = %self.node_name, ?pod_cidrs, "the node's pod addresses do not parse");
            return false;
        };
        let network = PodNetwork {
            name: "coracle".to_owned(),
            bridge: self.bridge.clone(),
            pod_cidrs,
            mtu: None,
            masquerade: true,
            lease_dir: Some(self.lease_dir.clone()),
        };
        match network.install(&self.conf_dir) {
            Ok(file) => {
                tracing::info!(file = %file.display(), "pod network configured");
                true
            }
            Err(error) => {
                tracing::error!(error = %report(&error), "pod network not configured");
                false
            }
        }
    }
}
