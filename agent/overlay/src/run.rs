//! The loop: woken by Nodes and by the kernel, it makes the one agree with the other.

use crate::config::OverlayConfig;
use crate::kernel::{Kernel, KernelError};
use crate::node::{NodeView, derived_mac};
use crate::plan::{self, Desired, Observed, Peer, PlanError, link_name};
use crate::subnet_env;
use coracle_client::{
    Backoff, CallError, Calls, Change, Endpoint, Informer, Params, Resource, Store, report,
};
use coracle_cni::Cidr;
use coracle_cni::netlink::{Event, Events, Mac, NetlinkError};
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The shortest and the longest pause after a pass that failed.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// A pass makes a link first, and what depends on its number then.
const ROUNDS: usize = 4;

const NODES: Resource = Resource::core("nodes");

/// What a node's pods may now rely on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Their addresses.
    pub subnets: Vec<Cidr>,
    /// Their packet size; nothing when the kernel may choose.
    pub mtu: Option<u32>,
}

/// Why a pass was not finished.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("say on the Node how its pods are reached")]
    Annotate(#[source] CallError),
    #[error("write {}", file.display())]
    SubnetFile {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the kernel's answers change as fast as they are looked at")]
    Unsettled,
    #[error("a pass over the kernel broke off")]
    Task(#[from] JoinError),
}

/// Why the overlay cannot run at all.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The kernel's side is not there.
    #[error("open the way to the kernel")]
    Kernel(#[from] KernelError),
    /// It does not tell of its changes.
    #[error("listen to the kernel")]
    Listen(#[from] NetlinkError),
    /// The listening cannot be waited for.
    #[error("wait for the kernel")]
    Wait(#[from] io::Error),
}

/// The pod network across hosts, of one node.
pub struct Overlay {
    config: Arc<OverlayConfig>,
    /// As somebody who may list Nodes.
    reader: kube::Client,
    /// As somebody who may change this node's.
    writer: Calls,
}

impl Overlay {
    /// `reader` lists all Nodes, `writer` annotates this one.
    pub fn new(config: OverlayConfig, reader: kube::Client, writer: kube::Client) -> Self {
        Self { config: Arc::new(config), reader, writer: Calls::new(writer, "coracle-overlay") }
    }

    /// Runs until `token` ends; `prepared` hears when this node's pods may start, and when their packet size changes.
    /// What is in the kernel stays: pods go on reaching each other.
    pub async fn run(
        self,
        prepared: watch::Sender<Option<Prepared>>,
        token: CancellationToken,
    ) -> Result<(), OverlayError> {
        // Before the first look, so that no change is missed.
        let events = listen()?;
        let kernel = Arc::new(Kernel::open()?);
        let tracker = TaskTracker::new();
        let nodes = Informer::start(
            Endpoint::new(self.reader.clone(), &NODES, ""),
            Params::<NodeView>::all().transform(NodeView::shrink),
            &tracker,
            token.child_token(),
        );
        let outcome = self.follow(&nodes, &events, &kernel, &prepared, &token).await;
        tracker.close();
        tracker.wait().await;
        outcome
    }

    async fn follow(
        &self,
        nodes: &Informer<NodeView>,
        events: &AsyncFd<Events>,
        kernel: &Arc<Kernel>,
        prepared: &watch::Sender<Option<Prepared>>,
        token: &CancellationToken,
    ) -> Result<(), OverlayError> {
        let mut changes = nodes.subscribe();
        let (mut pauses, mut said) = (Backoff::new(PAUSES.0, PAUSES.1), String::new());
        let mut links = BTreeSet::new();
        let mut retry = None;
        loop {
            // Each of these waits may be dropped: nothing is taken before it is handled.
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                change = changes.next() => match change {
                    None => return Ok(()),
                    Some(Change::Updated { old, new }) if !old.differs(&new) => continue,
                    Some(_) => {}
                },
                ready = events.readable() => {
                    let mut ready = ready?;
                    let told = events.get_ref().drain()?;
                    ready.clear_ready();
                    if !nodes.is_synced() || !told.iter().any(|it| concerns(it, &links)) {
                        continue;
                    }
                },
                () = pause(retry) => {}
            }
            match self.pass(nodes.store(), kernel, prepared, &mut links).await {
                Ok(()) => {
                    pauses = Backoff::new(PAUSES.0, PAUSES.1);
                    retry = None;
                    said.clear();
                }
                Err(error) => {
                    let text = report(&error);
                    if text != said {
                        tracing::warn!(node = %self.config.node_name, error = %text, "pod network across hosts");
                        said = text;
                    }
                    // A link or an address that is missing is waited for.
                    let waits = matches!(error, PassError::Plan(_));
                    retry = (!waits).then(|| pauses.next_jittered());
                }
            }
        }
    }

    async fn pass(
        &self,
        store: Store<NodeView>,
        kernel: &Arc<Kernel>,
        prepared: &watch::Sender<Option<Prepared>>,
        links: &mut BTreeSet<u32>,
    ) -> Result<(), PassError> {
        let Some(own) = store.find("", &self.config.node_name) else { return Ok(()) };
        let subnets: Vec<Cidr> = [true, false].into_iter().filter_map(|ipv4| own.subnet(ipv4)).collect();
        if subnets.is_empty() {
            return Ok(());
        }
        let (config, inner) = (Arc::clone(&self.config), Arc::clone(kernel));
        let (node, of_pods) = (Arc::clone(&own), subnets.clone());
        let (done, mine) = tokio::task::spawn_blocking(move || {
            let mut links = BTreeSet::new();
            (prepare(&config, &inner, &node, &of_pods, &store, &mut links), links)
        })
        .await?;
        *links = mine;
        let (mtu, macs, planned) = done?;
        prepared.send_if_modified(|now| {
            let next = Some(Prepared { subnets, mtu });
            let changed = *now != next;
            *now = next;
            changed
        });
        let annotations = own.missing(&self.config, |ipv4| if ipv4 { macs.0 } else { macs.1 });
        if !annotations.is_empty() {
            let path = NODES.object("", &self.config.node_name);
            let patch = serde_json::json!({"metadata": {"annotations": annotations}});
            let answer: Result<serde::de::IgnoredAny, _> = self.writer.merge(&path, &patch).await;
            answer.map_err(PassError::Annotate)?;
        }
        Ok(planned?)
    }
}

#[expect(unsafe_code, reason = "tokio cannot know that a descriptor stays open")]
fn listen() -> Result<AsyncFd<Events>, OverlayError> {
    let events = Events::open()?;
    // SAFETY: Events owns its descriptor, never replaces it, and closes it only when it is dropped.
    let registered = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) };
    Ok(registered.map_err(io::Error::from)?)
}

async fn pause(length: Option<Duration>) {
    match length {
        Some(length) => tokio::time::sleep(length).await,
        None => std::future::pending().await,
    }
}

/// Changes of links and addresses are rare; of routes and neighbours only those of our links are looked at.
fn concerns(event: &Event, links: &BTreeSet<u32>) -> bool {
    match event {
        Event::Missed => true,
        // With no link known, one that appears may be the way out.
        Event::Link(link) | Event::Address(link) => links.is_empty() || links.contains(link),
        Event::Route(link) | Event::Neighbour(link) => links.contains(link),
    }
}

type Done = (Option<u32>, (Mac, Mac), Result<(), PlanError>);

/// The part of a pass that talks to the kernel. `links` are those whose changes matter from now on.
fn prepare(
    config: &OverlayConfig,
    kernel: &Kernel,
    own: &NodeView,
    subnets: &[Cidr],
    store: &Store<NodeView>,
    links: &mut BTreeSet<u32>,
) -> Result<Done, PassError> {
    kernel.masquerade(subnets, &config.networks)?;
    let mut observed = kernel.observe()?;
    let mut planned = Ok(());
    let mut mtu: Option<u32> = None;
    let mac = |ipv4: bool, observed: &Observed| {
        // One that flannel made, or we before a restart, keeps its address: others know it.
        let name = link_name(config.vni, ipv4);
        let link = observed.links.iter().find(|it| it.name == name && it.kind == "vxlan");
        link.and_then(|it| it.mac).unwrap_or_else(|| derived_mac(&own.metadata.uid, ipv4))
    };
    let macs = (mac(true, &observed), mac(false, &observed));
    for subnet in subnets {
        let ipv4 = subnet.is_ipv4();
        let Some(address) = config.address(ipv4) else { continue };
        let mut desired = Desired {
            address,
            subnet: *subnet,
            mac: if ipv4 { macs.0 } else { macs.1 },
            backend: config.backend,
            vni: config.vni,
            port: config.port,
            peers: Vec::new(),
        };
        let (peers, refused) = plan::distinct(*subnet, peers(config, store, ipv4));
        for peer in refused {
            tracing::warn!(node = %peer.name, subnet = %peer.subnet, "its pods' network or hardware address is another node's too: not reached");
        }
        desired.peers = peers;
        planned = planned.and(settle(&desired, kernel, &mut observed)?);
        let names = [link_name(config.vni, ipv4)];
        let uplink = plan::uplink(address, &observed).map(|it| it.index);
        links.extend(uplink);
        links.extend(observed.links.iter().filter(|it| names.contains(&it.name)).map(|it| it.index));
        mtu = [mtu, plan::pod_mtu(address, config.backend, &observed)].into_iter().flatten().min();
    }
    if planned.is_err() {
        // Whatever link or address comes next may be the one that is missing.
        links.clear();
    }
    let failed = |source| PassError::SubnetFile { file: config.subnet_file.clone(), source };
    subnet_env::write(&config.subnet_file, &config.networks, subnets, mtu).map_err(failed)?;
    Ok((mtu, macs, planned))
}

fn peers(config: &OverlayConfig, store: &Store<NodeView>, ipv4: bool) -> Vec<Peer> {
    let others = store.list().into_iter().filter(|it| it.metadata.name != config.node_name);
    others.filter_map(|it| it.peer(ipv4, config)).collect()
}

/// Plans and acts until the kernel has what is wanted.
fn settle(
    desired: &Desired,
    kernel: &Kernel,
    observed: &mut Observed,
) -> Result<Result<(), PlanError>, PassError> {
    for _ in 0..ROUNDS {
        let actions = match plan::plan(desired, observed) {
            Ok(actions) => actions,
            Err(error) => return Ok(Err(error)),
        };
        if actions.is_empty() {
            return Ok(Ok(()));
        }
        for action in &actions {
            kernel.act(action)?;
        }
        *observed = kernel.observe()?;
    }
    Err(PassError::Unsettled)
}
