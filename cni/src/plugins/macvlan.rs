//! `macvlan`: a link of its own on a device of the host, told apart by hardware address.

use super::entry::{Call, Plugin};
use super::{inside, ipam, single};
use crate::netlink::{LinkChange, LinkKind, Mac, Netlink, NetlinkError, NewLink};
use crate::netns::Netns;
use crate::spec::{AddResult, CniError, Code, Explain};
use serde::Deserialize;
use std::os::fd::AsFd;

/// The plugin.
pub struct Macvlan;

/// The kernel's number of that mode.
const PASSTHRU: u32 = 8;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    master: Option<String>,
    mode: Option<String>,
    mtu: u32,
    link_in_container: bool,
    #[serde(rename = "bcqueuelen")]
    broadcast_queue: Option<u32>,
    args: Option<Args>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Args {
    cni: Option<CniArgs>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CniArgs {
    mac: Option<String>,
}

impl Conf {
    fn read(call: &Call) -> Result<(Conf, u32), CniError> {
        let mut conf: Conf = call.conf()?;
        conf.master = conf.master.filter(|it| !it.is_empty());
        let mode = match conf.mode.as_deref() {
            None | Some("" | "bridge") => 4,
            Some("private") => 1,
            Some("vepa") => 2,
            Some("passthru") => PASSTHRU,
            Some(other) => {
                return Err(CniError::new(
                    Code::InvalidConfig,
                    format!("macvlan: mode {other:?} is unknown"),
                )
                .details("one of bridge, private, vepa, passthru"));
            }
        };
        Ok((conf, mode))
    }
}

fn set_mac(netns: &Netns, name: &str, mac: Mac) -> Result<(), CniError> {
    let set = || -> Result<(), NetlinkError> {
        let netlink = Netlink::open()?;
        let index = netlink.link(name)?.unwrap_or_default().index;
        netlink.change_link(index, &LinkChange { mac: Some(mac), ..LinkChange::default() })
    };
    inside::within(netns, set)?.explain(Code::Network, || format!("give {name} the hardware address {mac}"))
}

impl Plugin for Macvlan {
    fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        let (conf, mode) = Conf::read(call)?;
        let mac = call.wanted_mac(conf.args.and_then(|it| it.cni).and_then(|it| it.mac))?;
        let name = &call.request.ifname;
        let make = |netns: &Netns| {
            single::with_parent(netns, conf.link_in_container, |netlink| {
                let parent = single::parent(netlink, "macvlan", conf.master.as_deref())?;
                let mtu = single::mtu("macvlan", conf.mtu, &parent)?;
                let kind =
                    LinkKind::Macvlan { parent: parent.index, mode, broadcast_queue: conf.broadcast_queue };
                let netns = Some(netns.as_fd());
                single::made(netlink.create_link(&NewLink { name, kind, mtu, mac, netns }), "macvlan")
            })?;
            // One that has its master alone begins with the master's address, whatever was asked for.
            match mac.filter(|_| mode == PASSTHRU) {
                Some(mac) => set_mac(netns, name, mac).map_err(|err| err.and(inside::remove(netns, name))),
                None => Ok(()),
            }
        };
        single::add(call, make, |netns| inside::remove(netns, name))
    }

    fn del(&self, call: &Call) -> Result<(), CniError> {
        single::del(call)
    }

    fn check(&self, call: &Call) -> Result<(), CniError> {
        Conf::read(call)?;
        single::check(call, |link| single::must_be(link, "macvlan"))
    }

    fn gc(&self, call: &Call) -> Result<(), CniError> {
        ipam::pass_on(call)
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        let (conf, _) = Conf::read(call)?;
        single::parent_is_there("macvlan", conf.master.as_deref(), conf.link_in_container)?;
        ipam::pass_on(call)
    }
}
