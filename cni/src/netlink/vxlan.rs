//! How a link of kind `vxlan` wraps frames for other hosts.

use super::message::{Message, find, ip_bytes, ip_of, u32_of};
use std::net::IpAddr;

const ID: u16 = 1;
const PARENT: u16 = 3;
const LOCAL: u16 = 4;
const LEARNING: u16 = 7;
const PORT: u16 = 15;
const LOCAL6: u16 = 17;

/// The settings of a link that wraps frames in UDP packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vxlan {
    /// The network's number (VNI).
    pub id: u32,
    /// The UDP port, here and there.
    pub port: u16,
    /// The address that packets come from.
    pub local: Option<IpAddr>,
    /// The number of the link that packets leave by.
    pub parent: Option<u32>,
    /// Learn from incoming frames which host has which hardware address.
    pub learning: bool,
}

impl Vxlan {
    pub(super) fn write(self, data: &mut Message) {
        data.attr_u32(ID, self.id);
        if let Some(parent) = self.parent {
            data.attr_u32(PARENT, parent);
        }
        if let Some(local) = self.local {
            data.attr(if local.is_ipv4() { LOCAL } else { LOCAL6 }, &ip_bytes(local));
        }
        data.attr_u8(LEARNING, self.learning.into()).attr(PORT, &self.port.to_be_bytes());
    }

    pub(super) fn read(data: &[u8]) -> Vxlan {
        let port = find(data, PORT).and_then(|it| <[u8; 2]>::try_from(it).ok());
        Vxlan {
            id: find(data, ID).and_then(u32_of).unwrap_or(0),
            port: port.map(u16::from_be_bytes).unwrap_or(0),
            local: find(data, LOCAL).or_else(|| find(data, LOCAL6)).and_then(ip_of),
            parent: find(data, PARENT).and_then(u32_of).filter(|it| *it != 0),
            learning: find(data, LEARNING).is_some_and(|it| it.first() == Some(&1)),
        }
    }
}
