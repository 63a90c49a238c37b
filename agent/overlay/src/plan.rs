//! Nodes and what the kernel has -> what is to be done, for one IP family.

use crate::config::Backend;
use coracle_cni::Cidr;
use coracle_cni::netlink::{Address, FdbEntry, Link, LinkChange, Mac, Neighbour, RouteSpec, Vxlan};
use std::net::IpAddr;

/// The mark on our routes: the kernel's number for whoever made them.
pub const PROTOCOL: u8 = 76;

/// The text on our links: without it, a link is another program's until a node is to be reached through it.
pub const ALIAS: &str = "coracle overlay";

const BY_KERNEL: u8 = 2;
const TABLE_MAIN: u32 = 254;

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Where its host is.
    pub address: IpAddr,
    /// The addresses of its pods.
    pub subnet: Cidr,
    /// The hardware address of its end of the VXLAN.
    pub mac: Option<Mac>,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Desired {
    /// This node's own address.
    pub address: IpAddr,
    /// The addresses of its own pods.
    pub subnet: Cidr,
    /// The hardware address of its end of a VXLAN that is to be made.
    pub mac: Mac,
    /// How packets travel.
    pub backend: Backend,
    /// The number of the VXLAN.
    pub vni: u32,
    /// Its UDP port.
    pub port: u16,
    /// The other nodes, each hardware address and network once: see [`distinct`].
    pub peers: Vec<Peer>,
}

/// What the kernel has.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses.
    pub addresses: Vec<Address>,
    /// All routes.
    pub routes: Vec<RouteSpec>,
    /// All neighbours that are set for good.
    pub neighbours: Vec<Neighbour>,
    /// All entries that say behind which host a hardware address is.
    pub fdb: Vec<FdbEntry>,
}

/// One step.
#[derive(Debug)]
pub enum Action {
    /// Remove a link.
    DeleteLink(u32),
    /// Make the VXLAN. All else comes with the next plan, which knows its number.
    CreateLink {
        /// Its name.
        name: String,
        /// Its hardware address.
        mac: Mac,
        /// Its packet size.
        mtu: u32,
        /// Its settings.
        vxlan: Vxlan,
    },
    /// Change it.
    ChangeLink(u32, LinkChange),
    /// Give it an address.
    AddAddress(u32, Cidr),
    /// Take an address from it.
    DeleteAddress(u32, Cidr),
    /// Say behind which host a hardware address is.
    SetFdb(FdbEntry),
    /// Forget that.
    DeleteFdb(FdbEntry),
    /// Say which hardware address an address has.
    SetNeighbour(Neighbour),
    /// Forget that.
    DeleteNeighbour(Neighbour),
    /// Set a route.
    SetRoute(RouteSpec),
    /// Remove a route.
    DeleteRoute(RouteSpec),
}

/// Why nothing can be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Packets to other nodes have no way out.
    #[error("no link has this node's address {0}: its pods do not reach other nodes")]
    NoUplink(IpAddr),
    /// A link of another kind has the name.
    #[error("link {name} is of kind {kind:?}, not vxlan: pods do not reach other nodes")]
    NameTaken {
        /// The name.
        name: String,
        /// What it is.
        kind: String,
    },
}

/// The name of the VXLAN's link, as flannel names it.
pub fn link_name(vni: u32, ipv4: bool) -> String {
    if ipv4 { format!("flannel.{vni}") } else { format!("flannel-v6.{vni}") }
}

/// The peers with which a node can live: of several with the same hardware address or with networks that overlap,
/// the first by name; none that overlaps its own network. The others are returned apart.
pub fn distinct(own: Cidr, mut peers: Vec<Peer>) -> (Vec<Peer>, Vec<Peer>) {
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    let (mut macs, mut subnets) = (std::collections::HashSet::new(), std::collections::BTreeMap::new());
    peers.into_iter().partition(|peer| {
        let (first, last) = (peer.subnet.network().addr(), peer.subnet.last());
        // Networks are nested or apart, so the nearest that begins at or before the end of this one tells.
        let nearest = subnets.range(..=last).next_back().is_some_and(|(_, end)| *end >= first);
        if nearest || peer.subnet.overlaps(&own) || peer.mac.is_some_and(|mac| !macs.insert(mac.0)) {
            return false;
        }
        subnets.insert(first, last);
        true
    })
}

/// The link that has this node's address.
pub fn uplink(address: IpAddr, observed: &Observed) -> Option<&Link> {
    let link = observed.addresses.iter().find(|it| it.cidr.addr() == address)?.link;
    observed.links.iter().find(|it| it.index == link)
}

/// The packet size of pods; nothing when packets do not leave this host anyway.
pub fn pod_mtu(address: IpAddr, backend: Backend, observed: &Observed) -> Option<u32> {
    let link = uplink(address, observed).filter(|it| it.name != "lo")?;
    Some(link.mtu.saturating_sub(backend.overhead(address.is_ipv4())))
}

/// What is to be done. Nothing, when all is as wanted.
pub fn plan(desired: &Desired, observed: &Observed) -> Result<Vec<Action>, PlanError> {
    let ipv4 = desired.address.is_ipv4();
    let name = link_name(desired.vni, ipv4);
    let link = observed.links.iter().find(|it| it.name == name);
    let wraps = matches!(desired.backend, Backend::Vxlan { .. });
    let mut actions = Vec::new();
    if desired.peers.is_empty() || !wraps {
        // Nobody to reach through it. One that we did not make may be somebody else's.
        if let Some(link) = link.filter(|it| it.alias == ALIAS) {
            actions.push(Action::DeleteLink(link.index));
        }
        let direct = desired.peers.iter().map(|peer| (peer, None)).collect();
        match uplink(desired.address, observed) {
            Some(uplink) => routes(desired, direct, uplink.index, None, observed, &mut actions),
            None if desired.peers.is_empty() => {}
            None => return Err(PlanError::NoUplink(desired.address)),
        }
        return Ok(actions);
    }
    let uplink = uplink(desired.address, observed).ok_or(PlanError::NoUplink(desired.address))?;
    let vxlan = Vxlan {
        id: desired.vni,
        port: desired.port,
        local: Some(desired.address),
        parent: Some(uplink.index),
        learning: false,
    };
    let mtu = uplink.mtu.saturating_sub(desired.backend.overhead(ipv4));
    let link = match link {
        Some(link) if link.kind != "vxlan" => {
            return Err(PlanError::NameTaken { name, kind: link.kind.clone() });
        }
        Some(link) if link.vxlan == Some(vxlan) => link,
        other => {
            actions.extend(other.map(|it| Action::DeleteLink(it.index)));
            actions.push(Action::CreateLink { name, mac: desired.mac, mtu, vxlan });
            return Ok(actions);
        }
    };
    let change = LinkChange {
        up: (!link.up).then_some(true),
        mtu: (link.mtu != mtu).then_some(mtu),
        alias: (link.alias != ALIAS).then(|| ALIAS.to_owned()),
        mac: (link.mac != Some(desired.mac)).then_some(desired.mac),
        ..LinkChange::default()
    };
    if change.up.is_some() || change.mtu.is_some() || change.alias.is_some() || change.mac.is_some() {
        actions.push(Action::ChangeLink(link.index, change));
    }
    address(desired, link.index, observed, &mut actions);

    let same_network = observed.addresses.iter().filter(|it| it.link == uplink.index && !it.link_scope);
    let near: Vec<Cidr> = same_network.map(|it| it.cidr).collect();
    let direct_routing = desired.backend == Backend::Vxlan { direct_routing: true };
    let way = |peer: &Peer| {
        let direct = direct_routing && near.iter().any(|it| it.contains(peer.address));
        if direct { None } else { peer.mac }
    };
    let ways: Vec<(&Peer, Option<Mac>)> = desired.peers.iter().map(|peer| (peer, way(peer))).collect();
    entries(&ways, link.index, observed, &mut actions);
    routes(desired, ways, uplink.index, Some(link.index), observed, &mut actions);
    Ok(actions)
}

/// The link's own address: the first of this node's pods, a network of its own.
fn address(desired: &Desired, link: u32, observed: &Observed, actions: &mut Vec<Action>) {
    let own = Cidr::host(desired.subnet.network().addr());
    let have = observed.addresses.iter().filter(|it| it.link == link && !it.link_scope);
    let have: Vec<Cidr> = have.map(|it| it.cidr).filter(|it| it.is_ipv4() == own.is_ipv4()).collect();
    let others = have.iter().filter(|it| **it != own);
    actions.extend(others.map(|it| Action::DeleteAddress(link, *it)));
    if !have.contains(&own) {
        actions.push(Action::AddAddress(link, own));
    }
}

/// Where frames go: behind which host a hardware address is, and which one an address has.
fn entries(ways: &[(&Peer, Option<Mac>)], link: u32, observed: &Observed, actions: &mut Vec<Action>) {
    use std::collections::HashMap;
    let wrapped = || ways.iter().filter_map(|(peer, mac)| Some((*peer, (*mac)?)));
    let hosts: HashMap<[u8; 6], IpAddr> = wrapped().map(|(peer, mac)| (mac.0, peer.address)).collect();
    let macs: HashMap<IpAddr, Mac> =
        wrapped().map(|(peer, mac)| (peer.subnet.network().addr(), mac)).collect();
    let (mut hosts_there, mut macs_there) = (HashMap::new(), HashMap::new());
    let ipv4 = ways.first().is_none_or(|(peer, _)| peer.address.is_ipv4());
    for it in observed.fdb.iter().filter(|it| it.link == link) {
        hosts_there.insert(it.mac.0, it.host);
        if !hosts.contains_key(&it.mac.0) {
            actions.push(Action::DeleteFdb(*it));
        }
    }
    for it in observed.neighbours.iter().filter(|it| it.link == link && it.addr.is_ipv4() == ipv4) {
        macs_there.insert(it.addr, it.mac);
        if !macs.contains_key(&it.addr) {
            actions.push(Action::DeleteNeighbour(*it));
        }
    }
    for (peer, mac) in wrapped() {
        if hosts_there.get(&mac.0) != Some(&peer.address) {
            actions.push(Action::SetFdb(FdbEntry { link, mac, host: peer.address }));
        }
        let addr = peer.subnet.network().addr();
        if macs_there.get(&addr) != Some(&mac) {
            actions.push(Action::SetNeighbour(Neighbour { link, addr, mac }));
        }
    }
}

/// Routes to the pods of each peer: through the VXLAN where it has a hardware address there, else through its host.
fn routes(
    desired: &Desired,
    ways: Vec<(&Peer, Option<Mac>)>,
    uplink: u32,
    link: Option<u32>,
    observed: &Observed,
    actions: &mut Vec<Action>,
) {
    let wanted: std::collections::HashMap<Cidr, RouteSpec> = ways
        .into_iter()
        .map(|(peer, mac)| {
            let through = link.filter(|_| mac.is_some());
            let dst = peer.subnet.network();
            let gateway = if through.is_some() { dst.addr() } else { peer.address };
            let route = RouteSpec {
                dst,
                gateway: Some(gateway),
                link: through.unwrap_or(uplink),
                priority: 0,
                table: None,
                scope: None,
                mtu: 0,
                advmss: 0,
                onlink: through.is_some(),
                protocol: Some(PROTOCOL),
            };
            (dst, route)
        })
        .collect();
    let mut there = std::collections::HashSet::new();
    let family = desired.subnet.is_ipv4();
    let main = observed.routes.iter().filter(|it| it.table == Some(TABLE_MAIN) && it.dst.is_ipv4() == family);
    for route in main {
        let ours = route.protocol == Some(PROTOCOL)
            || (Some(route.link) == link && route.protocol != Some(BY_KERNEL));
        match wanted.get(&route.dst) {
            Some(want) if same(want, route) => {
                there.insert(route.dst);
            }
            // It is replaced.
            Some(_) if family => {}
            _ if ours => actions.push(Action::DeleteRoute(route.clone())),
            _ => {}
        }
    }
    let mut missing: Vec<RouteSpec> =
        wanted.into_values().filter(|route| !there.contains(&route.dst)).collect();
    missing.sort_by_key(|route| route.dst);
    actions.extend(missing.into_iter().map(Action::SetRoute));
}

fn same(want: &RouteSpec, have: &RouteSpec) -> bool {
    // The kernel gives IPv6 routes without a priority one of its own.
    let priority = if want.dst.is_ipv4() { 0 } else { 1024 };
    want.dst == have.dst
        && want.gateway == have.gateway
        && want.link == have.link
        && (want.onlink == have.onlink || !want.dst.is_ipv4())
        && have.priority == priority
}
