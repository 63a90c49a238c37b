//! `ipvlan`: a link of its own on a device of the host, told apart by address.

use super::entry::{Call, Plugin};
use super::{inside, ipam, single};
use crate::netlink::{LinkKind, NewLink};
use crate::netns::Netns;
use crate::spec::{AddResult, CniError, Code};
use serde::Deserialize;
use std::os::fd::AsFd;

/// The plugin.
pub struct Ipvlan;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    master: Option<String>,
    mode: Option<String>,
    mtu: u32,
    link_in_container: bool,
}

impl Conf {
    fn read(call: &Call) -> Result<(Conf, u16), CniError> {
        let mut conf: Conf = call.conf()?;
        conf.master = conf.master.filter(|it| !it.is_empty());
        if conf.master.is_none()
            && let Some(before) = call.common.prev_result()?
        {
            // In a chain the link below is the one that the plugin before made.
            conf.master = match before.interfaces.as_slice() {
                [only] if !only.name.is_empty() => Some(only.name.clone()),
                _ => {
                    let msg = "ipvlan has no master, and prevResult does not name exactly one interface";
                    return Err(CniError::new(Code::InvalidConfig, msg));
                }
            };
        }
        let mode = match conf.mode.as_deref() {
            None | Some("" | "l2") => 0,
            Some("l3") => 1,
            Some("l3s") => 2,
            Some(other) => {
                return Err(CniError::new(Code::InvalidConfig, format!("ipvlan: mode {other:?} is unknown"))
                    .details("one of l2, l3, l3s"));
            }
        };
        Ok((conf, mode))
    }
}

impl Plugin for Ipvlan {
    fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        let (conf, mode) = Conf::read(call)?;
        let name = &call.request.ifname;
        let make = |netns: &Netns| {
            single::with_parent(netns, conf.link_in_container, |netlink| {
                let parent = single::parent(netlink, "ipvlan", conf.master.as_deref())?;
                let mtu = single::mtu("ipvlan", conf.mtu, &parent)?;
                let kind = LinkKind::Ipvlan { parent: parent.index, mode };
                let netns = Some(netns.as_fd());
                single::made(netlink.create_link(&NewLink { name, kind, mtu, mac: None, netns }), "ipvlan")
            })
        };
        single::add(call, make, |netns| inside::remove(netns, name))
    }

    fn del(&self, call: &Call) -> Result<(), CniError> {
        single::del(call)
    }

    fn check(&self, call: &Call) -> Result<(), CniError> {
        single::check(call, |link| single::must_be(link, "ipvlan"))
    }

    fn gc(&self, call: &Call) -> Result<(), CniError> {
        ipam::pass_on(call)
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        let (conf, _) = Conf::read(call)?;
        single::parent_is_there("ipvlan", conf.master.as_deref(), conf.link_in_container)?;
        ipam::pass_on(call)
    }
}
