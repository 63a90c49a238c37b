//! Is everything still as ADD made it?

use super::conf::Conf;
use super::{host, spoof};
use crate::netlink::Netlink;
use crate::plugins::{Call, inside, ipam, masquerade};
use crate::spec::{AddResult, CniError, Code, Explain};

pub(super) fn check(call: &Call, conf: &Conf) -> Result<(), CniError> {
    let made = call.prev_result()?;
    let netns = call.netns()?;
    host_side(conf, &made)?;
    let addresses = inside::check(&netns, &made, &call.request.ifname)?;
    if conf.spoof_check {
        let names = made.interfaces.iter().filter(|it| it.sandbox.is_empty() && it.name != conf.bridge);
        for port in names {
            spoof::check(call, &port.name, inside::mac(&netns, &call.request.ifname)?)?;
        }
    }
    masquerade::check(conf.masquerade, &call.common.name, &call.attachment(), &addresses)?;
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
        let own_vlan = conf.vlans.as_ref().and_then(|it| it.own);
        let name = own_vlan.map_or(conf.bridge.clone(), |id| format!("{}.{id}", conf.bridge));
        let Some(way) = netlink.link(&name).explain(Code::Network, say)? else {
            return failed(format!("{name}, which has the gateway's address, is gone"));
        };
        let present = netlink.addresses(way.index).explain(Code::Network, say)?;
        for gateway in made.ips.iter().filter_map(|ip| ip.gateway) {
            if !present.iter().any(|address| address.cidr.addr() == gateway) {
                return failed(format!("bridge {} has lost the address {gateway}", bridge.name));
            }
        }
    }
    Ok(())
}

fn failed(msg: String) -> Result<(), CniError> {
    Err(CniError::new(Code::CheckFailed, msg))
}
