//! Masquerade by a chain of iptables for each container.

use crate::address::Cidr;
use crate::iptables::{Table, own_chain};
use crate::plugins::rules;
use crate::spec::{AttachmentId, CniError, Code, Explain};

const FAMILIES: [bool; 2] = [true, false];

pub(super) fn add(network: &str, attachment: &AttachmentId, ips: &[Cidr]) -> Result<(), CniError> {
    let owner = rules::owner(network, attachment);
    let say = || format!("masquerade for container {}", attachment.container_id);
    for ipv4 in FAMILIES {
        let ips: Vec<&Cidr> = ips.iter().filter(|ip| ip.is_ipv4() == ipv4).collect();
        if ips.is_empty() {
            continue;
        }
        let table = Table::open(ipv4, "nat").explain(Code::Network, say)?;
        let chain = own_chain("CNI-", &owner);
        // What a DEL that never came left goes first.
        let mut lines = table.without(|it| it == owner);
        lines.insert(0, format!(":{chain} - [0:0]"));
        if lines.len() > 1 {
            lines.push(format!(":{chain} - [0:0]"));
        }
        for ip in &ips {
            lines.push(format!("-A {chain} -d {} -j ACCEPT", ip.network()));
        }
        let groups = if ipv4 { "224.0.0.0/4" } else { "ff00::/8" };
        lines.push(format!("-A {chain} ! -d {groups} -j MASQUERADE"));
        for ip in &ips {
            let source = Cidr::host(ip.addr());
            lines.push(format!("-A POSTROUTING -s {source} -m comment --comment \"{owner}\" -j {chain}"));
        }
        table.change(&lines).explain(Code::Network, say)?;
    }
    Ok(())
}

pub(super) fn del(network: &str, attachment: &AttachmentId) -> Result<(), CniError> {
    let owner = rules::owner(network, attachment);
    remove(|it| it == owner)
}

pub(super) fn check(network: &str, attachment: &AttachmentId, ips: &[Cidr]) -> Result<(), CniError> {
    let owner = rules::owner(network, attachment);
    let chain = own_chain("CNI-", &owner);
    for ipv4 in FAMILIES {
        for ip in ips.iter().filter(|ip| ip.is_ipv4() == ipv4) {
            let table = Table::open(ipv4, "nat").explain(Code::Network, || "read iptables".into())?;
            let source = format!("-s {} ", Cidr::host(ip.addr()));
            let jumps = table.rules("POSTROUTING").any(|it| it.contains(&source) && it.contains(&chain));
            if !jumps || !table.rules(&chain).any(|it| it.contains("-j MASQUERADE")) {
                let msg = format!("{} is not masqueraded any more", ip.addr());
                return Err(CniError::new(Code::CheckFailed, msg));
            }
        }
    }
    Ok(())
}

pub(super) fn gc(network: &str, valid: &[AttachmentId]) -> Result<(), CniError> {
    let prefix = rules::network_prefix(network);
    let keep: Vec<String> = valid.iter().map(|it| rules::owner(network, it)).collect();
    remove(|owner| owner.starts_with(&prefix) && !keep.iter().any(|it| it == owner))
}

fn remove(picked: impl Fn(&str) -> bool) -> Result<(), CniError> {
    let mut failures = Vec::new();
    for ipv4 in FAMILIES {
        let done = Table::open(ipv4, "nat").and_then(|table| table.change(&table.without(&picked)));
        failures.extend(done.explain(Code::Network, || "stop masquerading".into()).err());
    }
    CniError::all(failures)
}
