//! The container's side: addresses, routes.

use crate::address::Cidr;
use crate::netlink::{Link, LinkChange, Netlink, RouteSpec};
use crate::netns::Netns;
use crate::spec::{AddResult, CniError, Code, Explain};
use crate::sysctl;
use std::net::IpAddr;

/// What the container's end shall get.
pub(super) struct Plan<'a> {
    pub(super) ifname: &'a str,
    /// Let IPv6 look for duplicate addresses first.
    pub(super) dad: bool,
    pub(super) up: bool,
    pub(super) given: &'a AddResult,
}

/// Refuses a name that is taken, before anything is made.
pub(super) fn must_be_free(netns: &Netns, ifname: &str) -> Result<(), CniError> {
    let seen = within(netns, || Netlink::open()?.link(ifname))?;
    match seen.explain(Code::Network, || format!("look for {ifname} in the container"))? {
        None => Ok(()),
        Some(_) => Err(CniError::new(
            Code::InvalidEnvironment,
            format!("the container has an interface {ifname} already (CNI_IFNAME)"),
        )),
    }
}

/// Addresses, then up, then routes; what the kernel made of it.
pub(super) fn set_up(netns: &Netns, plan: &Plan) -> Result<Link, CniError> {
    within(netns, || {
        let say = || format!("set up {} in the container", plan.ifname);
        let netlink = Netlink::open().explain(Code::Network, say)?;
        let find = || netlink.link(plan.ifname).explain(Code::Network, say);
        let gone = || CniError::new(Code::Network, say()).details("it is gone");
        let link = find()?.ok_or_else(gone)?;
        settings(plan).explain(Code::Io, say)?;
        for ip in &plan.given.ips {
            netlink.add_address(link.index, ip.address, plan.dad).explain(Code::Network, say)?;
        }
        if plan.up {
            let up = LinkChange { up: Some(true), ..LinkChange::default() };
            netlink.change_link(link.index, &up).explain(Code::Network, say)?;
            for route in routes(plan.given, link.index) {
                match netlink.add_route(&route) {
                    Err(err) if err.is_exists() => {} // the kernel's own, or the same one twice in the configuration
                    done => done.explain(Code::Network, say)?,
                }
            }
        }
        find()?.ok_or_else(gone)
    })?
}

/// Removes the interface, and with it the host's end.
pub(super) fn remove(netns: &Netns, ifname: &str) -> Result<(), CniError> {
    let done = within(netns, || Netlink::open()?.delete_link_named(ifname))?;
    done.map(drop).explain(Code::Network, || format!("remove {ifname} from the container"))
}

/// The routes of a result; one without a router takes the gateway of the first address of its family.
pub(super) fn routes(given: &AddResult, link: u32) -> Vec<RouteSpec> {
    let gateway = |dst: Cidr| -> Option<IpAddr> {
        given.ips.iter().find(|ip| ip.address.is_ipv4() == dst.is_ipv4()).and_then(|ip| ip.gateway)
    };
    let spec = |route: &crate::spec::Route| RouteSpec {
        dst: route.dst,
        // Scope 253 is the link's own: no router then.
        gateway: if route.scope == Some(253) { None } else { route.gw.or_else(|| gateway(route.dst)) },
        link,
        priority: route.priority,
        table: route.table,
        scope: route.scope,
        mtu: route.mtu,
        advmss: route.advmss,
    };
    given.routes.iter().map(spec).collect()
}

/// Announces itself when it comes up; IPv6 is on where an address of it is given.
fn settings(plan: &Plan) -> std::io::Result<()> {
    let name = plan.ifname;
    sysctl::ensure_if_present(&format!("net/ipv4/conf/{name}/arp_notify"), "1")?;
    if plan.given.ips.iter().any(|ip| !ip.address.is_ipv4()) {
        sysctl::ensure(&format!("net/ipv6/conf/{name}/disable_ipv6"), "0")?;
        sysctl::ensure_if_present(&format!("net/ipv6/conf/{name}/ndisc_notify"), "1")?;
        sysctl::ensure_if_present(
            &format!("net/ipv6/conf/{name}/accept_dad"),
            if plan.dad { "1" } else { "0" },
        )?;
    }
    Ok(())
}

/// Enters the container's namespace.
pub(super) fn within<T: Send>(netns: &Netns, work: impl FnOnce() -> T + Send) -> Result<T, CniError> {
    netns.enter(work).explain(Code::Io, || "enter the container's network namespace".into())
}
