//! The cluster's DNS address on `lo`: each node answers its own pods.

use coracle_cni::Cidr;
use coracle_cni::netlink::{LinkChange, Netlink, NetlinkError};
use std::net::IpAddr;

const LO: &str = "lo";

/// Adds the addresses; those that are there stay.
pub(crate) fn add(addresses: &[IpAddr]) -> Result<(), NetlinkError> {
    let netlink = Netlink::open()?;
    let Some(lo) = netlink.link(LO)? else { return Ok(()) };
    if !lo.up {
        netlink.change_link(lo.index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
    }
    addresses.iter().try_for_each(|addr| netlink.add_address(lo.index, Cidr::host(*addr), false))
}

/// Removes the addresses that are there.
pub(crate) fn remove(addresses: &[IpAddr]) -> Result<(), NetlinkError> {
    let netlink = Netlink::open()?;
    let Some(lo) = netlink.link(LO)? else { return Ok(()) };
    for addr in addresses {
        match netlink.delete_address(lo.index, Cidr::host(*addr)) {
            Err(err) if err.is_not_found() => {}
            done => done?,
        }
    }
    Ok(())
}
