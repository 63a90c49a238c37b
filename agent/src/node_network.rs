//! This node's pod network: the plugins put in place, the overlay to the pods of other nodes run, the plugins'
//! configuration written once the overlay is ready for pods.
//!
//! Until then the runtime reports that it has no network, and the node is not Ready: no pod starts without one.

use std::path::PathBuf;

use anyhow::{Context, Result};
use coracle_client::report;
use coracle_cni::Cidr;
use coracle_cni::conflist::PodNetwork;
use coracle_overlay::{Overlay, OverlayConfig, Prepared};
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::settings::NodeSettings;

/// What the configuration is made of.
#[derive(Debug, Clone)]
pub struct NodeNetwork {
    bridge: String,
    overlay: OverlayConfig,
    conf_dir: PathBuf,
    lease_dir: PathBuf,
}

impl NodeNetwork {
    /// Puts the plugins in place and prepares the rest. `networks` are the addresses of all pods of the cluster.
    pub fn install(settings: &NodeSettings, networks: &[String]) -> Result<Self> {
        let layout = settings.layout();
        coracle_cni::install::install_from(&settings.cni_binary, &layout.cni_bin())
            .context("put the CNI plugins in place")?;
        let networks: Result<Vec<Cidr>, _> = networks.iter().map(|it| it.parse()).collect();
        let overlay = OverlayConfig::new(
            settings.node_name.clone(),
            vec![settings.node_ip],
            networks.context("read the networks of the cluster's pods")?,
            layout.run().join("flannel/subnet.env"),
        );
        Ok(Self {
            overlay,
            bridge: settings.bridge.clone(),
            conf_dir: layout.cni_conf(),
            lease_dir: layout.cni_leases(),
        })
    }

    /// Joins this node's pods with those of other nodes, and writes the configuration when pods may start, and again
    /// when their addresses or packet size change. `reader` lists Nodes, `node` changes this one.
    pub async fn run(self, reader: Client, node: Client, token: CancellationToken) -> Result<()> {
        let (tell, mut prepared) = watch::channel(None);
        let overlay = Overlay::new(self.overlay.clone(), reader, node);
        let follow = async {
            // Dropped only at the wait for a change: a file is written whole or not at all.
            while prepared.changed().await.is_ok() {
                let now: Option<Prepared> = prepared.borrow_and_update().clone();
                if let Some(now) = now {
                    self.write(now);
                }
            }
        };
        // The overlay's end is the end of its words.
        let (ended, ()) = tokio::join!(overlay.run(tell, token), follow);
        ended.context("join the pods of all nodes")
    }

    fn write(&self, prepared: Prepared) {
        let network = PodNetwork {
            name: "coracle".to_owned(),
            bridge: self.bridge.clone(),
            pod_cidrs: prepared.subnets,
            mtu: prepared.mtu,
            // The overlay does: only it knows where the cluster ends.
            masquerade: false,
            lease_dir: Some(self.lease_dir.clone()),
        };
        match network.install(&self.conf_dir) {
            Ok(file) => tracing::info!(file = %file.display(), "pod network configured"),
            Err(error) => tracing::error!(error = %report(&error), "pod network not configured"),
        }
    }
}
