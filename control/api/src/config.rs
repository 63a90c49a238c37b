//! What the server is told at start.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use coracle_store::Store;
use rustls::server::danger::ClientCertVerifier;

use crate::auth::{AnonymousPolicy, TokenAuthority};
use crate::http::connect::Connect;
use crate::services::Cidr;

/// All of it.
pub struct ApiConfig {
    /// Where objects rest.
    pub store: Arc<dyn Store>,
    /// Verifies client certificates.
    pub client_certificates: Arc<dyn ClientCertVerifier>,
    /// Makes and verifies service-account tokens.
    pub tokens: Arc<TokenAuthority>,
    /// Who may come without credentials.
    pub anonymous: AnonymousPolicy,
    /// Ranges of Service addresses, the primary family first.
    pub service_cidrs: Vec<Cidr>,
    /// e.g. `cluster.local`.
    pub cluster_domain: String,
    /// Where clients (and the `kubernetes` Service) reach this server.
    pub advertise: SocketAddr,
    /// What carries exec, logs and proxies to kubelets, pods and services; `None`: they are refused by name.
    pub connect: Option<Arc<dyn Connect>>,
}

/// What requests need of it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Ranges of Service addresses.
    pub service_cidrs: Vec<Cidr>,
    /// e.g. `cluster.local`.
    pub cluster_domain: String,
    /// Where clients reach this server.
    pub advertise: SocketAddr,
}

impl Settings {
    /// The address of the `kubernetes` Service: the first of the primary range.
    pub fn kubernetes_address(&self) -> Option<IpAddr> {
        self.service_cidrs.first().map(|cidr| cidr.address(1))
    }
}
