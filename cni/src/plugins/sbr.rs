//! `sbr`: routing by source address. What a container sends from an interface's address leaves by that interface,
//! whichever one has the default route.

use super::entry::{Call, Plugin};
use super::inside;
use crate::address::Cidr;
use crate::netlink::{Netlink, NetlinkError, RouteSpec, RuleSpec};
use crate::spec::{AddResult, CniError, Code, Explain, IpConfig};
use serde::Deserialize;

/// The plugin.
pub struct Sbr;

const FIRST_TABLE: u32 = 100;
const MAIN: u32 = 254;
/// The scope of routes to neighbours.
const LINK_SCOPE: u8 = 253;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Conf {
    /// The first table to use; the first free one from 100 when absent.
    table: Option<u32>,
}

impl Plugin for Sbr {
    fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        let conf: Conf = call.conf()?;
        let before = call.prev_result()?;
        let ifname = &call.request.ifname;
        let ips = own_ips(&before, ifname);
        if ips.is_empty() {
            let msg = format!("sbr: prevResult gives {ifname} no address");
            return Err(CniError::new(Code::InvalidConfig, msg));
        }
        inside::within(&call.netns()?, || {
            let netlink = open()?;
            let done = add(&netlink, ifname, &ips, conf.table);
            let done = done.explain(Code::Network, || format!("route by the addresses of {ifname}"));
            done.map_err(|err| err.and(remove(&netlink, &ips)))
        })??;
        Ok(before)
    }

    fn del(&self, call: &Call) -> Result<(), CniError> {
        let ifname = &call.request.ifname;
        let Some(netns) = call.netns_if_present()? else { return Ok(()) };
        let before = call.common.prev_result().ok().flatten();
        inside::within(&netns, || {
            let netlink = open()?;
            let say = || format!("look for the addresses of {ifname}");
            // The interface may be gone, or the result, but not both while there is something to remove.
            let mut addresses: Vec<Cidr> =
                before.iter().flat_map(|it| own_ips(it, ifname)).map(|ip| ip.address).collect();
            if let Some(link) = netlink.link(ifname).explain(Code::Network, say)? {
                let now = netlink.addresses(link.index).explain(Code::Network, say)?;
                addresses.extend(now.iter().map(|it| it.cidr));
            }
            remove_rules(&netlink, &addresses)
        })?
    }

    fn check(&self, call: &Call) -> Result<(), CniError> {
        let before = call.prev_result()?;
        let ifname = &call.request.ifname;
        let ips = own_ips(&before, ifname);
        inside::within(&call.netns()?, || {
            let netlink = open()?;
            let say = || format!("look at routes of {ifname}");
            let failed = |msg: String| Err(CniError::new(Code::CheckFailed, msg));
            let rules = netlink.rules().explain(Code::Network, say)?;
            let routes = netlink.routes().explain(Code::Network, say)?;
            for ip in &ips {
                let source = Cidr::host(ip.address.addr());
                let Some(rule) = rules.iter().find(|it| it.source == source) else {
                    return failed(format!("packets from {} have no rule any more", ip.address.addr()));
                };
                if !routes.iter().any(|it| it.table == Some(rule.table)) {
                    return failed(format!("routing table {} is empty", rule.table));
                }
            }
            Ok(())
        })?
    }

    fn gc(&self, _: &Call) -> Result<(), CniError> {
        Ok(()) // nothing of it is outside the container
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        call.conf::<Conf>().map(drop)
    }
}

fn open() -> Result<Netlink, CniError> {
    Netlink::open().explain(Code::Network, || "talk to the kernel".into())
}

fn own_ips(result: &AddResult, ifname: &str) -> Vec<IpConfig> {
    let named =
        |at: usize| result.interfaces.get(at).is_some_and(|it| it.name == ifname && !it.sandbox.is_empty());
    result.ips.iter().filter(|ip| ip.interface.is_none_or(named)).cloned().collect()
}

fn add(netlink: &Netlink, ifname: &str, ips: &[IpConfig], first: Option<u32>) -> Result<(), NetlinkError> {
    let link = netlink.link(ifname)?.unwrap_or_default().index;
    let present = netlink.routes()?;
    let plan = plan(link, ips, &present, &taken(netlink)?, first);
    for rule in &plan.rules {
        netlink.add_rule(rule)?;
    }
    for route in &plan.added {
        match netlink.add_route(route) {
            Err(err) if err.is_exists() => {}
            done => done?,
        }
    }
    for route in &plan.removed {
        match netlink.delete_route(route) {
            Err(err) if err.is_not_found() => {}
            done => done?,
        }
    }
    Ok(())
}

fn taken(netlink: &Netlink) -> Result<Vec<u32>, NetlinkError> {
    Ok(netlink
        .rules()?
        .iter()
        .map(|it| it.table)
        .chain(netlink.routes()?.iter().filter_map(|it| it.table))
        .collect())
}

/// What to change, in order.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    rules: Vec<RuleSpec>,
    added: Vec<RouteSpec>,
    removed: Vec<RouteSpec>,
}

/// A table for each address: the way out through its gateway, and all of its family's routes of the interface,
/// which leave the main table; routes to neighbours stay there too.
fn plan(link: u32, ips: &[IpConfig], present: &[RouteSpec], taken: &[u32], first: Option<u32>) -> Plan {
    let mut free = (first.unwrap_or(FIRST_TABLE)..).filter(|it| first.is_some() || !taken.contains(it));
    let mut plan = Plan { rules: vec![], added: vec![], removed: vec![] };
    let own: Vec<&RouteSpec> =
        present.iter().filter(|it| it.link == link && it.table == Some(MAIN)).collect();
    for ip in ips {
        let Some(table) = free.next() else { break };
        plan.rules.push(RuleSpec { source: Cidr::host(ip.address.addr()), table, priority: None });
        let (ipv4, plain) = (ip.address.is_ipv4(), |dst, gateway| RouteSpec {
            dst,
            gateway,
            link,
            priority: 0,
            table: Some(table),
            scope: None,
            mtu: 0,
            advmss: 0,
            onlink: false,
            protocol: None,
        });
        // Neighbours first, so that the gateway is known to be one.
        plan.added.push(plain(ip.address.network(), None));
        plan.added.extend(ip.gateway.map(|gateway| plain(everywhere(ipv4), Some(gateway))));
        for route in own.iter().filter(|it| it.dst.is_ipv4() == ipv4 && !is_neighbours(it)) {
            plan.added.push(RouteSpec { table: Some(table), ..(*route).clone() });
        }
    }
    let moved = own.iter().filter(|it| !is_neighbours(it));
    let served = |route: &&&RouteSpec| ips.iter().any(|ip| ip.address.is_ipv4() == route.dst.is_ipv4());
    plan.removed.extend(moved.filter(served).map(|it| (*it).clone()));
    plan
}

fn is_neighbours(route: &RouteSpec) -> bool {
    let kernels_own = !route.dst.is_ipv4() && (route.dst.prefix() == 64 && route.gateway.is_none());
    let multicast = !route.dst.is_ipv4() && route.dst.to_string().starts_with("ff");
    (route.scope == Some(LINK_SCOPE) && route.gateway.is_none()) || kernels_own || multicast
}

fn everywhere(ipv4: bool) -> Cidr {
    let zero: std::net::IpAddr = if ipv4 { [0; 4].into() } else { [0; 16].into() };
    Cidr::new(zero, 0).unwrap_or(Cidr::host(zero))
}

fn remove(netlink: &Netlink, ips: &[IpConfig]) -> Result<(), CniError> {
    remove_rules(netlink, &ips.iter().map(|ip| ip.address).collect::<Vec<_>>())
}

/// The tables' routes go with the interface.
fn remove_rules(netlink: &Netlink, addresses: &[Cidr]) -> Result<(), CniError> {
    let say = || "remove rules of routing by source".into();
    let sources: Vec<Cidr> = addresses.iter().map(|it| Cidr::host(it.addr())).collect();
    for rule in netlink.rules().explain(Code::Network, say)?.iter().filter(|it| sources.contains(&it.source))
    {
        match netlink.delete_rule(rule) {
            Err(err) if err.is_not_found() => {}
            done => done.explain(Code::Network, say)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> RouteSpec {
        let words: Vec<&str> = text.split(' ').collect();
        RouteSpec {
            dst: words[0].parse().unwrap(),
            gateway: words[1].parse().ok(),
            link: words[2].parse().unwrap(),
            priority: 0,
            table: Some(words[3].parse().unwrap()),
            scope: words.get(4).map(|it| it.parse().unwrap()),
            mtu: 0,
            advmss: 0,
            onlink: false,
            protocol: None,
        }
    }

    #[test]
    fn a_table_for_each_address() {
        let ip = |address: &str, gateway: &str| IpConfig {
            interface: None,
            address: address.parse().unwrap(),
            gateway: gateway.parse().ok(),
        };
        let present = [
            route("10.1.0.0/24 - 7 254 253"),
            route("0.0.0.0/0 10.1.0.1 7 254 0"),
            route("10.9.0.0/16 10.1.0.9 7 254 0"),
            route("0.0.0.0/0 10.2.0.1 8 254 0"),
        ];
        let got =
            plan(7, &[ip("10.1.0.5/24", "10.1.0.1"), ip("fd00::5/64", "")], &present, &[100, 254], None);
        let show = |it: &RouteSpec| {
            format!("{} {} {}", it.dst, it.gateway.map_or("-".into(), |it| it.to_string()), it.table.unwrap())
        };
        assert_eq!(
            got.added.iter().map(show).collect::<Vec<_>>(),
            [
                "10.1.0.0/24 - 101",
                "0.0.0.0/0 10.1.0.1 101",
                "0.0.0.0/0 10.1.0.1 101",
                "10.9.0.0/16 10.1.0.9 101",
                "fd00::/64 - 102"
            ]
        );
        assert_eq!(
            got.removed.iter().map(show).collect::<Vec<_>>(),
            ["0.0.0.0/0 10.1.0.1 254", "10.9.0.0/16 10.1.0.9 254"]
        );
        assert_eq!(got.rules.iter().map(|it| it.table).collect::<Vec<_>>(), [101, 102]);
        let fixed = plan(7, &[ip("10.1.0.5/24", "")], &present, &[100], Some(100));
        assert_eq!(fixed.rules[0].table, 100);
    }
}
