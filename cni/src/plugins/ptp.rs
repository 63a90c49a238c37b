//! `ptp`: a link pair between host and container, routed: nothing is shared with other containers.

use super::entry::{Call, Plugin};
use super::masquerade::{self, Backend};
use super::pair::{self, Pair};
use super::{inside, ipam};
use crate::address::{Cidr, step};
use crate::netlink::{Link, Netlink, NetlinkError, RouteSpec};
use crate::netns::Netns;
use crate::spec::{AddResult, CniError, Code, Explain, IpConfig};
use crate::sysctl;
use serde::Deserialize;

/// The plugin.
pub struct Ptp;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    ip_masq: bool,
    ip_masq_backend: Option<String>,
    mtu: u32,
    enabledad: bool,
}

struct Conf {
    masquerade: Option<Backend>,
    mtu: Option<u32>,
    dad: bool,
}

impl Conf {
    fn read(call: &Call) -> Result<Conf, CniError> {
        let raw: Raw = call.conf()?;
        let backend = Backend::parse(raw.ip_masq_backend.as_deref())?;
        if raw.mtu > 65_535 {
            return Err(CniError::new(Code::InvalidConfig, "mtu is larger than 65535"));
        }
        Ok(Conf {
            masquerade: raw.ip_masq.then_some(backend),
            mtu: Some(raw.mtu).filter(|mtu| *mtu > 0),
            dad: raw.enabledad,
        })
    }
}

impl Plugin for Ptp {
    fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        let conf = Conf::read(call)?;
        ipam::must_be_configured(call)?;
        let netns = call.netns()?;
        inside::must_be_free(&netns, &call.request.ifname)?;
        let host = Netlink::open().explain(Code::Network, || "talk to the kernel".into())?;
        let mut given = ipam::add(call)?;
        // The host's end is the way out: it needs an address to be asked for.
        for ip in &mut given.ips {
            ip.gateway = ip.gateway.or(step(ip.address.network().addr(), 1));
        }
        attach(call, &conf, &host, &netns, &given).map_err(|err| err.and(undo(call, &conf)))
    }

    fn del(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let mut failures = Vec::new();
        // The kernel lets go of rules while it removes the link: together they take no longer than one of them.
        let rules = masquerade::del(conf.masquerade, &call.common.name, &call.attachment());
        failures.extend(pair::remove(call).err());
        failures.extend(rules.err());
        failures.extend(ipam::del(call).err());
        CniError::all(failures)
    }

    fn check(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let made = call.prev_result()?;
        let addresses = inside::check(&call.netns()?, &made, &call.request.ifname)?;
        host_side(&made)?;
        masquerade::check(conf.masquerade, &call.common.name, &call.attachment(), &addresses)?;
        ipam::pass_on(call)
    }

    fn gc(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let valid = call.common.valid_attachments()?;
        let mut failures: Vec<CniError> = pair::gc(call).err().into_iter().collect();
        failures.extend(masquerade::gc(conf.masquerade, &call.common.name, valid).err());
        failures.extend(ipam::pass_on(call).err());
        CniError::all(failures)
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        Conf::read(call)?;
        ipam::must_be_configured(call)?;
        ipam::pass_on(call)
    }
}

fn attach(
    call: &Call,
    conf: &Conf,
    host: &Netlink,
    netns: &Netns,
    given: &AddResult,
) -> Result<AddResult, CniError> {
    let outer = pair::make(call, host, netns, &Pair { mtu: conf.mtu, master: None, mac: None, given })?;
    routes_to_container(host, &outer, &given.ips)?;
    let plan = inside::Plan { ifname: &call.request.ifname, dad: conf.dad, up: true, routed: true, given };
    let inner = inside::set_up(netns, &plan)?;
    let addresses: Vec<Cidr> = given.ips.iter().map(|ip| ip.address).collect();
    masquerade::add(conf.masquerade, &call.common.name, &call.attachment(), &addresses)?;
    let mut ips = given.ips.clone();
    ips.iter_mut().for_each(|ip| ip.interface = Some(1));
    Ok(AddResult {
        interfaces: vec![inside::interface(&outer, String::new()), inside::interface(&inner, call.sandbox())],
        ips,
        routes: given.routes.clone(),
        dns: call.common.dns_or(&given.dns),
    })
}

/// The host's end has the gateway's address alone, and a route to the container's alone.
fn routes_to_container(host: &Netlink, outer: &Link, ips: &[IpConfig]) -> Result<(), CniError> {
    let say = || format!("route packets to the container through {}", outer.name);
    for ip in ips {
        if ip.address.is_ipv4() {
            sysctl::ensure("net/ipv4/ip_forward", "1").explain(Code::Io, say)?;
        } else {
            sysctl::ensure("net/ipv6/conf/all/forwarding", "1").explain(Code::Io, say)?;
            let dad = format!("net/ipv6/conf/{}/accept_dad", outer.name);
            sysctl::ensure_if_present(&dad, "0").explain(Code::Io, say)?;
        }
        if let Some(gateway) = ip.gateway {
            host.add_address(outer.index, Cidr::host(gateway), false).explain(Code::Network, say)?;
        }
        match host.add_route(&to_container(outer, ip)) {
            Err(err) if err.is_exists() => {
                let msg = format!("{} is reached through another link already", ip.address.addr());
                return Err(CniError::new(Code::Network, msg).details("two containers have the same address"));
            }
            done => done.explain(Code::Network, say)?,
        }
    }
    Ok(())
}

fn to_container(outer: &Link, ip: &IpConfig) -> RouteSpec {
    RouteSpec {
        dst: Cidr::host(ip.address.addr()),
        gateway: None,
        link: outer.index,
        priority: 0,
        table: None,
        scope: None,
        mtu: 0,
        advmss: 0,
        onlink: false,
        protocol: None,
    }
}

fn host_side(made: &AddResult) -> Result<(), CniError> {
    let failed = |msg: String| Err(CniError::new(Code::CheckFailed, msg));
    let Some(outer) = made.interfaces.iter().find(|it| it.sandbox.is_empty()) else {
        return failed("prevResult names no interface on the host".into());
    };
    let look = || -> Result<_, NetlinkError> {
        let host = Netlink::open()?;
        Ok((host.link(&outer.name)?, host.routes()?))
    };
    let (link, routes) = look().explain(Code::Network, || format!("look at {} on the host", outer.name))?;
    let Some(link) = link else { return failed(format!("{} on the host is gone", outer.name)) };
    for ip in &made.ips {
        let wanted = to_container(&link, ip);
        if !routes.iter().any(|it| it.dst == wanted.dst && it.link == link.index) {
            return failed(format!("the host has lost its route to {}", ip.address.addr()));
        }
    }
    Ok(())
}

fn undo(call: &Call, conf: &Conf) -> Result<(), CniError> {
    let mut failures: Vec<CniError> = pair::undo(call).err().into_iter().collect();
    failures.extend(masquerade::del(conf.masquerade, &call.common.name, &call.attachment()).err());
    failures.extend(ipam::del(call).err());
    CniError::all(failures)
}
