//! What the overlay is told.

use coracle_cni::Cidr;
use std::net::IpAddr;
use std::path::PathBuf;

/// How packets reach the pods of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Wrapped in UDP packets.
    Vxlan {
        /// Not wrapped for nodes in the same network as this one.
        direct_routing: bool,
    },
    /// By routes through the nodes; all of them must be in one network.
    HostGw,
}

impl Backend {
    /// As the annotation has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vxlan { .. } => "vxlan",
            Self::HostGw => "host-gw",
        }
    }

    /// How many bytes of each packet it needs for itself.
    pub const fn overhead(self, ipv4: bool) -> u32 {
        match self {
            Self::HostGw => 0,
            Self::Vxlan { .. } if ipv4 => 50,
            Self::Vxlan { .. } => 70,
        }
    }
}

/// What an overlay is made of.
#[derive(Debug, Clone)]
pub struct OverlayConfig {
    /// The name of this node.
    pub node_name: String,
    /// The addresses by which other nodes reach this one, at most one a family.
    pub addresses: Vec<IpAddr>,
    /// The addresses of all pods of the cluster: towards them nothing is masqueraded.
    pub networks: Vec<Cidr>,
    /// How packets travel.
    pub backend: Backend,
    /// The number of the VXLAN.
    pub vni: u32,
    /// Its UDP port.
    pub port: u16,
    /// Where `subnet.env` is written.
    pub subnet_file: PathBuf,
}

impl OverlayConfig {
    /// flannel's defaults: a VXLAN with number 1 and port 8472.
    pub fn new(node_name: String, addresses: Vec<IpAddr>, networks: Vec<Cidr>, subnet_file: PathBuf) -> Self {
        let backend = Backend::Vxlan { direct_routing: false };
        Self { node_name, addresses, networks, backend, vni: 1, port: 8472, subnet_file }
    }

    /// This node's address of a family.
    pub fn address(&self, ipv4: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|it| it.is_ipv4() == ipv4)
    }
}
