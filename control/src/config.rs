//! What the control plane is told at start.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use coracle_controllers::NodeMasks;

/// Files, addresses and names of one control plane.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// The store's file.
    pub store: PathBuf,
    /// The folder of keys and certificates.
    pub pki: PathBuf,
    /// Where the administrator's kubeconfig is written.
    pub admin_kubeconfig: PathBuf,
    /// Where the API server listens.
    pub listen: SocketAddr,
    /// What the administrator's kubeconfig says of the server: `https://127.0.0.1:6443`.
    pub server_url: String,
    /// The address under which others reach the server: the `kubernetes` Service's endpoint.
    pub advertise: IpAddr,
    /// Addresses of Services.
    pub service_cidr: String,
    /// First and last port of NodePort Services.
    pub node_ports: (u16, u16),
    /// Addresses of pods, a part of which each node gets: one range, or one of each family.
    pub pod_cidrs: Vec<String>,
    /// How much of them a node gets.
    pub node_masks: NodeMasks,
    /// The domain of the cluster's names.
    pub cluster_domain: String,
}

/// Files with which a kubelet serves: its certificate, its key, and the CA that signs its clients' certificates.
#[derive(Debug, Clone)]
pub struct ServingFiles {
    /// PEM of the certificate.
    pub certificate: PathBuf,
    /// PEM of its key, mode 0600.
    pub key: PathBuf,
    /// PEM of the CA.
    pub client_ca: PathBuf,
}
