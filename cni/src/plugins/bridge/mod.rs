//! `bridge`: a bridge on the host, a link pair per container, one end in the container.
mod check; // is everything still there?
mod conf; // options, checked
mod host; // the host's side: bridge, gateway address, forwarding
mod inside; // the container's side: addresses, routes

use super::entry::{Call, Plugin};
use super::{ipam, masquerade};
use crate::address::{Cidr, step};
use crate::netlink::{Link, Mac, Netlink, Veth};
use crate::netns::Netns;
use crate::spec::{AddResult, AttachmentId, CniError, Code, Dns, Explain, Interface, Route};
use conf::Conf;
use std::net::IpAddr;
use std::os::fd::AsFd;

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
        match call.netns_if_present() {
            Ok(Some(netns)) => failures.extend(inside::remove(&netns, &call.request.ifname).err()),
            Ok(None) => failures.extend(remove_host_end(call).err()),
            Err(err) => failures.push(err),
        }
        if conf.ip_masq {
            failures.extend(masquerade::del(&call.common.name, &attachment(call)).err());
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
        let mut failures = Vec::new();
        if conf.ip_masq {
            failures.extend(masquerade::gc(&call.common.name, valid).err());
        }
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
    let port = make_pair(call, conf, host, netns, bridge, given)?;
    if conf.is_gateway {
        host::be_gateway(host, conf, bridge, &given.ips)?;
    }
    let plan =
        inside::Plan { ifname: &call.request.ifname, dad: conf.enable_dad, up: conf.container_up, given };
    let inner = inside::set_up(netns, &plan)?;
    let addresses: Vec<Cidr> = given.ips.iter().map(|ip| ip.address).collect();
    if conf.ip_masq && !addresses.is_empty() {
        masquerade::add(&call.common.name, &attachment(call), &addresses)?;
    }
    let interface = |link: &Link, sandbox: String| Interface {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: link.mtu,
        sandbox,
        ..Interface::default()
    };
    let mut ips = given.ips.clone();
    ips.iter_mut().for_each(|ip| ip.interface = Some(2));
    Ok(AddResult {
        interfaces: vec![
            interface(bridge, String::new()),
            interface(&port, String::new()),
            interface(&inner, call.sandbox()),
        ],
        ips,
        routes: given.routes.clone(),
        dns: if call.common.dns.is_empty() { given.dns.clone() } else { Dns::clone(&call.common.dns) },
    })
}

/// Makes the link pair; the host's end is a port of the bridge from the start.
fn make_pair(
    call: &Call,
    conf: &Conf,
    host: &Netlink,
    netns: &Netns,
    bridge: &Link,
    given: &AddResult,
) -> Result<Link, CniError> {
    let name = host_end(call);
    let veth = Veth {
        name: &name,
        mtu: conf.mtu,
        master: Some(bridge.index),
        peer_name: &call.request.ifname,
        peer_mac: conf.mac.or_else(|| given.ips.first().map(|ip| mac_of(ip.address.addr()))),
        peer_netns: netns.as_fd(),
    };
    let fail = || format!("connect container {} to bridge {}", call.request.container_id, bridge.name);
    match host.create_veth(&veth) {
        // Left from an attachment of the same name whose DEL never came: its other end is in a namespace that is gone.
        Err(err) if err.is_exists() => {
            host.delete_link_named(&name).explain(Code::Network, fail)?;
            host.create_veth(&veth).explain(Code::Network, fail)?;
        }
        made => made.explain(Code::Network, fail)?,
    }
    let port = host.link(&name).explain(Code::Network, fail)?.ok_or_else(|| {
        CniError::new(Code::Network, fail()).details(format!("{name} vanished as soon as it was made"))
    })?;
    if conf.hairpin || conf.isolated {
        host.set_bridge_port(port.index, conf.hairpin, conf.isolated).explain(Code::Network, fail)?;
    }
    Ok(port)
}

/// After a failed ADD: nothing of it stays but the bridge, which belongs to all.
fn undo(call: &Call, conf: &Conf) -> Result<(), CniError> {
    let mut failures: Vec<CniError> = remove_host_end(call).err().into_iter().collect();
    if conf.ip_masq {
        failures.extend(masquerade::del(&call.common.name, &attachment(call)).err());
    }
    failures.extend(ipam::del(call).err());
    CniError::all(failures)
}

fn remove_host_end(call: &Call) -> Result<(), CniError> {
    let name = host_end(call);
    let remove = || Netlink::open()?.delete_link_named(&name);
    remove().map(drop).explain(Code::Network, || format!("remove link {name}"))
}

/// The name of the host's end follows from the attachment, so that DEL finds it without any record.
fn host_end(call: &Call) -> String {
    let identity = format!("{}/{}/{}", call.common.name, call.request.container_id, call.request.ifname);
    format!("veth{:011x}", super::rules::digest(&identity) & 0xfff_ffff_ffff)
}

/// A hardware address that follows from the IP address: when the address is given again, what others
/// remember about its neighbour is still true.
fn mac_of(addr: IpAddr) -> Mac {
    let [a, b, c, d] = match addr {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => {
            let hash = super::rules::digest(&v6.to_string());
            u32::try_from((hash ^ hash >> 32) & 0xffff_ffff).unwrap_or(0).to_be_bytes()
        }
    };
    Mac([0x0a, 0x58, a, b, c, d])
}

fn attachment(call: &Call) -> AttachmentId {
    AttachmentId { container_id: call.request.container_id.clone(), ifname: call.request.ifname.clone() }
}
