//! `vlan`: the packets with one VLAN tag of a device of the host.

use super::entry::{Call, Plugin};
use super::{inside, ipam, single};
use crate::netlink::{LinkKind, NewLink};
use crate::netns::Netns;
use crate::spec::{AddResult, CniError, Code};
use serde::Deserialize;
use std::os::fd::AsFd;

/// The plugin.
pub struct Vlan;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    master: String,
    vlan_id: Option<i64>,
    mtu: u32,
    link_in_container: bool,
}

impl Conf {
    fn read(call: &Call) -> Result<(Conf, u16), CniError> {
        let conf: Conf = call.conf()?;
        let invalid = |msg: String| Err(CniError::new(Code::InvalidConfig, msg));
        if conf.master.is_empty() {
            return invalid("vlan needs master, the device whose packets have the tag".into());
        }
        match conf.vlan_id.map(u16::try_from) {
            Some(Ok(id)) if id <= 4094 => Ok((conf, id)),
            Some(_) => invalid(format!("vlanId {} is not from 0 to 4094", conf.vlan_id.unwrap_or(0))),
            None => invalid("vlan needs vlanId".into()),
        }
    }
}

impl Plugin for Vlan {
    fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        let (conf, id) = Conf::read(call)?;
        let name = &call.request.ifname;
        let make = |netns: &Netns| {
            single::with_parent(netns, conf.link_in_container, |netlink| {
                let parent = single::parent(netlink, "vlan", Some(&conf.master))?;
                let mtu = single::mtu("vlan", conf.mtu, &parent)?;
                let kind = LinkKind::Vlan { parent: parent.index, id };
                let netns = Some(netns.as_fd());
                single::made(netlink.create_link(&NewLink { name, kind, mtu, mac: None, netns }), "vlan")
            })
        };
        single::add(call, make, |netns| inside::remove(netns, name))
    }

    fn del(&self, call: &Call) -> Result<(), CniError> {
        single::del(call)
    }

    fn check(&self, call: &Call) -> Result<(), CniError> {
        Conf::read(call)?;
        single::check(call, |link| single::must_be(link, "vlan"))
    }

    fn gc(&self, call: &Call) -> Result<(), CniError> {
        ipam::pass_on(call)
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        let (conf, _) = Conf::read(call)?;
        single::parent_is_there("vlan", Some(&conf.master), conf.link_in_container)?;
        ipam::pass_on(call)
    }
}
