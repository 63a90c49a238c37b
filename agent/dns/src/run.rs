//! Informers and servers, started and stopped as one.

use crate::answer::Zone;
use crate::config::DnsConfig;
use crate::forward::Forwarder;
use crate::loopback;
use crate::serve::{self, Server};
use crate::source::Cluster;
use coracle_cni::netlink::NetlinkError;
use hickory_proto::rr::Name;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Why cluster DNS cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The zone is not a domain name.
    #[error("the cluster's domain {0:?} is not a domain name")]
    Zone(String),
    /// The addresses could not be put on, or taken from, `lo`.
    #[error("set up the cluster's DNS addresses on lo")]
    Address {
        #[source]
        /// What the kernel said.
        source: NetlinkError,
    },
    /// The port could not be opened.
    #[error("listen for DNS on {addr}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        #[source]
        /// What the system said.
        source: io::Error,
    },
    /// A thread for blocking work ended early.
    #[error("run blocking work")]
    Blocking {
        #[source]
        /// How it ended.
        source: tokio::task::JoinError,
    },
}

/// Cluster DNS on one node.
pub struct Dns {
    config: DnsConfig,
    client: kube::Client,
}

impl Dns {
    /// DNS that reads services through `client`.
    #[must_use]
    pub fn new(config: DnsConfig, client: kube::Client) -> Dns {
        Dns { config, client }
    }

    /// Answers until the token is cancelled; the addresses stay on `lo` for whoever comes next.
    pub async fn run(self, token: CancellationToken) -> Result<(), DnsError> {
        let tasks = TaskTracker::new();
        let stop = token.child_token();
        let started = self.start(&tasks, &stop).await;
        if started.is_ok() {
            stop.cancelled().await;
        }
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        started
    }

    async fn start(&self, tasks: &TaskTracker, stop: &CancellationToken) -> Result<(), DnsError> {
        let DnsConfig { addresses, port, zone, upstream_resolv_conf, ttl } = self.config.clone();
        let name = Name::from_ascii(format!("{}.", zone.trim_end_matches('.')));
        let name = name.ok().filter(|name| !name.is_root()).ok_or(DnsError::Zone(zone))?;
        let own = addresses.clone();
        blocking(move || loopback::add(&own)).await?.map_err(|source| DnsError::Address { source })?;
        let server = Arc::new(Server {
            zone: Zone { name: name.to_lowercase(), addresses: addresses.clone(), ttl },
            cluster: Cluster::start(&self.client, tasks, stop),
            forwarder: Arc::new(Forwarder::new(upstream_resolv_conf, addresses.clone(), tasks.clone())),
        });
        for addr in addresses {
            let addr = SocketAddr::new(addr, port);
            let listen = |source| DnsError::Listen { addr, source };
            let socket = UdpSocket::bind(addr).await.map_err(listen)?;
            let listener = TcpListener::bind(addr).await.map_err(listen)?;
            tasks.spawn(serve::udp(Arc::clone(&server), socket, stop.clone(), tasks.clone()));
            tasks.spawn(serve::tcp(Arc::clone(&server), listener, stop.clone(), tasks.clone()));
        }
        Ok(())
    }
}

/// Takes the cluster's DNS addresses from `lo`.
pub async fn cleanup(addresses: Vec<IpAddr>) -> Result<(), DnsError> {
    blocking(move || loopback::remove(&addresses)).await?.map_err(|source| DnsError::Address { source })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, DnsError> {
    tokio::task::spawn_blocking(work).await.map_err(|source| DnsError::Blocking { source })
}
