//! Is the container's interface as it was set up?

use super::{routes, within};
use crate::address::Cidr;
use crate::netlink::Netlink;
use crate::netns::Netns;
use crate::spec::{AddResult, CniError, Code, Explain, Interface};

/// Compares interface, addresses and routes with the result of ADD; returns the interface's addresses.
pub(in crate::plugins) fn check(
    netns: &Netns,
    made: &AddResult,
    ifname: &str,
) -> Result<Vec<Cidr>, CniError> {
    let named = |it: &Interface| it.name == ifname && !it.sandbox.is_empty();
    let Some(own) = made.interfaces.iter().position(named) else {
        return Err(CniError::new(
            Code::CheckFailed,
            format!("prevResult names no interface {ifname} in the container"),
        ));
    };
    within(netns, || container_side(made, own))??;
    Ok(made.ips.iter().filter(|ip| ip.interface == Some(own)).map(|ip| ip.address).collect())
}

fn container_side(made: &AddResult, own: usize) -> Result<(), CniError> {
    let Interface { name, mac, .. } = &made.interfaces[own];
    let say = || format!("look at {name} in the container");
    let netlink = Netlink::open().explain(Code::Network, say)?;
    let Some(link) = netlink.link(name).explain(Code::Network, say)? else {
        return failed(format!("{name} in the container is gone"));
    };
    let now = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    if !mac.is_empty() && !mac.eq_ignore_ascii_case(&now) {
        return failed(format!("{name} in the container has the hardware address {now}, not {mac}"));
    }
    let addresses = netlink.addresses(link.index).explain(Code::Network, say)?;
    for ip in made.ips.iter().filter(|ip| ip.interface == Some(own)) {
        if !addresses.iter().any(|address| address.cidr == ip.address) {
            return failed(format!("{name} in the container has lost the address {}", ip.address));
        }
    }
    let present = netlink.routes().explain(Code::Network, say)?;
    for wanted in routes(made, link.index) {
        if !present.iter().any(|route| route.dst == wanted.dst && route.gateway == wanted.gateway) {
            return failed(format!("the container has lost its route to {}", wanted.dst));
        }
    }
    Ok(())
}

fn failed(msg: String) -> Result<(), CniError> {
    Err(CniError::new(Code::CheckFailed, msg))
}
