//! Links: find, make, change, remove.

use super::message::{Message, find, text_of, u32_of};
use super::socket::{Netlink, NetlinkError};
use super::vxlan::Vxlan;
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::str::FromStr;

pub(super) const NEW_LINK: u16 = 16;
pub(super) const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
pub(super) const SET_LINK: u16 = 19;
pub(super) const CREATE: u16 = 0x400;
pub(super) const EXCLUSIVE: u16 = 0x200;

pub(super) const ADDRESS: u16 = 1;
pub(super) const IFNAME: u16 = 3;
pub(super) const MTU: u16 = 4;
pub(super) const LINK: u16 = 5; // the parent, or the other end of a pair
const MASTER: u16 = 10;
const PROTINFO: u16 = 12;
const TX_QUEUE: u16 = 13;
pub(super) const LINKINFO: u16 = 18;
const ALIAS: u16 = 20;
pub(super) const NET_NS_FD: u16 = 28;
pub(super) const INFO_KIND: u16 = 1;
pub(super) const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const PORT_HAIRPIN: u16 = 4;
const PORT_ISOLATED: u16 = 33;

const UP: u32 = 1;
const PROMISC: u32 = 0x100;
const ALL_MULTICAST: u32 = 0x200;
pub(super) const AF_BRIDGE: u8 = 7;

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Mac, String> {
        let bytes: Option<Vec<u8>> =
            text.split([':', '-']).map(|it| u8::from_str_radix(it, 16).ok()).collect();
        let bytes = bytes.and_then(|it| <[u8; 6]>::try_from(it).ok());
        bytes.map(Mac).ok_or_else(|| format!("{text:?} is not a hardware address such as 0a:58:0a:01:00:05"))
    }
}

/// A link as the kernel describes it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `bridge`, `veth`, ...; empty for a device of hardware.
    pub kind: String,
    /// Its hardware address, where it has one of six bytes.
    pub mac: Option<Mac>,
    /// Its maximum packet size.
    pub mtu: u32,
    /// Switched on.
    pub up: bool,
    /// Takes packets for other addresses too.
    pub promisc: bool,
    /// Takes packets for all groups too.
    pub all_multicast: bool,
    /// The bridge or bond it belongs to.
    pub master: Option<u32>,
    /// The number of the link at the other end, or of the one below.
    pub peer: Option<u32>,
    /// How many packets may wait to be sent.
    pub tx_queue: u32,
    /// A text that somebody put on it.
    pub alias: String,
    /// How it wraps frames, when its kind is `vxlan`.
    pub vxlan: Option<Vxlan>,
}

/// A pair of links to make: one here, one in another namespace.
#[derive(Debug)]
pub struct Veth<'a> {
    /// Name of the end here.
    pub name: &'a str,
    /// Packet size of both; the kernel's choice when absent.
    pub mtu: Option<u32>,
    /// The bridge that the end here joins.
    pub master: Option<u32>,
    /// Name of the other end.
    pub peer_name: &'a str,
    /// Hardware address of the other end.
    pub peer_mac: Option<Mac>,
    /// The namespace of the other end.
    pub peer_netns: BorrowedFd<'a>,
}

/// What to change on a link; what is absent stays.
#[derive(Default, Debug)]
pub struct LinkChange {
    /// Switch on or off.
    pub up: Option<bool>,
    /// Take packets for other addresses too.
    pub promisc: Option<bool>,
    /// Maximum packet size.
    pub mtu: Option<u32>,
    /// Hardware address.
    pub mac: Option<Mac>,
    /// Take packets for all groups too.
    pub all_multicast: Option<bool>,
    /// How many packets may wait to be sent.
    pub tx_queue: Option<u32>,
    /// Its name; it must be switched off.
    pub name: Option<String>,
    /// A text to find it by.
    pub alias: Option<String>,
    /// The bridge or bond to join.
    pub master: Option<u32>,
}

impl Netlink {
    /// The link of that name, if there is one.
    pub fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut message = Message::new(GET_LINK, 0, &header(0, 0, 0, 0));
        message.attr_text(IFNAME, name);
        absent_is_none(self.get(message, || format!("look for link {name}"), read))
    }

    /// All links.
    pub fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        self.dump(|| Message::new(GET_LINK, 0, &header(0, 0, 0, 0)), || "list links".into(), read)
    }

    /// Makes a pair; the end here is switched on, and a port of its bridge, from the start.
    pub fn create_veth(&self, veth: &Veth<'_>) -> Result<(), NetlinkError> {
        let mut message = Message::new(NEW_LINK, CREATE | EXCLUSIVE, &header(0, 0, UP, UP));
        message.attr_text(IFNAME, veth.name);
        if let Some(mtu) = veth.mtu {
            message.attr_u32(MTU, mtu);
        }
        if let Some(master) = veth.master {
            message.attr_u32(MASTER, master);
        }
        let netns = veth.peer_netns.as_raw_fd().unsigned_abs();
        message.nest(LINKINFO, &[], |info| {
            info.attr(INFO_KIND, b"veth").nest(INFO_DATA, &[], |data| {
                data.nest(VETH_PEER, &header(0, 0, 0, 0), |peer| {
                    peer.attr_text(IFNAME, veth.peer_name).attr_u32(NET_NS_FD, netns);
                    if let Some(mtu) = veth.mtu {
                        peer.attr_u32(MTU, mtu);
                    }
                    if let Some(mac) = veth.peer_mac {
                        peer.attr(ADDRESS, &mac.0);
                    }
                });
            });
        });
        self.change(message, || format!("create veth {} with {} at its other end", veth.name, veth.peer_name))
    }

    /// Moves a link to another namespace, under another name there; what was set on it is lost.
    pub fn move_link(&self, index: u32, netns: BorrowedFd<'_>, name: &str) -> Result<(), NetlinkError> {
        let mut message = Message::new(NEW_LINK, 0, &header(0, index, 0, 0));
        message.attr_u32(NET_NS_FD, netns.as_raw_fd().unsigned_abs()).attr_text(IFNAME, name);
        self.change(message, || format!("move link {index} to another namespace as {name}"))
    }

    /// Changes a link.
    pub fn change_link(&self, index: u32, change: &LinkChange) -> Result<(), NetlinkError> {
        let (mut flags, mut mask) = (0, 0);
        for (wanted, bit) in
            [(change.up, UP), (change.promisc, PROMISC), (change.all_multicast, ALL_MULTICAST)]
        {
            if let Some(on) = wanted {
                mask |= bit;
                flags |= if on { bit } else { 0 };
            }
        }
        let mut message = Message::new(NEW_LINK, 0, &header(0, index, flags, mask));
        if let Some(mtu) = change.mtu {
            message.attr_u32(MTU, mtu);
        }
        if let Some(mac) = change.mac {
            message.attr(ADDRESS, &mac.0);
        }
        for (kind, number) in [(TX_QUEUE, change.tx_queue), (MASTER, change.master)] {
            if let Some(number) = number {
                message.attr_u32(kind, number);
            }
        }
        for (kind, text) in [(IFNAME, &change.name), (ALIAS, &change.alias)] {
            if let Some(text) = text {
                message.attr_text(kind, text);
            }
        }
        self.change(message, || format!("change link {index}: {change}"))
    }

    /// Lets a port of a bridge send frames back where they came from, and cuts it off from other isolated ports;
    /// what is absent stays.
    pub fn set_bridge_port(
        &self,
        index: u32,
        hairpin: Option<bool>,
        isolated: Option<bool>,
    ) -> Result<(), NetlinkError> {
        let mut message = Message::new(SET_LINK, 0, &header(AF_BRIDGE, index, 0, 0));
        message.nest(PROTINFO, &[], |port| {
            for (kind, on) in [(PORT_HAIRPIN, hairpin), (PORT_ISOLATED, isolated)] {
                if let Some(on) = on {
                    port.attr_u8(kind, on.into());
                }
            }
        });
        self.change(message, || format!("set up bridge port {index}"))
    }

    /// Removes a link, and with it the other end of a pair.
    pub fn delete_link(&self, index: u32) -> Result<(), NetlinkError> {
        let message = Message::new(DEL_LINK, 0, &header(0, index, 0, 0));
        self.change(message, || format!("delete link {index}"))
    }

    /// Removes the link of that name; true when there was one.
    pub fn delete_link_named(&self, name: &str) -> Result<bool, NetlinkError> {
        let Some(link) = self.link(name)? else { return Ok(false) };
        Ok(absent_is_none(self.delete_link(link.index).map(Some))?.is_some())
    }
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LinkChange { up, promisc, mtu, mac, all_multicast, tx_queue, name, alias, master } = self;
        let mut parts = Vec::new();
        let mut say =
            |name: &str, value: Option<String>| parts.extend(value.map(|it| format!("{name} {it}")));
        say("up", up.map(|it| it.to_string()));
        say("promiscuous", promisc.map(|it| it.to_string()));
        say("mtu", mtu.map(|it| it.to_string()));
        say("address", mac.map(|it| it.to_string()));
        say("all multicast", all_multicast.map(|it| it.to_string()));
        say("transmit queue", tx_queue.map(|it| it.to_string()));
        say("name", name.clone());
        say("alias", alias.clone());
        say("master", master.map(|it| it.to_string()));
        f.write_str(&parts.join(", "))
    }
}

fn absent_is_none<T>(answer: Result<Option<T>, NetlinkError>) -> Result<Option<T>, NetlinkError> {
    match answer {
        Err(err) if err.is_not_found() => Ok(None),
        other => other,
    }
}

pub(super) fn header(family: u8, index: u32, flags: u32, mask: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&mask.to_ne_bytes());
    header
}

fn read(body: &[u8]) -> Option<Link> {
    let (fixed, attributes) = body.split_at_checked(16)?;
    let flags = u32_of(&fixed[8..])?;
    let mac = find(attributes, ADDRESS).and_then(|it| <[u8; 6]>::try_from(it).ok()).map(Mac);
    let kind = find(attributes, LINKINFO).and_then(|info| find(info, INFO_KIND)).map(text_of);
    let vxlan = kind.as_deref() == Some("vxlan");
    let data = find(attributes, LINKINFO).and_then(|info| find(info, INFO_DATA)).filter(|_| vxlan);
    Some(Link {
        index: u32_of(&fixed[4..])?,
        name: find(attributes, IFNAME).map(text_of)?,
        kind: kind.unwrap_or_default(),
        mac,
        mtu: find(attributes, MTU).and_then(u32_of).unwrap_or(0),
        up: flags & UP != 0,
        promisc: flags & PROMISC != 0,
        all_multicast: flags & ALL_MULTICAST != 0,
        master: find(attributes, MASTER).and_then(u32_of),
        peer: find(attributes, LINK).and_then(u32_of),
        tx_queue: find(attributes, TX_QUEUE).and_then(u32_of).unwrap_or(0),
        alias: find(attributes, ALIAS).map(text_of).unwrap_or_default(),
        vxlan: data.map(Vxlan::read),
    })
}
