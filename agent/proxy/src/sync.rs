//! Wait for changes, give their text to `nft`, forget connections that lead nowhere.

use crate::config::{ConfigError, ProxyConfig};
use crate::health::{self, Health};
use crate::rules::{Family, Front};
use crate::state::{Delta, Input, State};
use crate::views::{Service, Slice};
use coracle_client::{Backoff, Endpoint, Informer, Key, Object, Params, Resource, Store, report};
use coracle_cni::netlink::conntrack;
use coracle_cni::nft::{self, NftError};
use coracle_cni::spec::Protocol;
use coracle_cni::sysctl;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const BY_SERVICE: &str = "service";

/// Why the proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The configuration makes no sense.
    #[error("check the proxy's configuration")]
    Config {
        #[source]
        /// What is wrong with it.
        source: ConfigError,
    },
    /// The health port cannot be opened.
    #[error("listen for health checks on {addr}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        #[source]
        /// What the system said.
        source: io::Error,
    },
    /// The kernel's settings for forwarding cannot be made.
    #[error("let the kernel forward packets")]
    Sysctl {
        #[source]
        /// What the system said.
        source: io::Error,
    },
    /// The table cannot be removed.
    #[error("remove nftables table {table}")]
    Cleanup {
        /// Its name.
        table: String,
        #[source]
        /// What nft said.
        source: NftError,
    },
    /// A thread for blocking work ended early.
    #[error("run blocking work")]
    Blocking {
        #[source]
        /// How it ended.
        source: tokio::task::JoinError,
    },
}

/// The service proxy of one node.
pub struct Proxy {
    config: ProxyConfig,
    client: kube::Client,
}

/// Services that changed since the last look.
#[derive(Default)]
struct Changed {
    keys: Mutex<BTreeSet<Key>>,
    wake: Notify,
}

impl Proxy {
    /// A proxy that reads its services through `client`.
    #[must_use]
    pub fn new(config: ProxyConfig, client: kube::Client) -> Proxy {
        Proxy { config, client }
    }

    /// Keeps the kernel's rules in step until the token is cancelled; the rules stay, so that services go on.
    pub async fn run(self, token: CancellationToken) -> Result<(), ProxyError> {
        self.config.validate().map_err(|source| ProxyError::Config { source })?;
        let tracker = TaskTracker::new();
        let stop = token.child_token();
        let ran = self.serve(&tracker, &stop).await;
        stop.cancel();
        tracker.close();
        tracker.wait().await;
        ran
    }

    async fn serve(&self, tracker: &TaskTracker, stop: &CancellationToken) -> Result<(), ProxyError> {
        let health = Arc::new(Health::default());
        if let Some(addr) = self.config.healthz {
            let listener =
                TcpListener::bind(addr).await.map_err(|source| ProxyError::Listen { addr, source })?;
            tracker.spawn(health::serve(listener, Arc::clone(&health), stop.clone()));
        }
        let config = self.config.clone();
        blocking(move || settings(&config)).await?.map_err(|source| ProxyError::Sysctl { source })?;

        let changed = Arc::new(Changed::default());
        let (services, slices) = self.informers(tracker, stop, &changed, &health);
        let synced = async {
            services.synced().await;
            slices.synced().await;
        };
        // Stopped before the first list: nothing was written yet.
        if stop.run_until_cancelled(synced).await.is_none() {
            return Ok(());
        }
        let reader = Reader { services: services.store(), slices: slices.store() };
        Writer::new(self.config.clone(), reader, changed, health).run(stop).await
    }

    fn informers(
        &self,
        tracker: &TaskTracker,
        stop: &CancellationToken,
        changed: &Arc<Changed>,
        health: &Arc<Health>,
    ) -> (Informer<Service>, Informer<Slice>) {
        let services = Endpoint::new(self.client.clone(), &Resource::core("services"), "");
        let params = Params::<Service>::all()
            .labels("!service.kubernetes.io/service-proxy-name")
            .transform(Service::shrink);
        let services = Informer::start(services, params, tracker, stop.clone());
        let slices = Resource::new("discovery.k8s.io", "v1", "endpointslices");
        let slices = Endpoint::new(self.client.clone(), &slices, "");
        let params = Params::<Slice>::all()
            .labels("!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name")
            .transform(Slice::shrink)
            .index(BY_SERVICE, |slice| slice.service_key().map(|key| key.to_string()).into_iter().collect());
        let slices = Informer::start(slices, params, tracker, stop.clone());
        let mark = {
            let (changed, health) = (Arc::clone(changed), Arc::clone(health));
            move |keys: Vec<Key>| {
                changed.keys.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
                health.queued();
                changed.wake.notify_one();
            }
        };
        let of_slice = mark.clone();
        services.on_change(move |change| mark(change.object().map(|it| it.key()).into_iter().collect()));
        slices.on_change(move |change| {
            let both = change.object().into_iter().chain(change.old());
            of_slice(both.filter_map(|slice| slice.service_key()).collect());
        });
        (services, slices)
    }
}

/// Removes everything that a proxy with this table put into the kernel.
pub async fn cleanup(table: &str) -> Result<(), ProxyError> {
    let text = format!("add table inet {table}\ndelete table inet {table}\n");
    let removed = blocking(move || nft::apply(&text)).await?;
    removed.map_err(|source| ProxyError::Cleanup { table: table.to_owned(), source })
}

impl Slice {
    fn service_key(&self) -> Option<Key> {
        self.service().map(|name| Key::new(&self.metadata.namespace, name))
    }
}

struct Reader {
    services: Store<Service>,
    slices: Store<Slice>,
}

impl Reader {
    fn read(&self, key: &Key) -> Option<Input> {
        let service = self.services.find(&key.namespace, &key.name)?;
        Some(Input { service, slices: self.slices.by_index(BY_SERVICE, &key.to_string()) })
    }
}

/// The loop that writes to the kernel; the only one that does.
struct Writer {
    config: ProxyConfig,
    state: State,
    reader: Reader,
    changed: Arc<Changed>,
    health: Arc<Health>,
    /// The kernel has what the state said; after a failure it is told everything again.
    in_step: bool,
    /// UDP flows that are to be forgotten once the rules are in place.
    stale: BTreeMap<Front, BTreeSet<SocketAddr>>,
    backoff: Backoff,
}

impl Writer {
    fn new(config: ProxyConfig, reader: Reader, changed: Arc<Changed>, health: Arc<Health>) -> Writer {
        Writer {
            state: State::new(config.clone()),
            config,
            reader,
            changed,
            health,
            in_step: false,
            stale: BTreeMap::new(),
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(30)),
        }
    }

    async fn run(mut self, stop: &CancellationToken) -> Result<(), ProxyError> {
        loop {
            let pause = match self.write().await? {
                Ok(()) => {
                    self.backoff.reset();
                    None
                }
                Err(error) => {
                    tracing::warn!(error = %report(&error), "service rules were not written, will write all of them");
                    Some(self.backoff.next_jittered())
                }
            };
            let wait = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    // A change that came meanwhile has left its permit: this returns at once.
                    None => self.changed.wake.notified().await,
                }
            };
            if stop.run_until_cancelled(wait).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Brings the kernel up to date; the inner error is one that is tried again.
    async fn write(&mut self) -> Result<Result<(), NftError>, ProxyError> {
        let keys = std::mem::take(&mut *self.changed.keys.lock().unwrap_or_else(PoisonError::into_inner));
        let Delta { text, whole, udp } = self.state.change(keys, |key| self.reader.read(key));
        self.stale.extend(udp);
        self.in_step &= !whole;
        let text = if self.in_step { text } else { self.state.full() };
        if !text.is_empty() {
            tracing::debug!(bytes = text.len(), whole = !self.in_step, "writing service rules");
            self.in_step = false;
            if let Err(err) = blocking(move || nft::apply(&text)).await? {
                return Ok(Err(err));
            }
            self.in_step = true;
        }
        self.forget_flows().await?;
        self.health.updated();
        Ok(Ok(()))
    }

    /// After the rules are in place: a flow that is forgotten before would come back by the old ones.
    async fn forget_flows(&mut self) -> Result<(), ProxyError> {
        let fronts = std::mem::take(&mut self.stale);
        if fronts.is_empty() {
            return Ok(());
        }
        let node_ips = self.config.node_ips.clone();
        let forgotten =
            blocking(move || conntrack::forget(|flow| is_stale(flow, &fronts, &node_ips))).await?;
        match forgotten {
            Ok(count) => tracing::debug!(count, "forgot UDP flows to endpoints that are gone"),
            // They end by themselves when their clients pause; new ones are right already.
            Err(error) => {
                tracing::warn!(error = %report(&error), "UDP flows to endpoints that are gone were not forgotten")
            }
        }
        Ok(())
    }
}

fn is_stale(
    flow: &conntrack::Connection,
    fronts: &BTreeMap<Front, BTreeSet<SocketAddr>>,
    node_ips: &[IpAddr],
) -> bool {
    let (addr, port) = flow.destination;
    if flow.protocol != Protocol::Udp.number() {
        return false;
    }
    let front = |addr: Option<IpAddr>| Front {
        family: Family::of(flow.destination.0),
        addr,
        protocol: Protocol::Udp,
        port,
    };
    let backends = fronts.get(&front(Some(addr))).or_else(|| {
        let own = node_ips.contains(&addr) || addr.is_loopback();
        own.then(|| fronts.get(&front(None))).flatten()
    });
    backends.is_some_and(|it| !it.contains(&SocketAddr::from(flow.answers_from)))
}

/// Packets of pods are forwarded, bridged ones are translated too, and 127.0.0.1 may reach a node port's endpoint.
fn settings(config: &ProxyConfig) -> io::Result<()> {
    sysctl::ensure("net/ipv4/ip_forward", "1")?;
    if config.node_ips.iter().any(IpAddr::is_ipv6) {
        sysctl::ensure("net/ipv6/conf/all/forwarding", "1")?;
    }
    for name in ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"] {
        sysctl::ensure_if_present(name, "1")?;
    }
    if config.localhost_node_ports {
        sysctl::ensure("net/ipv4/conf/all/route_localnet", "1")?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ProxyError> {
    tokio::task::spawn_blocking(work).await.map_err(|source| ProxyError::Blocking { source })
}
