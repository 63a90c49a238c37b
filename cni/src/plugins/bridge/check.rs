//! Is everything still as ADD made it?

use super::conf::Conf;
use super::{attachment, host, inside};
use crate::address::Cidr;
use crate::netlink::Netlink;
use crate::plugins::{Call, ipam, masquerade};
use crate::spec::{AddResult, CniError, Code, Explain, Interface};

pub(super) fn check(call: &Call, conf: &Conf) -> Result<(), CniError> {
    let made = call.prev_result()?;
    let netns = call.netns()?;
    host_side(conf, &made)?;
    let ifname = &call.request.ifname;
    let Some(own) = made.interfaces.iter().position(|it| it.name == *ifname && !it.sandbox.is_empty()) else {
        return failed(format!("prevResult names no interface {ifname} in the container"));
    };
    inside::within(&netns, || container_side(&made, own))??;
    let addresses: Vec<Cidr> =
        made.ips.iter().filter(|ip| ip.interface == Some(own)).map(|ip| ip.address).collect();
    if conf.ip_masq {
        masquerade::check(&call.common.name, &attachment(call), &addresses)?;
    }
    ipam::pass_on(call)
}

fn host_side(conf: &Conf, made: &AddResult) -> Result<(), CniError> {
    let say = || format!("look at bridge {}", conf.bridge);
    let netlink = Netlink::open().explain(Code::Network, say)?;
    let Some(bridge) = host::find_bridge(&netlink, &conf.bridge)? else {
        return failed(format!("bridge {} is gone", conf.bridge));
    };
    if !bridge.up {
        return failed(format!("bridge {} is switched off", conf.bridge));
    }
    for interface in made.interfaces.iter().filter(|it| it.sandbox.is_empty() && it.name != conf.bridge) {
        match netlink.link(&interface.name).explain(Code::Network, say)? {
            None => return failed(format!("{} on the host is gone", interface.name)),
            Some(link) if link.kind == "veth" && link.master != Some(bridge.index) => {
                return failed(format!("{} is no port of bridge {}", link.name, bridge.name));
            }
            Some(_) => {}
        }
    }
    if conf.is_gateway {
        let present = netlink.addresses(bridge.index).explain(Code::Network, say)?;
        for gateway in made.ips.iter().filter_map(|ip| ip.gateway) {
            if !present.iter().any(|address| address.cidr.addr() == gateway) {
                return failed(format!("bridge {} has lost the address {gateway}", bridge.name));
            }
        }
    }
    Ok(())
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
    for wanted in inside::routes(made, link.index) {
        if !present.iter().any(|route| route.dst == wanted.dst && route.gateway == wanted.gateway) {
            return failed(format!("the container has lost its route to {}", wanted.dst));
        }
    }
    Ok(())
}

fn failed(msg: String) -> Result<(), CniError> {
    Err(CniError::new(Code::CheckFailed, msg))
}
