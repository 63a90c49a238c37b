//! What one service with its endpoints means: elements of maps, and chains for what maps cannot say. Pure.

use crate::config::PodTraffic;
use crate::views::{Conditions, Service, ServicePort, Slice};
use coracle_cni::Cidr;
use coracle_cni::spec::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Family; 2] = [Family::V4, Family::V6];

    pub(crate) fn of(addr: IpAddr) -> Family {
        if addr.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The ending of names.
    pub(crate) fn digit(self) -> char {
        if self == Family::V4 { '4' } else { '6' }
    }

    /// The protocol's name in expressions.
    pub(crate) fn ip(self) -> &'static str {
        if self == Family::V4 { "ip" } else { "ip6" }
    }
}

/// What clients connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Front {
    pub(crate) family: Family,
    /// None for the node's own addresses.
    pub(crate) addr: Option<IpAddr>,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// One element of a set, or of a map when it has a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Element {
    pub(crate) object: String,
    pub(crate) key: String,
    pub(crate) value: Option<String>,
}

/// Everything that one service adds to the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) elements: BTreeSet<Element>,
    /// Chains that many services share: they follow from their names, and stay.
    pub(crate) shared: BTreeMap<String, Vec<String>>,
    /// Chains of this service alone.
    pub(crate) chains: BTreeMap<String, Vec<String>>,
    /// Sets of this service alone, with their definitions.
    pub(crate) sets: BTreeMap<String, String>,
    /// The backends behind each UDP front: flows to any other are stale.
    pub(crate) udp: BTreeMap<Front, BTreeSet<SocketAddr>>,
}

/// What does not depend on the service.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) pods: PodTraffic,
    pub(crate) mark: u32,
}

impl Node {
    /// Matches packets of pods, and those of all others; nothing when pods are not known.
    fn match_pods(&self, family: Family) -> Option<(String, String)> {
        let (ip, digit) = (family.ip(), family.digit());
        match &self.pods {
            PodTraffic::Cidrs(cidrs) if cidrs.iter().any(|cidr| Family::of(cidr.addr()) == family) => {
                Some((format!("{ip} saddr @pods{digit}"), format!("{ip} saddr != @pods{digit}")))
            }
            PodTraffic::Interface(name) => {
                Some((format!("iifname \"{name}\""), format!("iifname != \"{name}\"")))
            }
            PodTraffic::Cidrs(_) | PodTraffic::Unknown => None,
        }
    }
}

/// One backend of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Backend {
    addr: SocketAddr,
    local: bool,
    ready: bool,
    /// Serves although it is about to end.
    lingering: bool,
}

/// The fronts of a service, before any is refused because another service has it.
pub(crate) fn fronts(service: &Service) -> Vec<Front> {
    let mut fronts = Vec::new();
    for (port, protocol) in ports(service) {
        let vips = service.cluster_ips().into_iter().chain(external(service));
        fronts.extend(vips.map(|addr| Front {
            family: Family::of(addr),
            addr: Some(addr),
            protocol,
            port: port.port,
        }));
        if port.node_port > 0 {
            let families: BTreeSet<Family> = service.cluster_ips().into_iter().map(Family::of).collect();
            let front = |family| Front { family, addr: None, protocol, port: port.node_port };
            fronts.extend(families.into_iter().map(front));
        }
    }
    fronts.sort();
    fronts.dedup();
    fronts
}

/// The meaning of a service; `granted` are those of its fronts that it may have.
pub(crate) fn rules(service: &Service, slices: &[&Slice], node: &Node, granted: &BTreeSet<Front>) -> Rules {
    let mut rules = Rules::default();
    for (port, protocol) in ports(service) {
        for family in Family::BOTH {
            if !service.cluster_ips().iter().any(|ip| Family::of(*ip) == family) {
                continue;
            }
            let backends = backends(slices, port, protocol, family, &node.name);
            Port { service, port, protocol, family, node, backends: &backends }.write(&mut rules, granted);
        }
    }
    rules
}

/// One port of a service in one family.
struct Port<'a> {
    service: &'a Service,
    port: &'a ServicePort,
    protocol: Protocol,
    family: Family,
    node: &'a Node,
    backends: &'a [Backend],
}

impl Port<'_> {
    fn write(&self, rules: &mut Rules, granted: &BTreeSet<Front>) {
        let all = usable(self.backends.iter());
        let local = usable(self.backends.iter().filter(|backend| backend.local));
        let spec = &self.service.spec;
        let of_family = |ip: &IpAddr| Family::of(*ip) == self.family;
        for addr in self.service.cluster_ips().into_iter().filter(of_family) {
            rules.add(self.family, "cluster_ips", addr.to_string(), None);
            let front = self.front(Some(addr), self.port.port);
            let near = spec.internal_traffic_policy == "Local";
            if granted.contains(&front) {
                self.inside(rules, front, if near { &local } else { &all }, all.is_empty());
            }
        }
        let outside =
            external(self.service).filter(of_family).map(|addr| self.front(Some(addr), self.port.port));
        let node_port = Some(self.front(None, self.port.node_port)).filter(|_| self.port.node_port > 0);
        for front in outside.chain(node_port).filter(|front| granted.contains(front)) {
            self.outside(rules, front, &all, &local);
        }
        for addr in load_balancers(self.service).filter(of_family) {
            self.source_ranges(rules, self.front(Some(addr), self.port.port));
        }
        for backend in self.backends.iter().filter(|backend| backend.local) {
            let ip = backend.addr.ip();
            rules.add(self.family, "hairpin", format!("{ip} . {ip}"), None);
        }
    }

    /// A cluster IP. Without any endpoint it is refused by a rule for all cluster IPs.
    fn inside(&self, rules: &mut Rules, front: Front, chosen: &[SocketAddr], nowhere: bool) {
        self.flows(rules, front, chosen);
        if chosen.is_empty() {
            if !nowhere {
                rules.add(self.family, "refused", key(front), Some("drop".into())); // no endpoint on this node
            }
            return;
        }
        let target = self.target(rules, front, chosen, "");
        let verdict = match self.node.match_pods(self.family) {
            None => target,
            Some((_, others)) => {
                let wrapper = format!("{target}/cluster");
                let mark = format!("{others} {}", self.mark());
                self.wrap(rules, &wrapper, &target, vec![mark, format!("goto {target}")]);
                wrapper
            }
        };
        rules.add(self.family, "services", key(front), Some(format!("goto {verdict}")));
    }

    /// A node port, external IP or load balancer's IP.
    fn outside(&self, rules: &mut Rules, front: Front, all: &[SocketAddr], local: &[SocketAddr]) {
        self.flows(rules, front, all);
        let (services, refused) = match front.addr {
            Some(_) => ("services", "refused"),
            None => ("nodeports", "refused_nodeports"),
        };
        if all.is_empty() {
            rules.add(self.family, refused, key(front), Some("goto refuse".into()));
            return;
        }
        let target = self.target(rules, front, all, "");
        let masked = format!("{target}/masq");
        self.wrap(rules, &masked, &target, vec![self.mark(), format!("goto {target}")]);
        let verdict = if self.service.spec.external_traffic_policy == "Local" {
            let near = match local {
                [] => "drop".to_owned(),
                _ => format!("goto {}", self.target(rules, front, local, "local")),
            };
            let wrapper = format!("{target}/{}", near.trim_start_matches("goto "));
            let mut body = Vec::new();
            // Pods and the node itself are not outside: they reach every endpoint.
            if let Some((pods, _)) = self.node.match_pods(self.family) {
                body.push(format!("{pods} goto {target}"));
            }
            body.extend([format!("fib saddr type local goto {masked}"), near]);
            self.wrap(rules, &wrapper, &target, body);
            wrapper
        } else {
            masked
        };
        rules.add(self.family, services, key(front), Some(format!("goto {verdict}")));
    }

    /// Makes what chooses one of `chosen`; the name of its chain.
    fn target(&self, rules: &mut Rules, front: Front, chosen: &[SocketAddr], scope: &str) -> String {
        if self.service.spec.session_affinity == "ClientIP" {
            return self.sticky(rules, chosen, scope);
        }
        let pick = Pick {
            family: self.family,
            node: front.addr.is_none(),
            local: scope == "local",
            count: chosen.len(),
        };
        for (number, addr) in chosen.iter().enumerate() {
            let value = format!("{} . {}", addr.ip(), addr.port());
            rules.add(self.family, &pick.map(), format!("{} . {number}", key(front)), Some(value));
        }
        rules.shared.insert(pick.name(), pick.body());
        pick.name()
    }

    /// A chain that sends a client where it was sent before, while that endpoint is there.
    fn sticky(&self, rules: &mut Rules, chosen: &[SocketAddr], scope: &str) -> String {
        let (ip, digit) = (self.family.ip(), self.family.digit());
        let meta = &self.service.metadata;
        let protocol = self.protocol.as_str();
        let identity = format!("{}/{}:{}/{protocol}", meta.namespace, meta.name, self.port.name);
        let timeout = self.service.spec.session_affinity_config.as_ref();
        let timeout =
            timeout.and_then(|it| it.client_ip.as_ref()).and_then(|it| it.timeout_seconds).unwrap_or(10_800);
        let (mut known, mut verdicts) = (Vec::new(), Vec::new());
        for (number, addr) in chosen.iter().enumerate() {
            // The name says which endpoint it is, so that what is remembered of clients ends with it and no sooner.
            let name = format!("{:016x}{digit}", digest(&format!("{identity}/{addr}/{timeout}")));
            let addr_type = if self.family == Family::V4 { "ipv4_addr" } else { "ipv6_addr" };
            let flags = format!("type {addr_type}; size 65535; flags dynamic,timeout; timeout {timeout}s;");
            rules.sets.insert(format!("clients-{name}"), flags);
            let remember = format!("update @clients-{name} {{ {ip} saddr }}");
            let there = format!("meta l4proto {protocol} dnat {ip} to {addr}");
            rules.chains.insert(format!("endpoint-{name}"), vec![remember, there]);
            known.push(format!("{ip} saddr @clients-{name} goto endpoint-{name}"));
            verdicts.push(format!("{number} : goto endpoint-{name}"));
        }
        known.push(format!("numgen random mod {} vmap {{ {} }}", chosen.len(), verdicts.join(", ")));
        let name = format!("sticky{scope}-{:016x}{digit}", digest(&identity));
        rules.chains.insert(name.clone(), known);
        name
    }

    /// A chain around a target: shared when the target is.
    fn wrap(&self, rules: &mut Rules, name: &str, target: &str, body: Vec<String>) {
        let own = rules.chains.contains_key(target);
        if own { &mut rules.chains } else { &mut rules.shared }.insert(name.to_owned(), body);
    }

    fn source_ranges(&self, rules: &mut Rules, front: Front) {
        let ranges = &self.service.spec.load_balancer_source_ranges;
        if ranges.is_empty() {
            return;
        }
        rules.add(self.family, "fenced", key(front), None);
        let ranges = ranges.iter().filter_map(|text| text.trim().parse::<Cidr>().ok());
        for range in ranges.filter(|range| Family::of(range.addr()) == self.family) {
            rules.add(self.family, "let_in", format!("{} . {}", key(front), range.network()), None);
        }
    }

    fn flows(&self, rules: &mut Rules, front: Front, chosen: &[SocketAddr]) {
        if self.protocol == Protocol::Udp {
            rules.udp.insert(front, chosen.iter().copied().collect());
        }
    }

    fn front(&self, addr: Option<IpAddr>, port: u16) -> Front {
        Front { family: self.family, addr, protocol: self.protocol, port }
    }

    fn mark(&self) -> String {
        format!("meta mark set meta mark or {:#x}", self.node.mark)
    }
}

impl Rules {
    fn add(&mut self, family: Family, object: &str, key: String, value: Option<String>) {
        self.elements.insert(Element { object: format!("{object}{}", family.digit()), key, value });
    }
}

/// A chain that takes one of `count` backends at random; all services with so many share it.
struct Pick {
    family: Family,
    node: bool,
    local: bool,
    count: usize,
}

impl Pick {
    /// The map that leads from a front and a number to a backend.
    fn map(&self) -> String {
        format!("{}{}endpoints", if self.node { "node_" } else { "" }, if self.local { "local_" } else { "" })
    }

    fn name(&self) -> String {
        let (node, local) = (if self.node { "node" } else { "" }, if self.local { "local" } else { "" });
        format!("pick{node}{local}{}-{}", self.family.digit(), self.count)
    }

    fn body(&self) -> Vec<String> {
        let (ip, digit) = (self.family.ip(), self.family.digit());
        let daddr = if self.node { String::new() } else { format!("{ip} daddr . ") };
        let (random, map) = (format!("numgen random mod {}", self.count), self.map());
        vec![format!("dnat {ip} to {daddr}meta l4proto . th dport . {random} map @{map}{digit}")]
    }
}

/// The chains that choose among few backends. They are there from the start: nft 1.0.6 can only write such a
/// rule together with its map, so that a new one needs the whole table.
pub(crate) fn usual_picks() -> BTreeMap<String, Vec<String>> {
    let mut picks = BTreeMap::new();
    for family in Family::BOTH {
        for (node, local) in [(false, false), (false, true), (true, false), (true, true)] {
            for count in 1..=8 {
                let pick = Pick { family, node, local, count };
                picks.insert(pick.name(), pick.body());
            }
        }
    }
    picks
}

fn key(front: Front) -> String {
    let addr = front.addr.map(|addr| format!("{addr} . ")).unwrap_or_default();
    format!("{addr}{} . {}", front.protocol.as_str(), front.port)
}

/// The ready ones; when there are none, those that still serve while they end.
fn usable<'a>(backends: impl Iterator<Item = &'a Backend> + Clone) -> Vec<SocketAddr> {
    let ready: Vec<SocketAddr> = backends.clone().filter(|it| it.ready).map(|it| it.addr).collect();
    if ready.is_empty() { backends.filter(|it| it.lingering).map(|it| it.addr).collect() } else { ready }
}

fn backends(
    slices: &[&Slice],
    port: &ServicePort,
    protocol: Protocol,
    family: Family,
    node: &str,
) -> Vec<Backend> {
    let kind = if family == Family::V4 { "IPv4" } else { "IPv6" };
    let mut found: BTreeMap<SocketAddr, Backend> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.address_type == kind) {
        let numbers = slice.ports.iter().filter(|it| it.name.as_deref().unwrap_or_default() == port.name);
        let numbers =
            numbers.filter(|it| parse_protocol(it.protocol.as_deref().unwrap_or_default()) == Some(protocol));
        for number in numbers.filter_map(|it| it.port) {
            for endpoint in &slice.endpoints {
                let Some(ip) = endpoint.addresses.first().and_then(|ip| ip.parse().ok()) else { continue };
                let addr = SocketAddr::new(ip, number);
                let Conditions { ready, serving, terminating } = endpoint.conditions;
                let ready = ready.unwrap_or(true);
                let lingering = serving.unwrap_or(ready) && terminating.unwrap_or(false);
                let local = endpoint.node_name.as_deref() == Some(node);
                let backend = Backend { addr, local, ready, lingering };
                // The same endpoint may stand in two slices while it moves: the readier one is true.
                let known = found.entry(addr).or_insert(backend);
                known.ready |= ready;
                known.lingering |= lingering;
            }
        }
    }
    found.into_values().collect()
}

fn ports(service: &Service) -> impl Iterator<Item = (&ServicePort, Protocol)> {
    service.spec.ports.iter().filter_map(|port| Some((port, parse_protocol(&port.protocol)?)))
}

fn parse_protocol(text: &str) -> Option<Protocol> {
    match text {
        "" | "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

fn external(service: &Service) -> impl Iterator<Item = IpAddr> {
    let external = service.spec.external_ips.iter().filter_map(|ip| ip.parse().ok());
    external.chain(load_balancers(service))
}

/// IPs of the load balancer; one in mode Proxy wants its packets for itself.
fn load_balancers(service: &Service) -> impl Iterator<Item = IpAddr> {
    let ingress = service.status.load_balancer.ingress.iter().filter(|_| service.spec.kind == "LoadBalancer");
    ingress.filter(|it| it.ip_mode != "Proxy").filter_map(|it| it.ip.parse().ok())
}

/// FNV-1a: chain names only have to be short and their own.
fn digest(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
