//! `bridge`: a bridge on the host, a link pair per container, one end in the container.
mod check; // is everything still there?
mod conf; // options, checked
mod host; // the host's side: bridge, gateway address, forwarding
mod spoof; // frames with another's hardware address are dropped
mod vlans; // VLANs of a container's port

use super::entry::{Call, Plugin};
use super::pair::{self, Pair};
use super::{inside, ipam, masquerade};
use crate::address::{Cidr, step};
use crate::netlink::{Link, Netlink};
use crate::netns::Netns;
use crate::spec::{AddResult, CniError, Code, Explain, Route};
use conf::Conf;
use std::net::IpAddr;

/// The plugin.
pub struct Bridge;

impl Plugin for Bridge {
    fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        let conf = Conf::read(call)?;
        let netns = call.netns()?;
        inside::must_be_free(&netns, &call.request.ifname)?;
        let host = Netlink::open().explain(Code::Network, || "talk to the kernel".into())?;
        let bridge = host::ensure_bridge(&host, &conf)?;
        let mut given = ipam::add(call)?;
        complete(&mut given, &conf);
        attach(call, &conf, &host, &netns, &bridge, &given).map_err(|err| err.and(undo(call, &conf)))
    }

    fn del(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let mut failures = Vec::new();
        // The kernel lets go of rules while it removes the link: together they take no longer than one of them.
        let rules = masquerade::del(conf.masquerade, &call.common.name, &call.attachment());
        failures.extend(pair::remove(call).err());
        failures.extend(rules.err());
        if conf.spoof_check {
            failures.extend(spoof::del(call).err());
        }
        // The address is free only when nothing uses it any more.
        failures.extend(ipam::del(call).err());
        CniError::all(failures)
    }

    fn check(&self, call: &Call) -> Result<(), CniError> {
        check::check(call, &Conf::read(call)?)
    }

    fn gc(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let valid = call.common.valid_attachments()?;
        let mut failures: Vec<CniError> = pair::gc(call).err().into_iter().collect();
        if conf.spoof_check {
            failures.extend(spoof::gc(call).err());
        }
        failures.extend(masquerade::gc(conf.masquerade, &call.common.name, valid).err());
        failures.extend(ipam::pass_on(call).err());
        CniError::all(failures)
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let host = Netlink::open().explain(Code::NotAvailable, || "talk to the kernel".into())?;
        host::find_bridge(&host, &conf.bridge).map_err(|err| CniError { code: Code::NotAvailable, ..err })?;
        ipam::pass_on(call)
    }
}

/// Fills in gateways and the default route, as the options ask.
fn complete(given: &mut AddResult, conf: &Conf) {
    if conf.is_gateway {
        for ip in &mut given.ips {
            ip.gateway = ip.gateway.or(step(ip.address.network().addr(), 1));
        }
    }
    if conf.is_default_gateway {
        for ip in &given.ips {
            let everywhere = everywhere(ip.address);
            if !given.routes.iter().any(|route| route.dst == everywhere) {
                given.routes.push(Route::new(everywhere, ip.gateway));
            }
        }
    }
}

fn everywhere(like: Cidr) -> Cidr {
    let zero: IpAddr = if like.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    Cidr::new(zero, 0).unwrap_or(like)
}

fn attach(
    call: &Call,
    conf: &Conf,
    host: &Netlink,
    netns: &Netns,
    bridge: &Link,
    given: &AddResult,
) -> Result<AddResult, CniError> {
    let wanted = Pair { mtu: conf.mtu, master: Some(bridge.index), mac: conf.mac, given };
    let port = pair::make(call, host, netns, &wanted)?;
    if conf.hairpin || conf.isolated {
        let say = || format!("set up the container's port of bridge {}", bridge.name);
        host.set_bridge_port(port.index, Some(conf.hairpin), Some(conf.isolated))
            .explain(Code::Network, say)?;
    }
    if let Some(wanted) = &conf.vlans {
        vlans::set_port(host, &port, wanted)?;
    }
    if conf.is_gateway {
        let gateway = vlans::gateway(host, conf, bridge)?;
        host::be_gateway(host, conf, &gateway, &given.ips)?;
    }
    if conf.spoof_check {
        spoof::add(call, &port.name, inside::mac(netns, &call.request.ifname)?)?;
    }
    let plan = inside::Plan {
        ifname: &call.request.ifname,
        dad: conf.enable_dad,
        up: conf.container_up,
        routed: false,
        given,
    };
    let inner = inside::set_up(netns, &plan)?;
    let addresses: Vec<Cidr> = given.ips.iter().map(|ip| ip.address).collect();
    masquerade::add(conf.masquerade, &call.common.name, &call.attachment(), &addresses)?;
    let mut ips = given.ips.clone();
    ips.iter_mut().for_each(|ip| ip.interface = Some(2));
    Ok(AddResult {
        interfaces: vec![
            inside::interface(bridge, String::new()),
            inside::interface(&port, String::new()),
            inside::interface(&inner, call.sandbox()),
        ],
        ips,
        routes: given.routes.clone(),
        dns: call.common.dns_or(&given.dns),
    })
}

/// After a failed ADD: nothing of it stays but the bridge, which belongs to all.
fn undo(call: &Call, conf: &Conf) -> Result<(), CniError> {
    let mut failures: Vec<CniError> = pair::undo(call).err().into_iter().collect();
    if conf.spoof_check {
        failures.extend(spoof::del(call).err());
    }
    failures.extend(masquerade::del(conf.masquerade, &call.common.name, &call.attachment()).err());
    failures.extend(ipam::del(call).err());
    CniError::all(failures)
}
