//! What DNS must know: its address, its zone, where the node's resolvers are listed.

use std::net::IpAddr;
use std::path::PathBuf;

/// Settings of cluster DNS on one node.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// The cluster's DNS addresses; added to `lo`, so that every node answers its own pods.
    pub addresses: Vec<IpAddr>,
    /// The port; 53 but for tests.
    pub port: u16,
    /// The cluster's domain.
    pub zone: String,
    /// The node's resolv.conf: names outside the zone go to its servers.
    pub upstream_resolv_conf: PathBuf,
    /// How long answers about the cluster may be kept, in seconds.
    pub ttl: u32,
}

impl DnsConfig {
    /// The usual settings.
    #[must_use]
    pub fn new(addresses: Vec<IpAddr>, zone: impl Into<String>) -> DnsConfig {
        DnsConfig {
            addresses,
            port: 53,
            zone: zone.into(),
            upstream_resolv_conf: PathBuf::from("/etc/resolv.conf"),
            ttl: 5,
        }
    }
}
