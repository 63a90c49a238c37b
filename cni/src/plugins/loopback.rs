//! `loopback`: the container's own lo is switched on.

use super::entry::{Call, Plugin};
use crate::address::Cidr;
use crate::netlink::{Link, LinkChange, Netlink, NetlinkError};
use crate::spec::{AddResult, CniError, Code, Explain, Interface, IpConfig};

/// The plugin.
pub struct Loopback;

const NAME: &str = "lo";

impl Plugin for Loopback {
    fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        let made = call
            .netns()?
            .enter(|| switch(true))
            .explain(Code::Io, || "enter the container's namespace".into())?;
        let (_, addresses) = made.explain(Code::Network, || format!("switch {NAME} on"))?;
        if let Some(before) = call.common.prev_result()? {
            return Ok(before);
        }
        let interface = Interface {
            name: NAME.into(),
            mac: "00:00:00:00:00:00".into(),
            sandbox: call.sandbox(),
            ..Interface::default()
        };
        let ip = |address| IpConfig { interface: Some(0), address, gateway: None };
        Ok(AddResult {
            interfaces: vec![interface],
            ips: addresses.into_iter().map(ip).collect(),
            ..AddResult::default()
        })
    }

    fn del(&self, call: &Call) -> Result<(), CniError> {
        let Some(netns) = call.netns_if_present()? else { return Ok(()) };
        let done =
            netns.enter(|| switch(false)).explain(Code::Io, || "enter the container's namespace".into())?;
        done.map(drop).explain(Code::Network, || format!("switch {NAME} off"))
    }

    fn check(&self, call: &Call) -> Result<(), CniError> {
        let seen = call.netns()?.enter(|| Netlink::open()?.link(NAME));
        let seen = seen.explain(Code::Io, || "enter the container's namespace".into())?;
        match seen.explain(Code::Network, || format!("look for {NAME}"))? {
            Some(Link { up: true, .. }) => Ok(()),
            Some(_) => Err(CniError::new(Code::CheckFailed, format!("{NAME} is switched off"))),
            None => Err(CniError::new(Code::CheckFailed, format!("there is no {NAME}"))),
        }
    }

    fn gc(&self, _: &Call) -> Result<(), CniError> {
        Ok(()) // nothing of it is outside the container
    }

    fn status(&self, _: &Call) -> Result<(), CniError> {
        Ok(())
    }
}

fn switch(up: bool) -> Result<(Link, Vec<Cidr>), NetlinkError> {
    let netlink = Netlink::open()?;
    // The kernel makes it first in every namespace.
    let first = || Link { index: 1, name: NAME.into(), ..Link::default() };
    let link = netlink.link(NAME)?.unwrap_or_else(first);
    netlink.change_link(link.index, &LinkChange { up: Some(up), ..LinkChange::default() })?;
    let addresses = netlink.addresses(link.index)?.into_iter().map(|address| address.cidr).collect();
    Ok((link, addresses))
}
