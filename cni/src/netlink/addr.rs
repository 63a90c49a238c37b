//! Addresses of a link.

use super::message::{Message, find, ip_bytes, ip_of, u32_of};
use super::socket::{Netlink, NetlinkError};
use crate::address::Cidr;

const NEW_ADDR: u16 = 20;
const DEL_ADDR: u16 = 21;
const GET_ADDR: u16 = 22;
const CREATE: u16 = 0x400;
const REPLACE: u16 = 0x100;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const FLAGS: u16 = 8;
const NO_DAD: u32 = 2;
const NO_PREFIX_ROUTE: u32 = 0x200;
const DUPLICATE: u32 = 8;
const TENTATIVE: u32 = 0x40;
const SCOPE_LINK: u8 = 253;

/// An address of a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// The link's number.
    pub link: u32,
    /// The address with its prefix length.
    pub cidr: Cidr,
    /// Given by the kernel for this link alone.
    pub link_scope: bool,
    /// Not usable yet: the kernel looks whether a neighbour has it.
    pub tentative: bool,
    /// A neighbour has it.
    pub duplicate: bool,
}

/// What goes with a new address.
#[derive(Clone, Copy, Default, Debug)]
pub struct AddressOptions {
    /// Let IPv6 look for duplicates first.
    pub dad: bool,
    /// Make no route to the address's network.
    pub no_route: bool,
}

impl Netlink {
    /// The addresses of one link.
    pub fn addresses(&self, link: u32) -> Result<Vec<Address>, NetlinkError> {
        Ok(self.all_addresses()?.into_iter().filter(|address| address.link == link).collect())
    }

    /// The addresses of all links.
    pub fn all_addresses(&self) -> Result<Vec<Address>, NetlinkError> {
        self.dump(|| Message::new(GET_ADDR, 0, &header(0, 0, 0)), || "list addresses".into(), read)
    }

    /// Gives a link an address; there already is fine. `dad` lets IPv6 look for duplicates first.
    pub fn add_address(&self, link: u32, cidr: Cidr, dad: bool) -> Result<(), NetlinkError> {
        self.add_address_with(link, cidr, AddressOptions { dad, no_route: false })
    }

    /// Gives a link an address; there already is fine.
    pub fn add_address_with(
        &self,
        link: u32,
        cidr: Cidr,
        options: AddressOptions,
    ) -> Result<(), NetlinkError> {
        let mut message =
            Message::new(NEW_ADDR, CREATE | REPLACE, &header(family(cidr), cidr.prefix(), link));
        let bytes = ip_bytes(cidr.addr());
        message.attr(LOCAL, &bytes).attr(ADDRESS, &bytes);
        let no_dad = if !options.dad && !cidr.is_ipv4() { NO_DAD } else { 0 };
        let flags = no_dad | if options.no_route { NO_PREFIX_ROUTE } else { 0 };
        if flags != 0 {
            message.attr_u32(FLAGS, flags);
        }
        self.change(message, || format!("add address {cidr} to link {link}"))
    }

    /// Takes an address away.
    pub fn delete_address(&self, link: u32, cidr: Cidr) -> Result<(), NetlinkError> {
        let mut message = Message::new(DEL_ADDR, 0, &header(family(cidr), cidr.prefix(), link));
        message.attr(LOCAL, &ip_bytes(cidr.addr()));
        self.change(message, || format!("remove address {cidr} from link {link}"))
    }
}

pub(super) fn family(cidr: Cidr) -> u8 {
    if cidr.is_ipv4() { 2 } else { 10 }
}

fn header(family: u8, prefix: u8, link: u32) -> [u8; 8] {
    let [a, b, c, d] = link.to_ne_bytes();
    [family, prefix, 0, 0, a, b, c, d]
}

fn read(body: &[u8]) -> Option<Address> {
    let (fixed, attributes) = body.split_at_checked(8)?;
    let addr = find(attributes, LOCAL).or_else(|| find(attributes, ADDRESS)).and_then(ip_of)?;
    let cidr = Cidr::new(addr, fixed[1]).ok()?;
    let flags = find(attributes, FLAGS).and_then(u32_of).unwrap_or_else(|| fixed[2].into());
    Some(Address {
        link: u32_of(&fixed[4..])?,
        cidr,
        link_scope: fixed[3] == SCOPE_LINK,
        tentative: flags & TENTATIVE != 0,
        duplicate: flags & DUPLICATE != 0,
    })
}
