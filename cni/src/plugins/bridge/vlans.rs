//! VLANs of a container's port, and the host's own way into one of them.

use super::conf::Conf;
use crate::netlink::{Link, LinkChange, Netlink, PortVlans};
use crate::spec::{CniError, Code, Explain};
use serde::Deserialize;

/// One item of `vlanTrunk`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub(super) struct Trunk {
    id: Option<i64>,
    #[serde(rename = "minID")]
    min_id: Option<i64>,
    #[serde(rename = "maxID")]
    max_id: Option<i64>,
}

/// The VLANs that a container's port carries.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Vlans {
    /// That of packets without a tag.
    pub(super) own: Option<u16>,
    trunk: Vec<PortVlans>,
    /// Leave the bridge's default VLAN on the port.
    keep_default: bool,
}

const DEFAULT: PortVlans = PortVlans { first: 1, last: 1, untagged: true };

impl Vlans {
    /// Checks the options; nothing where none is used.
    pub(super) fn read(own: i64, trunk: &[Trunk], keep_default: bool) -> Result<Option<Vlans>, CniError> {
        let number = |name: &str, id: i64| {
            u16::try_from(id).ok().filter(|id| (1..=4094).contains(id)).ok_or_else(|| {
                CniError::new(Code::InvalidConfig, format!("bridge: {name} {id} is not from 1 to 4094"))
            })
        };
        if own == 0 && trunk.is_empty() {
            return Ok(None);
        }
        let own = if own == 0 { None } else { Some(number("vlan", own)?) };
        let mut ranges = Vec::new();
        for item in trunk {
            let tagged = |first, last| PortVlans { first, last, untagged: false };
            match (item.min_id, item.max_id) {
                (None, None) => {}
                (Some(first), Some(last)) => {
                    let (first, last) = (number("vlanTrunk minID", first)?, number("vlanTrunk maxID", last)?);
                    if first > last {
                        let msg = format!("bridge: vlanTrunk minID {first} is more than maxID {last}");
                        return Err(CniError::new(Code::InvalidConfig, msg));
                    }
                    ranges.push(tagged(first, last));
                }
                (Some(_), None) | (None, Some(_)) => {
                    let msg = "bridge: vlanTrunk needs minID and maxID together";
                    return Err(CniError::new(Code::InvalidConfig, msg));
                }
            }
            if let Some(id) = item.id {
                let id = number("vlanTrunk id", id)?;
                ranges.push(tagged(id, id));
            }
        }
        Ok(Some(Vlans { own, trunk: ranges, keep_default }))
    }

    fn of_port(&self) -> Vec<PortVlans> {
        let own = self.own.map(|id| PortVlans { first: id, last: id, untagged: true });
        own.into_iter().chain(self.trunk.iter().copied()).collect()
    }
}

/// Lets a container's port carry its VLANs.
pub(super) fn set_port(host: &Netlink, port: &Link, vlans: &Vlans) -> Result<(), CniError> {
    let say = || format!("set up the VLANs of {}", port.name);
    if !vlans.keep_default {
        match host.remove_vlans(port.index, &[DEFAULT]) {
            Err(err) if err.is_not_found() => {}
            done => done.explain(Code::Network, say)?,
        }
    }
    host.add_vlans(port.index, &vlans.of_port(), false).explain(Code::Network, say)
}

/// The link that has the gateway's address: the bridge, or the host's own way into the container's VLAN.
///
/// It is a link pair too, one end a port of the bridge, and belongs to all containers of the VLAN.
pub(super) fn gateway(host: &Netlink, conf: &Conf, bridge: &Link) -> Result<Link, CniError> {
    let Some(id) = conf.vlans.as_ref().and_then(|it| it.own) else { return Ok(bridge.clone()) };
    let name = format!("{}.{id}", bridge.name);
    let say = || format!("set up {name}, the host's way into VLAN {id} of bridge {}", bridge.name);
    if name.len() > 15 {
        let msg = format!("bridge: {name} is too long for the name of a link");
        return Err(CniError::new(Code::InvalidConfig, msg).details("choose a shorter bridge name"));
    }
    if let Some(link) = host.link(&name).explain(Code::Network, say)? {
        return Ok(link);
    }
    let port_name = format!("vlan{:011x}", crate::plugins::rules::digest(&name) & 0xfff_ffff_ffff);
    let here = std::fs::File::open("/proc/thread-self/ns/net").explain(Code::Io, say)?;
    let pair = crate::netlink::Veth {
        name: &port_name,
        mtu: Some(bridge.mtu),
        master: Some(bridge.index),
        peer_name: &name,
        peer_mac: None,
        peer_netns: std::os::fd::AsFd::as_fd(&here),
    };
    match host.create_veth(&pair) {
        Err(err) if err.is_exists() => {} // another ADD was faster
        made => made.explain(Code::Network, say)?,
    }
    let find = |name: &str| {
        let gone = || {
            CniError::new(Code::TryAgainLater, say()).details(format!("{name} was removed by somebody else"))
        };
        host.link(name).explain(Code::Network, say)?.ok_or_else(gone)
    };
    let (port, link) = (find(&port_name)?, find(&name)?);
    let own = PortVlans { first: id, last: id, untagged: true };
    host.add_vlans(port.index, &[own], false).explain(Code::Network, say)?;
    let keep_default = conf.vlans.as_ref().is_some_and(|it| it.keep_default);
    if !keep_default
        && let Err(err) = host.remove_vlans(port.index, &[DEFAULT])
        && !err.is_not_found()
    {
        return Err(err).explain(Code::Network, say);
    }
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    host.change_link(link.index, &up).explain(Code::Network, say)?;
    find(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_port_carries() {
        let read = |own, trunk: &str| {
            let trunk: Vec<Trunk> = serde_json::from_str(trunk).unwrap();
            Vlans::read(own, &trunk, true)
        };
        assert_eq!(read(0, "[]").unwrap(), None);
        let show = |own, trunk: &str| {
            let one =
                |it: &PortVlans| format!("{}-{}{}", it.first, it.last, if it.untagged { "*" } else { "" });
            read(own, trunk).unwrap().unwrap().of_port().iter().map(one).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(show(100, "[]"), "100-100*");
        assert_eq!(show(0, r#"[{"id": 101}, {"minID": 200, "maxID": 299}]"#), "101-101 200-299");
        assert_eq!(show(5, r#"[{"id": 6, "minID": 7, "maxID": 7}]"#), "5-5* 7-7 6-6");
        let check = |own, trunk: &str, msg: &str| {
            let err = read(own, trunk).unwrap_err();
            assert!(err.code == Code::InvalidConfig && err.to_string().contains(msg), "{err}");
        };
        check(4095, "[]", "vlan 4095 is not from 1 to 4094");
        check(-1, "[]", "vlan -1");
        check(0, r#"[{"id": 0}]"#, "vlanTrunk id 0");
        check(0, r#"[{"minID": 5}]"#, "minID and maxID together");
        check(0, r#"[{"minID": 5, "maxID": 4}]"#, "minID 5 is more than maxID 4");
    }
}
