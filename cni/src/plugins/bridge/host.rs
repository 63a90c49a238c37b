//! The host's side: bridge, gateway addresses, forwarding.

use super::conf::Conf;
use crate::address::Cidr;
use crate::netlink::{Link, LinkChange, LinkKind, Mac, Netlink, NewLink};
use crate::spec::{CniError, Code, Explain, IpConfig};
use crate::sysctl;
use std::io::Read;

/// The bridge of that name, if there is one; another kind of link is an error.
pub(super) fn find_bridge(host: &Netlink, name: &str) -> Result<Option<Link>, CniError> {
    match host.link(name).explain(Code::Network, || format!("look for bridge {name}"))? {
        Some(link) if link.kind != "bridge" => {
            let kind = if link.kind.is_empty() { "a device" } else { &link.kind };
            Err(CniError::new(
                Code::Network,
                format!("{name} exists already, but is {kind} instead of a bridge"),
            ))
        }
        found => Ok(found),
    }
}

/// Finds or makes the bridge, and switches it on.
pub(super) fn ensure_bridge(host: &Netlink, conf: &Conf) -> Result<Link, CniError> {
    let name = &conf.bridge;
    let say = || format!("set up bridge {name}");
    if find_bridge(host, name)?.is_none() {
        let mac = random_mac().explain(Code::Io, || "read random bytes".into())?;
        let kind = LinkKind::Bridge { vlans: conf.vlans.is_some() };
        match host.create_link(&NewLink { name, kind, mtu: conf.mtu, mac: Some(mac), netns: None }) {
            Err(err) if err.is_exists() => {} // another ADD was faster
            Err(err) if err.is_unsupported() && conf.vlans.is_some() => {
                let msg = format!("this kernel's bridges know no VLANs: cannot create bridge {name}");
                return Err(
                    CniError::new(Code::Network, msg).details("vlan and vlanTrunk need vlan_filtering")
                );
            }
            made => made.explain(Code::Network, say)?,
        }
    }
    let Some(bridge) = find_bridge(host, name)? else {
        return Err(CniError::new(
            Code::TryAgainLater,
            format!("bridge {name} was removed by somebody else"),
        ));
    };
    if conf.vlans.is_some() {
        host.heed_vlans(bridge.index).explain(Code::Network, say)?;
    }
    if !bridge.up || (conf.promisc && !bridge.promisc) {
        // Nobody has to announce the gateway's address twice, nor to accept one from a router.
        for (setting, value) in [("accept_ra", "0"), ("accept_dad", "0")] {
            sysctl::ensure_if_present(&format!("net/ipv6/conf/{name}/{setting}"), value)
                .explain(Code::Io, say)?;
        }
        let change =
            LinkChange { up: Some(true), promisc: conf.promisc.then_some(true), ..LinkChange::default() };
        host.change_link(bridge.index, &change).explain(Code::Network, say)?;
    }
    Ok(bridge)
}

/// Gives the bridge the gateway's addresses, and lets the host forward.
pub(super) fn be_gateway(
    host: &Netlink,
    conf: &Conf,
    bridge: &Link,
    ips: &[IpConfig],
) -> Result<(), CniError> {
    let say = || format!("make bridge {} the gateway", bridge.name);
    let wanted: Vec<Cidr> =
        ips.iter().filter_map(|ip| Cidr::new(ip.gateway?, ip.address.prefix()).ok()).collect();
    let present = host.addresses(bridge.index).explain(Code::Network, say)?;
    for gateway in wanted.iter().filter(|gateway| !present.iter().any(|it| it.cidr == **gateway)) {
        for other in present.iter().filter(|it| !it.link_scope && !wanted.contains(&it.cidr)) {
            // IPv6 allows several networks on one link; two of one family's networks that overlap never work.
            let conflict = other.cidr.is_ipv4() == gateway.is_ipv4()
                && (gateway.is_ipv4() || other.cidr.overlaps(gateway));
            if !conflict {
                continue;
            }
            if !conf.force_address {
                let msg =
                    format!("bridge {} has the address {} already, not {gateway}", bridge.name, other.cidr);
                return Err(CniError::new(Code::Network, msg)
                    .details("set forceAddress to replace it, or use another bridge"));
            }
            match host.delete_address(bridge.index, other.cidr) {
                Err(err) if err.is_not_found() => {}
                done => done.explain(Code::Network, say)?,
            }
        }
        if !gateway.is_ipv4() {
            sysctl::ensure_if_present(&format!("net/ipv6/conf/{}/disable_ipv6", bridge.name), "0")
                .explain(Code::Io, say)?;
        }
        host.add_address(bridge.index, *gateway, conf.enable_dad).explain(Code::Network, say)?;
    }
    for (is_ipv4, setting) in [(true, "net/ipv4/ip_forward"), (false, "net/ipv6/conf/all/forwarding")] {
        if wanted.iter().any(|gateway| gateway.is_ipv4() == is_ipv4) {
            sysctl::ensure(setting, "1").explain(Code::Io, say)?;
        }
    }
    Ok(())
}

/// A locally administered address of one device.
fn random_mac() -> std::io::Result<Mac> {
    let mut bytes = [0; 6];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    bytes[0] = bytes[0] & 0xfc | 2;
    Ok(Mac(bytes))
}
