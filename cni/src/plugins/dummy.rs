//! `dummy`: a link that leads nowhere, for an address that is only to be there.

use super::entry::{Call, Plugin};
use super::{inside, ipam, single};
use crate::netlink::{LinkKind, Netlink, NewLink};
use crate::spec::{AddResult, CniError};

/// The plugin.
pub struct Dummy;

impl Plugin for Dummy {
    fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        ipam::must_be_configured(call)?;
        let name = &call.request.ifname;
        let make = |netns: &crate::netns::Netns| {
            let new = NewLink { name, kind: LinkKind::Dummy, mtu: None, mac: None, netns: None };
            let done = inside::within(netns, || Netlink::open()?.create_link(&new))?;
            single::made(done, "dummy")
        };
        single::add(call, make, |netns| inside::remove(netns, name))
    }

    fn del(&self, call: &Call) -> Result<(), CniError> {
        single::del(call)
    }

    fn check(&self, call: &Call) -> Result<(), CniError> {
        single::check(call, |link| single::must_be(link, "dummy"))
    }

    fn gc(&self, call: &Call) -> Result<(), CniError> {
        ipam::pass_on(call)
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        ipam::must_be_configured(call)?;
        ipam::pass_on(call)
    }
}
