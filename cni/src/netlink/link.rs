//! Links: find, make, change, remove.

use super::message::{Message, find, text_of, u32_of};
use super::socket::{Netlink, NetlinkError};
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::str::FromStr;

const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;

const ADDRESS: u16 = 1;
const IFNAME: u16 = 3;
const MTU: u16 = 4;
const LINK: u16 = 5; // the parent, or the other end of a pair
const MASTER: u16 = 10;
const PROTINFO: u16 = 12;
const TX_QUEUE: u16 = 13;
const LINKINFO: u16 = 18;
const ALIAS: u16 = 20;
const NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const PORT_HAIRPIN: u16 = 4;
const PORT_ISOLATED: u16 = 33;
const BRIDGE_VLAN_FILTERING: u16 = 7;
const MACVLAN_MODE: u16 = 1;
const MACVLAN_BROADCAST_QUEUE: u16 = 7;
const IPVLAN_MODE: u16 = 1;
const VLAN_ID: u16 = 1;
const AF_SPEC: u16 = 26;
const BRIDGE_FLAGS: u16 = 0;
const BRIDGE_VLAN_INFO: u16 = 2;
const ON_BRIDGE_ITSELF: u16 = 2;

const UP: u32 = 1;
const PROMISC: u32 = 0x100;
const ALL_MULTICAST: u32 = 0x200;
const AF_BRIDGE: u8 = 7;

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

/// A link to make that is no pair.
#[derive(Debug)]
pub struct NewLink<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub kind: LinkKind,
    /// Its packet size; the kernel's choice when absent.
    pub mtu: Option<u32>,
    /// Its hardware address; the kernel's choice when absent.
    pub mac: Option<Mac>,
    /// The namespace it shall be in; ours when absent. The link below is looked for in ours.
    pub netns: Option<BorrowedFd<'a>>,
}

/// What a new link is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkKind {
    /// A bridge. Its hardware address stays, whatever joins it, when one is given.
    Bridge {
        /// It looks at VLAN tags.
        vlans: bool,
    },
    /// Another hardware address on the link below.
    Macvlan {
        /// The number of the link below.
        parent: u32,
        /// The kernel's number: 1 private, 2 vepa, 4 bridge, 8 passthru.
        mode: u32,
        /// How many broadcast packets may wait.
        broadcast_queue: Option<u32>,
    },
    /// Another IP address on the link below.
    Ipvlan {
        /// The number of the link below.
        parent: u32,
        /// The kernel's number: 0 l2, 1 l3, 2 l3s.
        mode: u16,
    },
    /// The packets with one VLAN tag of the link below.
    Vlan {
        /// The number of the link below.
        parent: u32,
        /// The tag.
        id: u16,
    },
    /// A link that leads nowhere.
    Dummy,
    /// A link whose incoming packets are another's, to be queued.
    Ifb,
}

impl LinkKind {
    fn name(self) -> &'static str {
        match self {
            LinkKind::Bridge { .. } => "bridge",
            LinkKind::Macvlan { .. } => "macvlan",
            LinkKind::Ipvlan { .. } => "ipvlan",
            LinkKind::Vlan { .. } => "vlan",
            LinkKind::Dummy => "dummy",
            LinkKind::Ifb => "ifb",
        }
    }

    fn parent(self) -> Option<u32> {
        match self {
            LinkKind::Macvlan { parent, .. }
            | LinkKind::Ipvlan { parent, .. }
            | LinkKind::Vlan { parent, .. } => Some(parent),
            LinkKind::Bridge { .. } | LinkKind::Dummy | LinkKind::Ifb => None,
        }
    }

    fn write(self, info: &mut Message) {
        info.attr(INFO_KIND, self.name().as_bytes());
        match self {
            LinkKind::Bridge { vlans: true } => info.nest(INFO_DATA, &[], |data| {
                data.attr_u8(BRIDGE_VLAN_FILTERING, 1);
            }),
            LinkKind::Macvlan { mode, broadcast_queue, .. } => info.nest(INFO_DATA, &[], |data| {
                data.attr_u32(MACVLAN_MODE, mode);
                if let Some(length) = broadcast_queue {
                    data.attr_u32(MACVLAN_BROADCAST_QUEUE, length);
                }
            }),
            LinkKind::Ipvlan { mode, .. } => info.nest(INFO_DATA, &[], |data| {
                data.attr(IPVLAN_MODE, &mode.to_ne_bytes());
            }),
            LinkKind::Vlan { id, .. } => info.nest(INFO_DATA, &[], |data| {
                data.attr(VLAN_ID, &id.to_ne_bytes());
            }),
            LinkKind::Bridge { vlans: false } | LinkKind::Dummy | LinkKind::Ifb => info,
        };
    }
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

    /// Lets a bridge look at VLAN tags.
    pub fn heed_vlans(&self, index: u32) -> Result<(), NetlinkError> {
        let mut message = Message::new(NEW_LINK, 0, &header(0, index, 0, 0));
        message.nest(LINKINFO, &[], |info| LinkKind::Bridge { vlans: true }.write(info));
        self.change(message, || format!("let bridge {index} look at VLAN tags"))
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

    /// Makes a link that is no pair; a name that is taken is an error.
    pub fn create_link(&self, new: &NewLink<'_>) -> Result<(), NetlinkError> {
        self.change(new_link(new), || format!("create {} {}", new.kind.name(), new.name))
    }

    /// Moves a link to another namespace, under another name there; what was set on it is lost.
    pub fn move_link(&self, index: u32, netns: BorrowedFd<'_>, name: &str) -> Result<(), NetlinkError> {
        let mut message = Message::new(NEW_LINK, 0, &header(0, index, 0, 0));
        message.attr_u32(NET_NS_FD, netns.as_raw_fd().unsigned_abs()).attr_text(IFNAME, name);
        self.change(message, || format!("move link {index} to another namespace as {name}"))
    }

    /// Lets a port of a bridge, or with `itself` the bridge's own, carry VLANs.
    pub fn add_vlans(&self, index: u32, vlans: &[PortVlans], itself: bool) -> Result<(), NetlinkError> {
        let message = port_vlans(SET_LINK, index, vlans, itself);
        self.change(message, || format!("let link {index} carry VLANs {vlans:?}"))
    }

    /// Takes VLANs from a port of a bridge.
    pub fn remove_vlans(&self, index: u32, vlans: &[PortVlans]) -> Result<(), NetlinkError> {
        let message = port_vlans(DEL_LINK, index, vlans, false);
        self.change(message, || format!("take VLANs {vlans:?} from link {index}"))
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

/// VLANs of a bridge's port, from one to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortVlans {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
    /// Packets without a tag belong to it, and leave without one.
    pub untagged: bool,
}

fn port_vlans(kind: u16, index: u32, vlans: &[PortVlans], itself: bool) -> Message {
    let mut message = Message::new(kind, 0, &header(AF_BRIDGE, index, 0, 0));
    message.nest(AF_SPEC, &[], |spec| {
        if itself {
            spec.attr(BRIDGE_FLAGS, &ON_BRIDGE_ITSELF.to_ne_bytes());
        }
        for vlan in vlans {
            let mut one = |flags: u16, id: u16| {
                spec.attr(BRIDGE_VLAN_INFO, &[flags.to_ne_bytes(), id.to_ne_bytes()].concat());
            };
            if vlan.first == vlan.last {
                one(if vlan.untagged { 2 | 4 } else { 0 }, vlan.first);
            } else {
                one(8, vlan.first);
                one(16, vlan.last);
            }
        }
    });
    message
}

fn new_link(new: &NewLink<'_>) -> Message {
    let mut message = Message::new(NEW_LINK, CREATE | EXCLUSIVE, &header(0, 0, 0, 0));
    message.attr_text(IFNAME, new.name);
    if let Some(mac) = new.mac {
        message.attr(ADDRESS, &mac.0);
    }
    for (kind, number) in [(MTU, new.mtu), (LINK, new.kind.parent())] {
        if let Some(number) = number {
            message.attr_u32(kind, number);
        }
    }
    if let Some(netns) = new.netns {
        message.attr_u32(NET_NS_FD, netns.as_raw_fd().unsigned_abs());
    }
    message.nest(LINKINFO, &[], |info| new.kind.write(info));
    message
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

fn header(family: u8, index: u32, flags: u32, mask: u32) -> [u8; 16] {
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(message: Message) -> String {
        message.finish(0, 0)[32..].iter().map(|it| format!("{it:02x}")).collect()
    }

    #[test]
    fn links_that_a_kernel_may_refuse() {
        let check = |kind: LinkKind, wanted: &str| {
            let new = NewLink { name: "n0", kind, mtu: None, mac: None, netns: None };
            assert_eq!(hex(new_link(&new)), format!("070003006e300000{wanted}"), "{kind:?}");
        };
        check(LinkKind::Dummy, "10001280090001006475 6d6d79000000".replace(' ', "").as_str());
        check(
            LinkKind::Ipvlan { parent: 7, mode: 2 },
            "08000500070000001c0012800a00010069707669 61 6e0000 0c000280 06000100 02000000"
                .replace("69707669 61 6e", "6970766c616e")
                .replace(' ', "")
                .as_str(),
        );
        check(
            LinkKind::Vlan { parent: 7, id: 100 },
            "0800050007000000180012800800010076 6c616e 0c000280 0600010064000000".replace(' ', "").as_str(),
        );
        check(
            LinkKind::Bridge { vlans: true },
            "1c0012800a000100627269646765 0000 0c000280 0500070001000000".replace(' ', "").as_str(),
        );
    }

    #[test]
    fn vlans_of_a_port() {
        let one = PortVlans { first: 5, last: 5, untagged: true };
        let many = PortVlans { first: 10, last: 20, untagged: false };
        assert_eq!(
            hex(port_vlans(SET_LINK, 3, &[one, many], true)),
            "24001a80060000000200000008000200060005000800020008000a00080002001000 1400".replace(' ', "")
        );
    }
}
