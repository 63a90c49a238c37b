//! What runs on every node, whoever is its control plane: pod network, kubelet, service proxy, DNS.

use std::net::IpAddr;

use anyhow::{Context, Result};
use coracle_cri::RuntimeHandle;
use coracle_dns::{Dns, DnsConfig};
use coracle_kubelet::config::{self, Flags, KubeletConfig};
use coracle_proxy::{PodTraffic, Proxy, ProxyConfig};
use kube::Client;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::join::ClusterFacts;
use crate::node_agent;
use crate::node_network::NodeNetwork;
use crate::settings::NodeSettings;
use crate::supervise::Rooms;

/// The packet mark's bit that asks for masquerade: upstream's.
const MASQUERADE_BIT: u8 = 14;

/// The service proxy's nftables table.
pub const PROXY_TABLE: &str = "coracle";

/// As whom the parts of a node call the API.
pub struct Clients {
    /// The node itself: its kubelet, its pod network.
    pub node: Client,
    /// The service proxy, and the pod network where it looks at other nodes.
    pub proxy: Client,
    /// Cluster DNS.
    pub dns: Client,
}

/// What a node is made of.
pub struct Parts<'a> {
    /// What is particular to it.
    pub settings: &'a NodeSettings,
    /// The cluster.
    pub facts: &'a ClusterFacts,
    /// The kubelet's configuration, see [`kubelet_config`].
    pub kubelet: KubeletConfig,
    /// Its ways to the API.
    pub clients: Clients,
    /// Its container runtime.
    pub runtime: RuntimeHandle,
}

/// Starts the node; its tasks join `rooms` and end with `token`.
pub async fn start(parts: Parts<'_>, rooms: &mut Rooms, token: &CancellationToken) -> Result<()> {
    let Parts { settings, facts, kubelet, clients, runtime } = parts;
    let network = NodeNetwork::install(settings, &facts.pod_cidrs).context("prepare the pod network")?;
    let (stop, reader, node) = (token.child_token(), clients.proxy.clone(), clients.node.clone());
    rooms.spawn(async move {
        ("pod network", network.run(reader, node, stop).await.context("run the pod network"))
    });
    node_agent::start(kubelet, Some(clients.node), runtime, rooms, token).await?;

    let proxy = Proxy::new(proxy_config(settings), clients.proxy);
    let stop = token.child_token();
    rooms.spawn(async move { ("service proxy", proxy.run(stop).await.context("run the service proxy")) });
    let dns = DnsConfig::new(facts.cluster_dns.clone(), facts.cluster_domain.clone());
    let dns = Dns::new(dns, clients.dns);
    let stop = token.child_token();
    rooms.spawn(async move { ("DNS", dns.run(stop).await.context("serve cluster DNS")) });
    Ok(())
}

fn proxy_config(settings: &NodeSettings) -> ProxyConfig {
    ProxyConfig {
        node_name: settings.node_name.clone(),
        node_ips: vec![settings.node_ip],
        pod_traffic: PodTraffic::Interface(settings.bridge.clone()),
        localhost_node_ports: true,
        masquerade_bit: MASQUERADE_BIT,
        table: PROXY_TABLE.to_owned(),
        healthz: Some((std::net::Ipv4Addr::UNSPECIFIED, settings.proxy_healthz_port).into()),
    }
}

/// A user's KubeletConfiguration comes first; what this node is made of goes over it, and `more` over that.
pub fn kubelet_config(
    settings: &NodeSettings,
    domain: &str,
    dns: &[IpAddr],
    more: Flags,
) -> Result<KubeletConfig> {
    let layout = settings.layout();
    let mut overrides = json!({
        "containerRuntimeEndpoint": settings.runtime_endpoint,
        "staticPodPath": layout.manifests(),
        "podLogsDir": layout.pod_logs(),
        "port": settings.kubelet_port,
        "healthzPort": settings.kubelet_healthz_port,
        "clusterDNS": dns,
        "clusterDomain": domain,
        "cgroupRoot": settings.cgroup_root,
        "failCgroupV1": false,
        "failSwapOn": false,
        "authorization": {"mode": "Webhook"},
    });
    if let (Some(into), Value::Object(from)) = (overrides.as_object_mut(), more.overrides) {
        into.extend(from);
    }
    let flags = Flags {
        config: settings.kubelet_config.clone(),
        root_dir: Some(layout.kubelet()),
        hostname_override: Some(settings.node_name.clone()),
        node_ips: vec![settings.node_ip],
        overrides,
        ..more
    };
    let loaded = config::load(&flags).context("configure the kubelet")?;
    for warning in &loaded.warnings {
        tracing::warn!(%warning, "kubelet configuration");
    }
    Ok(loaded.config)
}

/// Who may call the kubelet: those whom the API server knows, and certificates by the cluster's CA.
pub fn authentication(client_ca: &std::path::Path) -> Value {
    json!({
        "anonymous": {"enabled": false},
        "webhook": {"enabled": true},
        "x509": {"clientCAFile": client_ca},
    })
}
