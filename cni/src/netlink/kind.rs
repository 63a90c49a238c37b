//! Links of many kinds, made; VLANs of a bridge.

use super::link::{
    ADDRESS, AF_BRIDGE, CREATE, DEL_LINK, EXCLUSIVE, IFNAME, INFO_DATA, INFO_KIND, LINK, LINKINFO, MTU, Mac,
    NET_NS_FD, NEW_LINK, SET_LINK, header,
};
use super::message::Message;
use super::socket::{Netlink, NetlinkError};
use super::vxlan::Vxlan;
use std::os::fd::{AsRawFd, BorrowedFd};

const BRIDGE_VLAN_FILTERING: u16 = 7;
const MACVLAN_MODE: u16 = 1;
const MACVLAN_BROADCAST_QUEUE: u16 = 7;
const IPVLAN_MODE: u16 = 1;
const VLAN_ID: u16 = 1;
const AF_SPEC: u16 = 26;
const BRIDGE_FLAGS: u16 = 0;
const BRIDGE_VLAN_INFO: u16 = 2;
const ON_BRIDGE_ITSELF: u16 = 2;

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
    /// Frames in UDP packets to other hosts.
    Vxlan(Vxlan),
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
            LinkKind::Vxlan(_) => "vxlan",
            LinkKind::Dummy => "dummy",
            LinkKind::Ifb => "ifb",
        }
    }

    fn parent(self) -> Option<u32> {
        match self {
            LinkKind::Macvlan { parent, .. }
            | LinkKind::Ipvlan { parent, .. }
            | LinkKind::Vlan { parent, .. } => Some(parent),
            LinkKind::Bridge { .. } | LinkKind::Vxlan(_) | LinkKind::Dummy | LinkKind::Ifb => None,
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
            LinkKind::Vxlan(vxlan) => info.nest(INFO_DATA, &[], |data| vxlan.write(data)),
            LinkKind::Bridge { vlans: false } | LinkKind::Dummy | LinkKind::Ifb => info,
        };
    }
}

impl Netlink {
    /// Makes a link that is no pair; a name that is taken is an error.
    pub fn create_link(&self, new: &NewLink<'_>) -> Result<(), NetlinkError> {
        self.change(new_link(new), || format!("create {} {}", new.kind.name(), new.name))
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

    /// Lets a bridge look at VLAN tags.
    pub fn heed_vlans(&self, index: u32) -> Result<(), NetlinkError> {
        let mut message = Message::new(NEW_LINK, 0, &header(0, index, 0, 0));
        message.nest(LINKINFO, &[], |info| LinkKind::Bridge { vlans: true }.write(info));
        self.change(message, || format!("let bridge {index} look at VLAN tags"))
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
