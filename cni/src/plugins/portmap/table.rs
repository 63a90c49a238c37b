//! The rules, and the elements that one attachment adds to their maps.

use super::conf::{Conf, Host};
use crate::netlink::nft::{Datum, Element, Expr, Family, Field, Hook, Rule, Set};
use crate::plugins::rules::{self, Part};
use crate::spec::{AddResult, CniError, Code, IpConfig, Protocol};

const fn set(name: &'static str, key: &'static [Field], value: &'static [Field], ranges: bool) -> Set {
    Set { name, key, value, ranges }
}

/// A port of one address of the host.
static ONE4: Set =
    set("one4", &[Field::Ipv4, Field::Protocol, Field::Port], &[Field::Ipv4, Field::Port], false);
static ONE6: Set =
    set("one6", &[Field::Ipv6, Field::Protocol, Field::Port], &[Field::Ipv6, Field::Port], false);
/// A port of all of them.
static ANY4: Set = set("any4", &[Field::Protocol, Field::Port], &[Field::Ipv4, Field::Port], false);
static ANY6: Set = set("any6", &[Field::Protocol, Field::Port], &[Field::Ipv6, Field::Port], false);
/// Sources whose answers would not come back through the host by themselves.
static BACK4: Set = set("back4", &[Field::Ipv4, Field::Ipv4], &[], true);
static BACK6: Set = set("back6", &[Field::Ipv6, Field::Ipv6], &[], true);
/// Containers that never see a client's address.
static ALL4: Set = set("all4", &[Field::Ipv4], &[], false);
static ALL6: Set = set("all6", &[Field::Ipv6], &[], false);
/// All of them.
static SETS: [&Set; 8] = [&ONE4, &ANY4, &BACK4, &ALL4, &ONE6, &ANY6, &BACK6, &ALL6];

const PORTS: &str = "hostports";
const IN: &str = "hostports_in";
const LOCAL: &str = "hostports_local";
const BACK: &str = "hostports_back";
const GUARD: &str = "hostports_guard";
/// What routing calls an address of the host.
const LOCAL_ADDRESS: u32 = 2;
const STATUS_DNAT: u32 = 1 << 5;
/// invalid, new, untracked.
const STATE_NOT_ASKED_FOR: u32 = 1 | 8 | 64;

const fn hook(kind: &'static str, point: u32, priority: i32) -> Option<Hook> {
    Some(Hook { kind, point, priority })
}

/// What we keep in the plugins' table.
pub(super) static PART: Part = Part {
    family: Family::Inet,
    sets: &SETS,
    chains: &[
        (PORTS, None),
        (IN, hook("nat", 0, -100)),
        (LOCAL, hook("nat", 3, -100)),
        (BACK, hook("nat", 4, 95)),
        (GUARD, hook("filter", 1, 0)),
    ],
    rules: all_rules,
};

fn all_rules() -> Vec<Rule> {
    let mut all = Vec::new();
    to_containers(&mut all);
    for chain in [IN, LOCAL] {
        let local = Expr::Equal(1, LOCAL_ADDRESS.to_ne_bytes().to_vec());
        all.push(Rule::new(chain, vec![Expr::DestinationKind(1), local, Expr::Jump(PORTS)]));
    }
    and_back(&mut all);
    // What comes in for localhost from elsewhere: our routing of it must not let strangers in.
    let lo = Expr::NotEqual(1, b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec());
    let mut guard = vec![Expr::InputName(1), lo];
    guard.extend(rules::only(true));
    guard.extend([Expr::Network { offset: 16, length: 1, to: 1 }, Expr::Equal(1, vec![127])]);
    guard.extend([Expr::ConnectionState(1), Expr::Mask(1, STATE_NOT_ASKED_FOR.to_ne_bytes().to_vec())]);
    guard.extend([Expr::NotEqual(1, vec![0; 4]), Expr::Drop]);
    all.push(Rule::new(GUARD, guard));
    all
}

fn to_containers(all: &mut Vec<Rule>) {
    for (ipv4, one) in [(true, &ONE4), (false, &ONE6)] {
        let mut steps = rules::only(ipv4).to_vec();
        let (protocol, port) = if ipv4 { (9, 10) } else { (2, 13) };
        steps.extend([
            rules::address(ipv4, false, 1),
            Expr::L4Proto(protocol),
            Expr::DestinationPort(port),
            Expr::Map(one, 1, 1),
            Expr::Dnat { ipv4, addr: 1, port: rules::after(ipv4) },
        ]);
        all.push(Rule::new(PORTS, steps));
    }
    for (ipv4, any) in [(true, &ANY4), (false, &ANY6)] {
        let mut steps = rules::only(ipv4).to_vec();
        if !ipv4 {
            // IPv6 has no way to route its localhost.
            let localhost = std::net::Ipv6Addr::LOCALHOST.octets().to_vec();
            steps.extend([rules::address(false, false, 1), Expr::NotEqual(1, localhost)]);
        }
        steps.extend([Expr::L4Proto(1), Expr::DestinationPort(9), Expr::Map(any, 1, 1)]);
        steps.push(Expr::Dnat { ipv4, addr: 1, port: rules::after(ipv4) });
        all.push(Rule::new(PORTS, steps));
    }
}

fn and_back(all: &mut Vec<Rule>) {
    let translated = [
        Expr::ConnectionStatus(1),
        Expr::Mask(1, STATUS_DNAT.to_ne_bytes().to_vec()),
        Expr::NotEqual(1, vec![0; 4]),
    ];
    let mut masquerade = |ipv4, steps: Vec<Expr>| {
        let steps = [translated.to_vec(), rules::only(ipv4).to_vec(), steps, vec![Expr::Masquerade]];
        all.push(Rule::new(BACK, steps.concat()));
    };
    for (ipv4, back) in [(true, &BACK4), (false, &BACK6)] {
        let pair = [rules::address(ipv4, true, 1), rules::address(ipv4, false, rules::after(ipv4))];
        masquerade(ipv4, [pair.to_vec(), vec![Expr::In(back, 1)]].concat());
    }
    for (ipv4, set) in [(true, &ALL4), (false, &ALL6)] {
        masquerade(ipv4, vec![rules::address(ipv4, false, 1), Expr::In(set, 1)]);
    }
}

/// What the mappings of one attachment add.
pub(super) fn entries(conf: &Conf, before: &AddResult, owner: &str) -> Result<Vec<Element>, CniError> {
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
        entries.extend(of_family(conf, ip, owner));
    }
    Ok(entries)
}

/// The UDP ports of the host among these elements.
pub(super) fn udp_ports(elements: &[Element]) -> Vec<u16> {
    let udp = |element: &&Element| element.field(Field::Protocol) == Some(&[Protocol::Udp.number()]);
    let port = |element: &Element| Some(u16::from_be_bytes(element.field(Field::Port)?.try_into().ok()?));
    elements.iter().filter(udp).filter_map(port).collect()
}

fn of_family(conf: &Conf, ip: &IpConfig, owner: &str) -> Vec<Element> {
    let (addr, ipv4) = (ip.address.addr(), ip.address.is_ipv4());
    let pick = |v4: &'static Set, v6: &'static Set| if ipv4 { v4 } else { v6 };
    let (mut entries, mut mapped) = (Vec::new(), false);
    for mapping in &conf.mappings {
        let port = [Datum::Protocol(mapping.protocol.number()), Datum::Port(mapping.host_port)];
        let (set, key) = match mapping.host {
            Host::Any => (pick(&ANY4, &ANY6), port.to_vec()),
            Host::AnyV4 if ipv4 => (&ANY4, port.to_vec()),
            Host::AnyV6 if !ipv4 => (&ANY6, port.to_vec()),
            Host::One(host) if host.is_ipv4() == ipv4 => {
                (pick(&ONE4, &ONE6), [vec![Datum::Ip(host)], port.to_vec()].concat())
            }
            Host::AnyV4 | Host::AnyV6 | Host::One(_) => continue,
        };
        mapped = true;
        if conf.is_conditional() {
            continue; // a rule leads there, not an element
        }
        let value = [Datum::Ip(addr), Datum::Port(mapping.container_port)];
        entries.push(Element::new(set, &key, &value, owner));
    }
    if !mapped {
        return entries;
    }
    let mut plain = |set, key: &[Datum]| entries.push(Element::new(set, key, &[], owner));
    if conf.masquerade_all {
        plain(pick(&ALL4, &ALL6), &[Datum::Ip(addr)]);
    } else if conf.snat {
        plain(pick(&BACK4, &BACK6), &[Datum::Net(ip.address.network()), Datum::Ip(addr)]);
        if let (true, Ok(localhost)) = (ipv4, "127.0.0.0/8".parse()) {
            plain(&BACK4, &[Datum::Net(localhost), Datum::Ip(addr)]);
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
        let conf = Conf::of(mapping);
        let ip = |text: &&str| IpConfig { interface: None, address: text.parse().unwrap(), gateway: None };
        let before = AddResult { ips: ips.iter().map(ip).collect(), ..AddResult::default() };
        let line = |it: &Element| format!("{} {} > {}", it.set.name, it.key(), it.value());
        let got = entries(&conf, &before, "me").unwrap();
        let got: Vec<String> = got.iter().map(|it| line(it).trim_end_matches(" > ").to_owned()).collect();
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
        let port = |protocol: Protocol, port| [Datum::Protocol(protocol.number()), Datum::Port(port)];
        let host = Datum::Ip("192.0.2.1".parse().unwrap());
        let listed = [
            Element::new(&ANY4, &port(Protocol::Udp, 53), &[], ""),
            Element::new(&ANY4, &port(Protocol::Tcp, 80), &[], ""),
            Element::new(&ONE4, &[vec![host.clone()], port(Protocol::Udp, 5353).to_vec()].concat(), &[], ""),
            Element::new(&BACK4, &[Datum::Net("10.1.0.0/24".parse().unwrap()), host], &[], ""),
        ];
        assert_eq!(udp_ports(&listed), [53, 5353]);
    }
}
