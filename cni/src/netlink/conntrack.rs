//! Tracked connections: forget those whose translation is out of date.
//!
//! The kernel translates a connection once, at its first packet. UDP has no end, so a client that goes on
//! sending would reach a backend that is gone for ever, unless the entry is removed.

use super::message::{Message, find, ip_of};
use super::socket::{Netlink, NetlinkError};
use nix::sys::socket::SockProtocol;
use std::net::IpAddr;

const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const PROTO_NUMBER: u16 = 1;
const PORT_SOURCE: u16 = 2;
const PORT_DESTINATION: u16 = 3;

/// One tracked connection with ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection {
    /// The protocol's number.
    pub protocol: u8,
    /// Who began it.
    pub source: Endpoint,
    /// Where the first packet was addressed to.
    pub destination: Endpoint,
    /// Where answers come from: the backend, when the destination was translated.
    pub answers_from: Endpoint,
}

/// An address with a port.
pub type Endpoint = (IpAddr, u16);

struct Entry {
    family: u8,
    original: Vec<u8>,
    id: Vec<u8>,
    connection: Connection,
}

/// Removes every connection that `stale` picks, in both families; returns how many there were.
pub fn forget(stale: impl Fn(&Connection) -> bool) -> Result<usize, NetlinkError> {
    let netlink = Netlink::with_protocol(SockProtocol::NetlinkNetFilter)?;
    let mut removed = 0;
    for family in [2, 10] {
        for entry in list(&netlink, family)?.into_iter().filter(|entry| stale(&entry.connection)) {
            match delete(&netlink, &entry) {
                Ok(()) => removed += 1,
                Err(err) if err.is_not_found() => {}
                Err(err) => return Err(err),
            }
        }
    }
    Ok(removed)
}

fn list(netlink: &Netlink, family: u8) -> Result<Vec<Entry>, NetlinkError> {
    netlink.dump(
        || Message::new(GET, 0, &[family, 0, 0, 0]),
        || "list tracked connections".into(),
        |body| read(body, family),
    )
}

fn delete(netlink: &Netlink, entry: &Entry) -> Result<(), NetlinkError> {
    let mut message = Message::new(DELETE, 0, &[entry.family, 0, 0, 0]);
    message.attr(ORIGINAL | 1 << 15, &entry.original).attr(ID, &entry.id);
    netlink.change(message, || format!("forget the connection to {}", entry.connection.destination.0))
}

fn read(body: &[u8], family: u8) -> Option<Entry> {
    let attributes = body.get(4..)?;
    let original = find(attributes, ORIGINAL)?;
    let (protocol, source, destination) = tuple(original)?;
    let (_, answers_from, _) = tuple(find(attributes, REPLY)?)?;
    let connection = Connection { protocol, source, destination, answers_from };
    Some(Entry { family, original: original.to_vec(), id: find(attributes, ID)?.to_vec(), connection })
}

/// Protocol, source and destination; nothing for a protocol without ports.
fn tuple(bytes: &[u8]) -> Option<(u8, Endpoint, Endpoint)> {
    let (ip, proto) = (find(bytes, TUPLE_IP)?, find(bytes, TUPLE_PROTO)?);
    let addr = |v4, v6| find(ip, v4).or_else(|| find(ip, v6)).and_then(ip_of);
    let port =
        |kind| find(proto, kind).and_then(|it| Some(u16::from_be_bytes(it.get(..2)?.try_into().ok()?)));
    let source = (addr(1, 3)?, port(PORT_SOURCE)?);
    let destination = (addr(2, 4)?, port(PORT_DESTINATION)?);
    Some((*find(proto, PROTO_NUMBER)?.first()?, source, destination))
}
