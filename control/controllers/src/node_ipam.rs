//! Every node gets a pod network of its own out of the cluster's.

use crate::shared::{Context, NODES, Shared};
use crate::views::Node;
use crate::work::{self, Reconcile, Requeue};
use coracle_client::{CallError, Calls, Change, EventRecorder, Key, ObjectRef, Store, WorkQueue};
use serde::de::IgnoredAny;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Why a cluster network can't be used.
#[derive(Debug, thiserror::Error)]
#[error("cluster CIDR {0:?} is no network wide enough to give one to each node")]
pub struct CidrError(String);

/// A range that is cut into equal networks, one per node.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    base: u128,
    prefix: u8,
    node_prefix: u8,
    bits: u8,
}

/// Prefix lengths of the networks that nodes get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeMasks {
    /// Of IPv4.
    pub v4: u8,
    /// Of IPv6.
    pub v6: u8,
}

impl Default for NodeMasks {
    fn default() -> Self {
        Self { v4: 24, v6: 64 }
    }
}

impl Range {
    pub(crate) fn parse(text: &str, masks: NodeMasks) -> Result<Self, CidrError> {
        let bad = || CidrError(text.to_owned());
        let (address, prefix) = network(text).ok_or_else(bad)?;
        let (bits, node_prefix) = if address.is_ipv4() { (32, masks.v4) } else { (128, masks.v6) };
        if prefix > node_prefix || node_prefix > bits || node_prefix - prefix > 16 {
            return Err(bad());
        }
        let mask = u128::MAX << (bits - prefix);
        Ok(Self { base: number(address) & mask, prefix, node_prefix, bits })
    }

    /// How many nodes it is enough for.
    const fn count(&self) -> u128 {
        1 << (self.node_prefix - self.prefix)
    }

    /// The network of this number.
    fn network(&self, index: u128) -> String {
        let address = self.base + (index << (self.bits - self.node_prefix));
        let address: IpAddr = if self.bits == 32 {
            std::net::Ipv4Addr::from(u32::try_from(address).unwrap_or(0)).into()
        } else {
            std::net::Ipv6Addr::from(address).into()
        };
        format!("{address}/{}", self.node_prefix)
    }

    /// The numbers that a network, of whatever size, takes away.
    fn taken_by(&self, text: &str) -> std::ops::Range<u128> {
        let Some((address, prefix)) = network(text) else { return 0..0 };
        let foreign = (self.bits == 32) != text.contains('.');
        let address = number(address);
        // A network that holds the whole range.
        let mask = u128::MAX.checked_shl(u32::from(self.bits.saturating_sub(prefix))).unwrap_or(0);
        if !foreign && prefix <= self.prefix && self.base & mask == address & mask {
            return 0..self.count();
        }
        let end = self.base + (self.count() << (self.bits - self.node_prefix));
        if foreign || address < self.base || address >= end {
            return 0..0;
        }
        let first = (address - self.base) >> (self.bits - self.node_prefix);
        let width = if prefix >= self.node_prefix { 1 } else { 1 << (self.node_prefix - prefix).min(20) };
        first..(first + width).min(self.count())
    }

    /// The first network that none of `used` takes.
    fn free<'a>(&self, used: impl Iterator<Item = &'a str>) -> Option<String> {
        let taken: BTreeSet<u128> = used.flat_map(|text| self.taken_by(text)).collect();
        (0..self.count()).find(|index| !taken.contains(index)).map(|index| self.network(index))
    }
}

/// Whether an address lies in a network.
pub(crate) fn within(text: &str, address: IpAddr) -> bool {
    let Some((base, prefix)) = network(text) else { return false };
    let bits = if base.is_ipv4() { 32 } else { 128 };
    let shift = u32::from(bits - prefix);
    base.is_ipv4() == address.is_ipv4()
        && number(base).checked_shr(shift) == number(address).checked_shr(shift)
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    (prefix > 0 && prefix <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, prefix))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(it) => u128::from(u32::from(it)),
        IpAddr::V6(it) => u128::from(it),
    }
}

struct Ipam {
    calls: Calls,
    events: EventRecorder,
    nodes: Store<Node>,
    ranges: Vec<Range>,
    /// Never given.
    reserved: Vec<String>,
    /// Given away, but maybe not in the cache yet.
    given: Mutex<HashMap<String, Vec<String>>>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context, shared: &Shared, ranges: Vec<Range>, reserved: Vec<String>) {
    let queue = Arc::new(WorkQueue::new());
    let controller = Ipam {
        calls: context.calls.clone(),
        events: context.events("node-ipam-controller"),
        nodes: shared.nodes.store(),
        ranges,
        reserved,
        given: Mutex::new(HashMap::new()),
    };
    let for_nodes = Arc::clone(&queue);
    shared.nodes.on_change(move |change| match change {
        Change::Added(node) | Change::Updated { new: node, .. } if !node.spec.pod_cidrs.is_empty() => {}
        change => {
            if let Some(node) = change.object() {
                for_nodes.add(Key::new("", &node.metadata.name));
            }
        }
    });
    // One worker: two would give the same network twice.
    work::start(controller, &queue, 1, &context.tracker, &context.token);
}

impl Reconcile for Ipam {
    const NAME: &'static str = "node-ipam";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, CallError> {
        let Some(node) = self.nodes.get(key) else {
            self.given.lock().unwrap_or_else(PoisonError::into_inner).remove(&key.name);
            return Ok(Requeue::Done);
        };
        if !node.spec.pod_cidrs.is_empty() {
            return Ok(Requeue::Done);
        }
        let Some(networks) = self.take(&key.name) else {
            let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
            self.events.normal(&ObjectRef::of("v1", "Node", &node.metadata), "CIDRNotAvailable", message);
            tracing::warn!(node = %key.name, "no pod network left for the node");
            return Ok(Requeue::Done);
        };
        let patch = json!({"metadata": {"uid": node.metadata.uid},
            "spec": {"podCIDR": networks[0], "podCIDRs": networks}});
        match self.calls.strategic::<IgnoredAny>(&NODES.object("", &key.name), &patch).await {
            Err(err) if err.is_not_found() => Ok(Requeue::Done),
            result => result.map(|_| Requeue::Done),
        }
    }
}

impl Ipam {
    /// One network of each range, the same again if it was given already.
    fn take(&self, node: &str) -> Option<Vec<String>> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(networks) = given.get(node) {
            return Some(networks.clone());
        }
        let nodes = self.nodes.list();
        let used = || {
            let seen = nodes
                .iter()
                .flat_map(|it| it.spec.pod_cidrs.iter().chain(std::iter::once(&it.spec.pod_cidr)));
            seen.chain(given.values().flatten()).chain(&self.reserved).map(String::as_str)
        };
        let networks: Vec<_> = self.ranges.iter().map(|range| range.free(used())).collect::<Option<_>>()?;
        given.insert(node.to_owned(), networks.clone());
        Some(networks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_network() {
        let check = |range: &str, used: &str, want: &str| {
            let got = Range::parse(range, NodeMasks::default()).unwrap().free(used.split_whitespace());
            assert_eq!(got.as_deref().unwrap_or("none"), want, "{range} without {used}");
        };
        check("10.244.0.0/16", "", "10.244.0.0/24");
        check("10.244.3.7/16", "10.244.0.0/24 10.244.2.0/24", "10.244.1.0/24");
        check("10.244.0.0/16", "10.244.0.0/22", "10.244.4.0/24");
        check("10.244.0.0/16", "10.244.0.128/25 10.1.0.0/24 fd00::/64 x", "10.244.1.0/24");
        check("10.244.7.0/24", "", "10.244.7.0/24");
        check("10.244.6.0/23", "10.244.6.0/24 10.244.7.0/24", "none");
        check("fd00:1::/56", "fd00:1::/64", "fd00:1:0:1::/64");
        // Of a network that holds the whole range, nothing is left; of one inside it, the rest.
        check("10.244.0.0/16", "10.0.0.0/8", "none");
        check("10.244.0.0/16", "10.244.0.0/17", "10.244.128.0/24");
    }

    #[test]
    fn what_lies_in_a_network() {
        let check = |text: &str, address: &str, want: bool| {
            assert_eq!(within(text, address.parse().unwrap()), want, "{address} in {text}");
        };
        check("10.96.0.0/16", "10.96.0.1", true);
        check("10.96.0.0/16", "10.97.0.1", false);
        check("10.96.0.7/32", "10.96.0.7", true);
        check("fd00::/64", "fd00::1", true);
        check("fd00::/64", "fd00:0:0:1::1", false);
        check("fd00::/64", "10.96.0.1", false);
    }

    #[test]
    fn nodes_get_as_much_as_they_should() {
        let masks = NodeMasks { v4: 26, v6: 80 };
        let first = |text| Range::parse(text, masks).map(|it| it.free(["10.244.0.0/26"].into_iter()));
        assert_eq!(first("10.244.0.0/16").unwrap().as_deref(), Some("10.244.0.64/26"));
        assert_eq!(first("fd00::/64").unwrap().as_deref(), Some("fd00::/80"));
        assert!(first("10.0.0.0/27").is_err() && first("fd00::/56").is_err());
        assert!(Range::parse("10.0.0.0/24", NodeMasks { v4: 33, v6: 64 }).is_err());
    }

    #[test]
    fn ranges_that_cannot_be_cut_are_named() {
        for text in ["10.0.0.0/25", "10.0.0.0", "fd00::/20", "x/16", "10.0.0.0/0"] {
            assert!(Range::parse(text, NodeMasks::default()).unwrap_err().to_string().contains(text));
        }
    }
}
