//! Rules of the table `filter`: what containers send, and answers to it, is accepted when it is forwarded.

use crate::address::Cidr;
use crate::iptables::Table;
use crate::plugins::rules;
use crate::spec::{AttachmentId, CniError, Code, Explain, IpConfig};

const FAMILIES: [bool; 2] = [true, false];
const FORWARD: &str = "CNI-FORWARD";
const STAGE_1: &str = "CNI-ISOLATION-STAGE-1";
const STAGE_2: &str = "CNI-ISOLATION-STAGE-2";

pub(super) fn add(owner: &str, ips: &[IpConfig], admin_chain: &str) -> Result<(), CniError> {
    for_each_family(ips, "let the container's packets pass", |table, ips| {
        let mut lines = Vec::new();
        for chain in [FORWARD, admin_chain] {
            if !table.has_chain(chain) {
                lines.push(format!(":{chain} - [0:0]"));
            }
        }
        if !table.rules("FORWARD").any(|it| it.ends_with(&format!("-j {FORWARD}"))) {
            let comment = "CNI firewall plugin rules";
            lines.push(format!("-I FORWARD 1 -m comment --comment \"{comment}\" -j {FORWARD}"));
        }
        if !table.rules(FORWARD).any(|it| it.ends_with(&format!("-j {admin_chain}"))) {
            let comment = "CNI firewall plugin admin overrides";
            lines.push(format!("-I {FORWARD} 1 -m comment --comment \"{comment}\" -j {admin_chain}"));
        }
        lines.extend(table.without(|it| it == owner));
        for ip in ips {
            let addr = Cidr::host(ip.address.addr());
            let tail = format!("-m comment --comment \"{owner}\" -j ACCEPT");
            lines.push(format!("-A {FORWARD} -d {addr} -m conntrack --ctstate RELATED,ESTABLISHED {tail}"));
            lines.push(format!("-A {FORWARD} -s {addr} {tail}"));
        }
        lines
    })
}

pub(super) fn del(owner: &str) -> Result<(), CniError> {
    remove(|it| it == owner)
}

pub(super) fn gc(network: &str, valid: &[AttachmentId]) -> Result<(), CniError> {
    let prefix = rules::network_prefix(network);
    let keep: Vec<String> = valid.iter().map(|it| rules::owner(network, it)).collect();
    remove(|owner| owner.starts_with(&prefix) && !keep.iter().any(|it| it == owner))
}

pub(super) fn check(owner: &str, ips: &[IpConfig]) -> Result<(), CniError> {
    let lost = |msg: String| Err(CniError::new(Code::CheckFailed, msg));
    for ipv4 in FAMILIES {
        let mut ips = ips.iter().filter(|ip| ip.address.is_ipv4() == ipv4).peekable();
        if ips.peek().is_none() {
            continue;
        }
        let table = Table::open(ipv4, "filter").explain(Code::Network, || "read iptables".into())?;
        if !table.rules("FORWARD").any(|it| it.ends_with(&format!("-j {FORWARD}"))) {
            return lost(format!("chain FORWARD does not lead to {FORWARD} any more"));
        }
        for ip in ips {
            let addr = Cidr::host(ip.address.addr());
            for side in ["-s", "-d"] {
                let begin = format!("{side} {addr} ");
                if !table.rules(FORWARD).any(|it| it.starts_with(&begin) && it.contains(owner)) {
                    return lost(format!("chain {FORWARD} has lost its rule {begin}"));
                }
            }
        }
    }
    Ok(())
}

pub(super) fn ready() -> Result<(), CniError> {
    Table::open(true, "filter").map(drop).explain(Code::Network, || "read iptables".into())
}

/// Drops what is forwarded from one bridge to another, or with `isolated` from a bridge to itself too.
pub(super) fn keep_apart(bridge: &str, isolated: bool, ips: &[IpConfig]) -> Result<(), CniError> {
    for_each_family(ips, "keep bridges apart", |table, _| {
        let mut lines = Vec::new();
        for chain in [STAGE_1, STAGE_2] {
            if !table.has_chain(chain) {
                lines.push(format!(":{chain} - [0:0]"));
                lines
                    .push(format!("-A {chain} -m comment --comment \"CNI firewall plugin rules\" -j RETURN"));
            }
        }
        if !table.rules("FORWARD").any(|it| it.ends_with(&format!("-j {STAGE_1}"))) {
            lines.push(format!(
                "-I FORWARD 1 -m comment --comment \"CNI firewall plugin rules\" -j {STAGE_1}"
            ));
        }
        let out = if isolated { String::new() } else { format!(" ! -o {bridge}") };
        let wanted =
            [(STAGE_1, format!("-i {bridge}{out} -j {STAGE_2}")), (STAGE_2, format!("-o {bridge} -j DROP"))];
        for (chain, rule) in wanted {
            if !table.rules(chain).any(|it| it == rule) {
                lines.push(format!("-I {chain} 1 {rule}"));
            }
        }
        lines
    })
}

fn for_each_family(
    ips: &[IpConfig],
    what: &str,
    change: impl Fn(&Table, &[&IpConfig]) -> Vec<String>,
) -> Result<(), CniError> {
    for ipv4 in FAMILIES {
        let ips: Vec<&IpConfig> = ips.iter().filter(|ip| ip.address.is_ipv4() == ipv4).collect();
        if !ips.is_empty() {
            let done = Table::open(ipv4, "filter").and_then(|table| table.change(&change(&table, &ips)));
            done.explain(Code::Network, || what.into())?;
        }
    }
    Ok(())
}

fn remove(picked: impl Fn(&str) -> bool) -> Result<(), CniError> {
    let mut failures = Vec::new();
    for ipv4 in FAMILIES {
        let done = Table::open(ipv4, "filter").and_then(|table| table.change(&table.without(&picked)));
        failures.extend(done.explain(Code::Network, || "remove the container's rules".into()).err());
    }
    CniError::all(failures)
}
