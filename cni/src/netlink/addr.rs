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
}

impl Netlink {
    /// The addresses of one link.
    pub fn addresses(&self, link: u32) -> Result<Vec<Address>, NetlinkError> {
        let all = self.dump(
            || Message::new(GET_ADDR, 0, &header(0, 0, 0)),
            || format!("list addresses of link {link}"),
            read,
        )?;
        Ok(all.into_iter().filter(|address| address.link == link).collect())
    }

    /// Gives a link an address; there already is fine. `dad` lets IPv6 look for duplicates first.
    pub fn add_address(&self, link: u32, cidr: Cidr, dad: bool) -> Result<(), NetlinkError> {
        let mut message =
            Message::new(NEW_ADDR, CREATE | REPLACE, &header(family(cidr), cidr.prefix(), link));
        let bytes = ip_bytes(cidr.addr());
        message.attr(LOCAL, &bytes).attr(ADDRESS, &bytes);
        if !dad && !cidr.is_ipv4() {
            message.attr_u32(FLAGS, NO_DAD);
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
    Some(Address { link: u32_of(&fixed[4..])?, cidr, link_scope: fixed[3] == SCOPE_LINK })
}
