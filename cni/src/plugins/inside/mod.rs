//! The container's side of every plugin that gives it an interface: name, addresses, routes.
mod check; // is it as it was set up?

pub(super) use check::check;

use crate::address::Cidr;
use crate::netlink::{AddressOptions, Link, LinkChange, Mac, Netlink, RouteSpec};
use crate::netns::Netns;
use crate::spec::{AddResult, CniError, Code, Explain, Interface, IpConfig};
use crate::sysctl;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What the container's end shall get.
pub(super) struct Plan<'a> {
    pub(super) ifname: &'a str,
    /// Let IPv6 look for duplicate addresses first.
    pub(super) dad: bool,
    pub(super) up: bool,
    /// Even neighbours are reached through the gateway, which is at the link's other end.
    pub(super) routed: bool,
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

/// The hardware address of the container's interface.
pub(super) fn mac(netns: &Netns, ifname: &str) -> Result<Mac, CniError> {
    let say = || format!("look for the hardware address of {ifname} in the container");
    let found = within(netns, || Netlink::open()?.link(ifname))?.explain(Code::Network, say)?;
    found.and_then(|it| it.mac).ok_or_else(|| CniError::new(Code::Network, say()).details("it has none"))
}

/// Addresses, then up, then routes; what the kernel made of it.
pub(super) fn set_up(netns: &Netns, plan: &Plan) -> Result<Link, CniError> {
    within(netns, || set_up_here(plan))?
}

/// As [`set_up`], on a thread that is inside already.
fn set_up_here(plan: &Plan) -> Result<Link, CniError> {
    {
        let say = || format!("set up {} in the container", plan.ifname);
        let netlink = Netlink::open().explain(Code::Network, say)?;
        let find = || netlink.link(plan.ifname).explain(Code::Network, say);
        let gone = || CniError::new(Code::Network, say()).details("it is gone");
        let link = find()?.ok_or_else(gone)?;
        settings(plan).explain(Code::Io, say)?;
        for ip in &plan.given.ips {
            let options = AddressOptions { dad: plan.dad, no_route: plan.routed && ip.gateway.is_some() };
            netlink.add_address_with(link.index, ip.address, options).explain(Code::Network, say)?;
        }
        if plan.up {
            let up = LinkChange { up: Some(true), ..LinkChange::default() };
            netlink.change_link(link.index, &up).explain(Code::Network, say)?;
            let to_gateway = if plan.routed { through_gateway(&plan.given.ips, link.index) } else { vec![] };
            for route in to_gateway.into_iter().chain(routes(plan.given, link.index)) {
                match netlink.add_route(&route) {
                    Err(err) if err.is_exists() => {} // the kernel's own, or the same one twice in the configuration
                    done => done.explain(Code::Network, say)?,
                }
            }
        }
        if plan.dad && plan.up {
            settle(&netlink, link.index, plan.ifname)?;
        }
        find()?.ok_or_else(gone)
    }
}

/// Waits until the kernel knows that no neighbour has one of the addresses already.
fn settle(netlink: &Netlink, link: u32, ifname: &str) -> Result<(), CniError> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let all = netlink.addresses(link);
        let all = all.explain(Code::Network, || format!("look at the addresses of {ifname}"))?;
        if let Some(taken) = all.iter().find(|it| it.duplicate) {
            let msg = format!("a neighbour has the address {} already", taken.cidr.addr());
            return Err(CniError::new(Code::Address, msg));
        }
        let waiting = all.iter().find(|it| it.tentative && !it.link_scope);
        match waiting {
            None => return Ok(()),
            Some(it) if Instant::now() > deadline => {
                let msg = format!("the address {} of {ifname} does not become usable", it.cidr.addr());
                return Err(CniError::new(Code::Network, msg).details("duplicate address detection goes on"));
            }
            Some(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Routes for a link with nobody but the gateway at its other end.
fn through_gateway(ips: &[IpConfig], link: u32) -> Vec<RouteSpec> {
    let plain = |dst, gateway| RouteSpec {
        dst,
        gateway,
        link,
        priority: 0,
        table: None,
        scope: None,
        mtu: 0,
        advmss: 0,
        onlink: false,
        protocol: None,
    };
    let with_gateway = ips.iter().filter_map(|ip| Some((ip.address, ip.gateway?)));
    with_gateway
        .flat_map(|(address, gateway)| {
            [plain(Cidr::host(gateway), None), plain(address.network(), Some(gateway))]
        })
        .filter(|route| route.gateway.is_none() || route.dst.prefix() < Cidr::host(route.dst.addr()).prefix())
        .collect()
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
        onlink: false,
        protocol: None,
    };
    given.routes.iter().map(spec).collect()
}

/// A link as results name it.
pub(super) fn interface(link: &Link, sandbox: String) -> Interface {
    Interface {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: link.mtu,
        sandbox,
        ..Interface::default()
    }
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
