//! The rules, and the elements that one attachment adds to their maps.

use super::conf::{Conf, Host};
use crate::plugins::rules::{self, Element, TABLE};
use crate::spec::{AddResult, CniError, Code, IpConfig, Protocol};

/// `one`: a port of one address of the host. `any`: of all. `back`: sources whose answers would not come back
/// through the host by themselves. `all`: containers that never see a client's address.
pub(super) const SETS: [&str; 8] = ["one4", "one6", "any4", "any6", "back4", "back6", "all4", "all6"];

/// One element.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) set: &'static str,
    pub(super) key: String,
    value: Option<String>,
    /// The host's port, where flows outlive a mapping.
    pub(super) udp_port: Option<u16>,
}

/// The table without elements; loading it again changes nothing.
pub(super) fn definitions() -> String {
    let mut text = format!("table inet {TABLE} {{\n");
    for (family, addr) in [("4", "ipv4_addr"), ("6", "ipv6_addr")] {
        text += &format!(
            "  map one{family} {{ type {addr} . inet_proto . inet_service : {addr} . inet_service; }}
  map any{family} {{ type inet_proto . inet_service : {addr} . inet_service; }}
  set back{family} {{ type {addr} . {addr}; flags interval; }}
  set all{family} {{ type {addr}; }}
"
        );
    }
    text += "  chain hostports { }
  chain hostports_in { type nat hook prerouting priority dstnat; policy accept; }
  chain hostports_local { type nat hook output priority -100; policy accept; }
  chain hostports_back { type nat hook postrouting priority srcnat - 5; policy accept; }
  chain hostports_guard { type filter hook input priority filter; policy accept; }
}
";
    for chain in ["hostports", "hostports_in", "hostports_local", "hostports_back", "hostports_guard"] {
        text += &format!("flush chain inet {TABLE} {chain}\n");
    }
    text + &format!(
        "table inet {TABLE} {{
  chain hostports {{
    dnat ip to ip daddr . meta l4proto . th dport map @one4
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6
    meta nfproto ipv4 dnat ip to meta l4proto . th dport map @any4
    ip6 daddr != ::1 dnat ip6 to meta l4proto . th dport map @any6
  }}
  chain hostports_in {{ fib daddr type local jump hostports; }}
  chain hostports_local {{ fib daddr type local jump hostports; }}
  chain hostports_back {{
    ct status dnat ip saddr . ip daddr @back4 masquerade fully-random
    ct status dnat ip6 saddr . ip6 daddr @back6 masquerade fully-random
    ct status dnat ip daddr @all4 masquerade fully-random
    ct status dnat ip6 daddr @all6 masquerade fully-random
  }}
  chain hostports_guard {{
    iifname != \"lo\" ip daddr 127.0.0.0/8 ct state new,invalid,untracked drop
  }}
}}
"
    )
}

/// What the mappings of one attachment add.
pub(super) fn entries(conf: &Conf, before: &AddResult) -> Result<Vec<Entry>, CniError> {
    let mut entries = Vec::new();
    if conf.mappings.is_empty() {
        return Ok(entries);
    }
    let families = [true, false].map(|ipv4| before.ips.iter().find(|ip| ip.address.is_ipv4() == ipv4));
    if families.iter().all(Option::is_none) {
        return Err(CniError::new(
            Code::InvalidConfig,
            "portmap: the container has no address (prevResult.ips is empty)",
        ));
    }
    for ip in families.into_iter().flatten() {
        entries.extend(of_family(conf, ip));
    }
    Ok(entries)
}

/// The text that adds them.
pub(super) fn text(entries: &[Entry], owner: &str) -> String {
    let line = |entry: &Entry| match &entry.value {
        Some(value) => rules::add_text(entry.set, &entry.key, Some(value), owner),
        None => rules::replace_text(entry.set, &entry.key, owner),
    };
    entries.iter().map(line).collect()
}

/// The UDP ports of the host among listed elements.
pub(super) fn udp_ports(elements: &[Element]) -> Vec<u16> {
    let port = |element: &Element| {
        let mut words = element.key.rsplit(" . ");
        let port = words.next()?.parse().ok()?;
        (words.next()? == Protocol::Udp.as_str()).then_some(port)
    };
    elements
        .iter()
        .filter(|it| it.set.starts_with("one") || it.set.starts_with("any"))
        .filter_map(port)
        .collect()
}

fn of_family(conf: &Conf, ip: &IpConfig) -> Vec<Entry> {
    let (addr, ipv4) = (ip.address.addr(), ip.address.is_ipv4());
    let mut entries = Vec::new();
    for mapping in &conf.mappings {
        let port = format!("{} . {}", mapping.protocol.as_str(), mapping.host_port);
        let (set, key) = match mapping.host {
            Host::Any => (if ipv4 { "any4" } else { "any6" }, port),
            Host::AnyV4 if ipv4 => ("any4", port),
            Host::AnyV6 if !ipv4 => ("any6", port),
            Host::One(host) if host.is_ipv4() == ipv4 => {
                (if ipv4 { "one4" } else { "one6" }, format!("{host} . {port}"))
            }
            Host::AnyV4 | Host::AnyV6 | Host::One(_) => continue,
        };
        let value = Some(format!("{addr} . {}", mapping.container_port));
        let udp_port = (mapping.protocol == Protocol::Udp).then_some(mapping.host_port);
        entries.push(Entry { set, key, value, udp_port });
    }
    if entries.is_empty() {
        return entries;
    }
    let plain = |set, key| Entry { set, key, value: None, udp_port: None };
    if conf.masquerade_all {
        entries.push(plain(if ipv4 { "all4" } else { "all6" }, addr.to_string()));
    } else if conf.snat {
        let back = if ipv4 { "back4" } else { "back6" };
        entries.push(plain(back, format!("{} . {addr}", ip.address.network())));
        if ipv4 {
            entries.push(plain(back, format!("127.0.0.0/8 . {addr}")));
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::super::conf::Mapping;
    use super::*;

    fn check(host: Host, protocol: Protocol, ips: &[&str], wanted: &[&str]) {
        let mapping = Mapping { protocol, host_port: 8080, container_port: 80, host };
        let conf = Conf { mappings: vec![mapping], snat: true, masquerade_all: false };
        let ip = |text: &&str| IpConfig { interface: None, address: text.parse().unwrap(), gateway: None };
        let before = AddResult { ips: ips.iter().map(ip).collect(), ..AddResult::default() };
        let got = entries(&conf, &before).unwrap();
        let line = |it: &Entry| {
            format!("{} {}", it.set, [it.key.as_str(), it.value.as_deref().unwrap_or("")].join(" > "))
        };
        let got: Vec<String> = got.iter().map(line).map(|it| it.trim_end_matches(" > ").to_owned()).collect();
        assert_eq!(got, wanted, "{host:?} {ips:?}");
    }

    #[test]
    fn mappings_become_elements() {
        let back4 = ["back4 10.1.0.0/24 . 10.1.0.5", "back4 127.0.0.0/8 . 10.1.0.5"];
        let (v4, v6) = ("10.1.0.5/24", "fd00::5/64");
        check(Host::Any, Protocol::Tcp, &[v4], &["any4 tcp . 8080 > 10.1.0.5 . 80", back4[0], back4[1]]);
        check(Host::AnyV6, Protocol::Tcp, &[v4], &[]);
        check(
            Host::AnyV6,
            Protocol::Sctp,
            &[v4, v6],
            &["any6 sctp . 8080 > fd00::5 . 80", "back6 fd00::/64 . fd00::5"],
        );
        let host = Host::One("192.0.2.1".parse().unwrap());
        check(
            host,
            Protocol::Udp,
            &[v4, v6],
            &["one4 192.0.2.1 . udp . 8080 > 10.1.0.5 . 80", back4[0], back4[1]],
        );
    }

    #[test]
    fn ports_of_listed_elements() {
        let element =
            |set: &str, key: &str| Element { set: set.into(), key: key.into(), owner: String::new() };
        let listed = [
            element("any4", "udp . 53"),
            element("any4", "tcp . 80"),
            element("one4", "192.0.2.1 . udp . 5353"),
            element("back4", "10.1.0.0/24 . 10.1.0.5"),
        ];
        assert_eq!(udp_ports(&listed), [53, 5353]);
    }
}
