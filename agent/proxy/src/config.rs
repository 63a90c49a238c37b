//! What the proxy must know of its node.

use coracle_cni::Cidr;
use std::net::{IpAddr, SocketAddr};

/// The node, and how its traffic is told apart.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// The Node object's name: endpoints on this node are local.
    pub node_name: String,
    /// Addresses on which node ports are served: the node's primary ones.
    pub node_ips: Vec<IpAddr>,
    /// How a packet from a pod is known; everybody else's takes the node's address towards a cluster IP.
    pub pod_traffic: PodTraffic,
    /// Node ports answer on 127.0.0.1 too.
    pub localhost_node_ports: bool,
    /// The bit of the packet mark that asks for masquerade; upstream's default is 14.
    pub masquerade_bit: u8,
    /// The nftables table; nobody else writes to it.
    pub table: String,
    /// Where health is served; nowhere when absent.
    pub healthz: Option<SocketAddr>,
}

/// How a packet from a pod is known.
#[derive(Debug, Clone)]
pub enum PodTraffic {
    /// By its source: addresses of all pods of the cluster.
    Cidrs(Vec<Cidr>),
    /// By the interface it comes in through: the pods' bridge.
    Interface(String),
    /// It is not known: nothing towards cluster IPs is masqueraded.
    Unknown,
}

/// A configuration that cannot be served.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The mark has 32 bits.
    #[error("masquerade bit {0} is not one of 0 to 31")]
    MasqueradeBit(u8),
    /// The name has to stand in nft's text.
    #[error("table name {0:?} is not letters, digits and underscores, beginning with a letter")]
    Table(String),
    /// The name has to stand in nft's text.
    #[error("interface name {0:?} has a character that no interface has")]
    Interface(String),
}

impl ProxyConfig {
    /// The usual settings for a node.
    #[must_use]
    pub fn new(node_name: impl Into<String>, node_ips: Vec<IpAddr>, pod_traffic: PodTraffic) -> ProxyConfig {
        ProxyConfig {
            node_name: node_name.into(),
            node_ips,
            pod_traffic,
            localhost_node_ports: true,
            masquerade_bit: 14,
            table: "coracle".to_owned(),
            healthz: Some(SocketAddr::from(([0, 0, 0, 0], 10256))),
        }
    }

    /// Refuses what would not be text for nft.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.masquerade_bit > 31 {
            return Err(ConfigError::MasqueradeBit(self.masquerade_bit));
        }
        let word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !word(&self.table) || !self.table.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(ConfigError::Table(self.table.clone()));
        }
        match &self.pod_traffic {
            PodTraffic::Interface(name)
                if !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) =>
            {
                Err(ConfigError::Interface(name.clone()))
            }
            PodTraffic::Interface(_) | PodTraffic::Cidrs(_) | PodTraffic::Unknown => Ok(()),
        }
    }
}
