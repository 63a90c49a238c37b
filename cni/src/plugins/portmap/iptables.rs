//! Mappings by chains of iptables, for hosts whose firewall is written with it.

use super::conf::{Conf, Host, Mapping};
use crate::iptables::{Table, own_chain};
use crate::plugins::rules;
use crate::spec::{AddResult, AttachmentId, CniError, Code, Explain, IpConfig, Protocol};

const FAMILIES: [bool; 2] = [true, false];
const DNAT: &str = "CNI-HOSTPORT-DNAT";
const MARK: &str = "CNI-HOSTPORT-SETMARK";
const MASQUERADE: &str = "CNI-HOSTPORT-MASQ";
/// As many ports fit one rule.
const PORTS_A_RULE: usize = 15;

pub(super) fn add(conf: &Conf, owner: &str, before: &AddResult) -> Result<(), CniError> {
    for ip in addresses(before)? {
        let table = open(ip.address.is_ipv4())?;
        let lines = [shared(conf, &table), table.without(|it| it == owner), own(conf, owner, ip)].concat();
        table.change(&lines).explain(Code::Network, || "map host ports".into())?;
    }
    Ok(())
}

pub(super) fn del(owner: &str) -> Result<(), CniError> {
    remove(|it| it == owner)
}

pub(super) fn gc(network: &str, valid: &[AttachmentId]) -> Result<(), CniError> {
    let prefix = rules::network_prefix(network);
    let keep: Vec<String> = valid.iter().map(|it| rules::owner(network, it)).collect();
    remove(|owner| owner.starts_with(&prefix) && !keep.iter().any(|it| it == owner))
}

pub(super) fn check(conf: &Conf, owner: &str, before: &AddResult) -> Result<(), CniError> {
    let lost = |msg: String| Err(CniError::new(Code::CheckFailed, msg));
    let chain = own_chain("CNI-DN-", owner);
    for ip in addresses(before)? {
        let wanted = conf.mappings.iter().filter(|it| belongs(it, ip)).count();
        let table = open(ip.address.is_ipv4())?;
        if wanted > 0 && !table.rules(DNAT).any(|it| it.contains(&chain)) {
            return lost(format!("chain {DNAT} does not lead to {chain} any more"));
        }
        if table.rules(&chain).filter(|it| it.contains("-j DNAT")).count() < wanted {
            return lost(format!("chain {chain} has lost a mapping"));
        }
    }
    Ok(())
}

pub(super) fn ready() -> Result<(), CniError> {
    open(true).map(drop)
}

fn open(ipv4: bool) -> Result<Table, CniError> {
    Table::open(ipv4, "nat").explain(Code::Network, || "read iptables".into())
}

fn addresses(before: &AddResult) -> Result<Vec<&IpConfig>, CniError> {
    let first = |ipv4| before.ips.iter().find(|ip| ip.address.is_ipv4() == ipv4);
    let found: Vec<&IpConfig> = FAMILIES.into_iter().filter_map(first).collect();
    if found.is_empty() {
        let msg = "portmap: the container has no address (prevResult.ips is empty)";
        return Err(CniError::new(Code::InvalidConfig, msg));
    }
    Ok(found)
}

/// Chains that all containers share, as far as they are missing.
fn shared(conf: &Conf, table: &Table) -> Vec<String> {
    let mut lines = Vec::new();
    let mut ensure = |chain: &str, rule: String| {
        if !table.rules(chain).any(|it| it == rule) {
            lines.push(format!("-A {chain} {rule}"));
        }
    };
    for chain in ["PREROUTING", "OUTPUT"] {
        ensure(chain, format!("-m addrtype --dst-type LOCAL -j {DNAT}"));
    }
    if conf.mark_chain.is_none() {
        let bit = format!("{0:#x}/{0:#x}", conf.mark());
        ensure("POSTROUTING", format!("-j {MASQUERADE}"));
        ensure(MARK, format!("-j MARK --set-xmark {bit}"));
        ensure(MASQUERADE, format!("-m mark --mark {bit} -j MASQUERADE"));
    }
    let chains: &[&str] = if conf.mark_chain.is_none() { &[DNAT, MARK, MASQUERADE] } else { &[DNAT] };
    let missing = chains.iter().filter(|chain| !table.has_chain(chain));
    missing.map(|chain| format!(":{chain} - [0:0]")).chain(lines).collect()
}

/// The chain of one container, and the way to it.
fn own(conf: &Conf, owner: &str, ip: &IpConfig) -> Vec<String> {
    let (ipv4, addr) = (ip.address.is_ipv4(), ip.address.addr());
    let mappings: Vec<&Mapping> = conf.mappings.iter().filter(|it| belongs(it, ip)).collect();
    if mappings.is_empty() {
        return vec![];
    }
    let chain = own_chain("CNI-DN-", owner);
    let mut lines = vec![format!(":{chain} - [0:0]")];
    let conditions = if ipv4 { &conf.conditions_v4 } else { &conf.conditions_v6 };
    let conditions: String = conditions.iter().map(|it| format!(" {}", quoted(it))).collect();
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        let of_protocol = mappings.iter().filter(|it| it.protocol == protocol);
        let mut ports: Vec<String> = of_protocol.map(|it| it.host_port.to_string()).collect();
        ports.dedup();
        for some in ports.chunks(PORTS_A_RULE) {
            lines.push(format!(
                "-A {DNAT} -p {} -m comment --comment \"{owner}\" -m multiport --dports {}{conditions} -j {chain}",
                protocol.as_str(),
                some.join(",")
            ));
        }
    }
    let mark = conf.mark_chain.as_deref().unwrap_or(MARK);
    for mapping in mappings {
        let host = match mapping.host {
            Host::One(host) => format!(" -d {host}"),
            Host::Any | Host::AnyV4 | Host::AnyV6 => String::new(),
        };
        let to_port = format!("-p {}{host} --dport {}", mapping.protocol.as_str(), mapping.host_port);
        if conf.masquerade_all {
            lines.push(format!("-A {chain} {to_port} -j {mark}"));
        } else if conf.snat {
            lines.push(format!("-A {chain} -s {} {to_port} -j {mark}", ip.address.network()));
            if ipv4 {
                lines.push(format!("-A {chain} -s 127.0.0.0/8 {to_port} -j {mark}"));
            }
        }
        let target = if ipv4 { addr.to_string() } else { format!("[{addr}]") };
        let port = mapping.container_port;
        lines.push(format!("-A {chain} {to_port} -j DNAT --to-destination {target}:{port}"));
    }
    lines
}

fn belongs(mapping: &Mapping, ip: &IpConfig) -> bool {
    match mapping.host {
        Host::Any => true,
        Host::AnyV4 => ip.address.is_ipv4(),
        Host::AnyV6 => !ip.address.is_ipv4(),
        Host::One(host) => host.is_ipv4() == ip.address.is_ipv4(),
    }
}

fn quoted(word: &str) -> String {
    if word.contains(|it: char| it.is_whitespace() || it == '"') {
        format!("\"{}\"", word.replace('"', "\\\""))
    } else {
        word.to_owned()
    }
}

fn remove(picked: impl Fn(&str) -> bool) -> Result<(), CniError> {
    let mut failures = Vec::new();
    for ipv4 in FAMILIES {
        let done = Table::open(ipv4, "nat").and_then(|table| table.change(&table.without(&picked)));
        failures.extend(done.explain(Code::Network, || "unmap host ports".into()).err());
    }
    CniError::all(failures)
}
