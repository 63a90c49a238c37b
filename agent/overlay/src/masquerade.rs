//! Pods outside the cluster: with the host's address. Inside it every pod is seen by its own.

use coracle_cni::Cidr;
use coracle_cni::netlink::nft::{Batch, Expr, Family, Hook, Rule, Selector, are_there};
use coracle_cni::netlink::{Netlink, NetlinkError};
use std::net::IpAddr;

/// The overlay's own nftables table.
pub const TABLE: &str = "coracle_overlay";

const CHAIN: &str = "leave";

/// Makes the rules be there; when they are, nothing is touched.
pub fn ensure(netlink: &Netlink, own: &[Cidr], networks: &[Cidr]) -> Result<(), NetlinkError> {
    let wanted = rules(own, networks);
    if are_there(netlink, Selector { family: Family::Inet, table: TABLE }, &wanted)? && !wanted.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new(Family::Inet, TABLE);
    batch.table().chain(CHAIN, Some(Hook { kind: "nat", point: 4, priority: 100 })).flush(CHAIN);
    for rule in &wanted {
        batch.rule(rule);
    }
    batch.commit(netlink)
}

fn rules(own: &[Cidr], networks: &[Cidr]) -> Vec<Rule> {
    let mut all = Vec::new();
    for from in own {
        let ipv4 = from.is_ipv4();
        // A node's own network need not be one of the cluster's.
        let near = networks.iter().chain([from]).filter(|it| it.is_ipv4() == ipv4);
        let groups: Cidr = if ipv4 { GROUPS4 } else { GROUPS6 }.parse().unwrap_or(*from);
        for to in near.chain([&groups]) {
            let mut steps = family(ipv4);
            steps.extend(within(from, true));
            steps.extend(within(to, false));
            steps.push(Expr::Accept);
            all.push(Rule::new(CHAIN, steps));
        }
        let mut steps = family(ipv4);
        steps.extend(within(from, true));
        steps.push(Expr::Masquerade);
        all.push(Rule::new(CHAIN, steps));
    }
    all
}

const GROUPS4: &str = "224.0.0.0/4";
const GROUPS6: &str = "ff00::/8";

fn family(ipv4: bool) -> Vec<Expr> {
    vec![Expr::NfProto(1), Expr::Equal(1, vec![if ipv4 { 2 } else { 10 }])]
}

/// Go on only with packets from, or to, a network.
fn within(network: &Cidr, source: bool) -> [Expr; 3] {
    let ipv4 = network.is_ipv4();
    let (offset, length) = match (ipv4, source) {
        (true, true) => (12, 4),
        (true, false) => (16, 4),
        (false, true) => (8, 16),
        (false, false) => (24, 16),
    };
    let bits = |number: usize| u8::MAX.checked_shl(8 - u32::try_from(number).unwrap_or(8)).unwrap_or(0);
    let prefix = usize::from(network.prefix());
    let bytes = if ipv4 { 4 } else { 16 };
    let mask = (0..bytes)
        .map(|at| match prefix.saturating_sub(at * 8).min(8) {
            8 => u8::MAX,
            number => bits(number),
        })
        .collect();
    let wanted = match network.network().addr() {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    [Expr::Network { offset, length, to: 1 }, Expr::Mask(1, mask), Expr::Equal(1, wanted)]
}
