//! Neighbours: which hardware address an IP address has, and behind which host a hardware address is.

use super::link::{AF_BRIDGE, Mac};
use super::message::{Message, find, ip_bytes, ip_of, u32_of};
use super::socket::{Netlink, NetlinkError};
use std::net::IpAddr;

pub(super) const NEW_NEIGHBOUR: u16 = 28;
pub(super) const DEL_NEIGHBOUR: u16 = 29;
const GET_NEIGHBOUR: u16 = 30;
const CREATE: u16 = 0x400;
const REPLACE: u16 = 0x100;
const DESTINATION: u16 = 1;
const LINK_ADDRESS: u16 = 2;
const PERMANENT: u16 = 0x80;
const OF_LINK_ITSELF: u8 = 2;

/// The hardware address of an IP address on a link, set for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// The link's number.
    pub link: u32,
    /// The IP address.
    pub addr: IpAddr,
    /// Its hardware address.
    pub mac: Mac,
}

/// The host behind which a hardware address is, for a link of kind `vxlan`; set for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FdbEntry {
    /// The link's number.
    pub link: u32,
    /// The hardware address.
    pub mac: Mac,
    /// The host.
    pub host: IpAddr,
}

impl Netlink {
    /// The neighbours of all links that were set for good.
    pub fn neighbours(&self) -> Result<Vec<Neighbour>, NetlinkError> {
        let message = || Message::new(GET_NEIGHBOUR, 0, &header(0, 0, 0, 0));
        self.dump(
            message,
            || "list neighbours".into(),
            |body| {
                let (link, addr, mac) = read(body).filter(|_| body.first() != Some(&AF_BRIDGE))?;
                Some(Neighbour { link, addr, mac })
            },
        )
    }

    /// Sets a neighbour for good, whatever was known of it.
    pub fn set_neighbour(&self, it: &Neighbour) -> Result<(), NetlinkError> {
        let message = write(NEW_NEIGHBOUR, CREATE | REPLACE, (family(it.addr), 0), it.link, it.mac, it.addr);
        self.change(message, || format!("set neighbour {} to {}", it.addr, it.mac))
    }

    /// Forgets a neighbour.
    pub fn delete_neighbour(&self, it: &Neighbour) -> Result<(), NetlinkError> {
        let message = write(DEL_NEIGHBOUR, 0, (family(it.addr), 0), it.link, it.mac, it.addr);
        self.change(message, || format!("forget neighbour {}", it.addr))
    }

    /// The hosts behind hardware addresses, of all links that wrap frames.
    pub fn fdb(&self) -> Result<Vec<FdbEntry>, NetlinkError> {
        let message = || Message::new(GET_NEIGHBOUR, 0, &header(AF_BRIDGE, 0, 0, 0));
        self.dump(
            message,
            || "list forwarding entries".into(),
            |body| {
                let (link, host, mac) = read(body).filter(|_| body.first() == Some(&AF_BRIDGE))?;
                Some(FdbEntry { link, mac, host })
            },
        )
    }

    /// Sets behind which host a hardware address is, whatever was known of it.
    pub fn set_fdb(&self, it: &FdbEntry) -> Result<(), NetlinkError> {
        let message =
            write(NEW_NEIGHBOUR, CREATE | REPLACE, (AF_BRIDGE, OF_LINK_ITSELF), it.link, it.mac, it.host);
        self.change(message, || format!("set host {} for {}", it.host, it.mac))
    }

    /// Forgets behind which host a hardware address is.
    pub fn delete_fdb(&self, it: &FdbEntry) -> Result<(), NetlinkError> {
        let message = write(DEL_NEIGHBOUR, 0, (AF_BRIDGE, OF_LINK_ITSELF), it.link, it.mac, it.host);
        self.change(message, || format!("forget host {} for {}", it.host, it.mac))
    }
}

fn family(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 2 } else { 10 }
}

fn header(family: u8, link: u32, state: u16, flags: u8) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = family;
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header[10] = flags;
    header
}

fn write(kind: u16, how: u16, (family, flags): (u8, u8), link: u32, mac: Mac, addr: IpAddr) -> Message {
    let mut message = Message::new(kind, how, &header(family, link, PERMANENT, flags));
    message.attr(DESTINATION, &ip_bytes(addr)).attr(LINK_ADDRESS, &mac.0);
    message
}

/// Link, IP address, hardware address of an entry that was set for good.
fn read(body: &[u8]) -> Option<(u32, IpAddr, Mac)> {
    let (fixed, attributes) = body.split_at_checked(12)?;
    if u16::from_ne_bytes([fixed[8], fixed[9]]) & PERMANENT == 0 {
        return None;
    }
    let mac = find(attributes, LINK_ADDRESS).and_then(|it| <[u8; 6]>::try_from(it).ok()).map(Mac)?;
    Some((u32_of(&fixed[4..])?, find(attributes, DESTINATION).and_then(ip_of)?, mac))
}
