//! Queues that hold packets back, and filters that lead packets into them.

use super::message::{Message, find, text_of, u32_of};
use super::socket::{Netlink, NetlinkError};
use crate::address::Cidr;
use std::net::IpAddr;

const NEW_QUEUE: u16 = 36;
const DEL_QUEUE: u16 = 37;
const GET_QUEUE: u16 = 38;
const NEW_CLASS: u16 = 40;
const NEW_FILTER: u16 = 44;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const ROOT: u32 = 0xffff_ffff;
const INGRESS: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
const FIRST: u32 = 0x0001_0000; // the root queue's handle, 1:
const PROTOCOL_ALL: u16 = 3;
const PROTOCOL_IPV4: u16 = 0x0800;
const PROTOCOL_IPV6: u16 = 0x86dd;
/// How long a packet may wait before it is dropped, in milliseconds.
const LATENCY: u64 = 25;

/// A limit: bytes a second, and how many bytes may go at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Bytes a second.
    pub rate: u64,
    /// Bytes at once.
    pub burst: u32,
}

/// What tells the packets of a class apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The network at the other side.
    pub net: Cidr,
    /// Its address is the packet's source.
    pub source: bool,
}

/// A queue as the kernel describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Queue {
    /// The number of the link.
    pub link: u32,
    /// `tbf`, `htb`, `ingress`, ...
    pub kind: String,
    /// Bytes a second, of a `tbf`.
    pub rate: u64,
}

impl Netlink {
    /// All that leaves by the link is held to a rate.
    pub fn limit_link(&self, link: u32, rate: Rate) -> Result<(), NetlinkError> {
        let mut message = Message::new(NEW_QUEUE, CREATE | EXCLUSIVE, &header(link, FIRST, ROOT, 0));
        message.attr_text(KIND, "tbf").nest(OPTIONS, &[], |options| token_bucket(options, rate));
        self.change(message, || format!("limit link {link} to {} bytes/s", rate.rate))
    }

    /// Only a part of what leaves by the link is held to a rate: that to or from `peers`, or all but that.
    pub fn limit_part(&self, link: u32, rate: Rate, peers: &[Peer], only: bool) -> Result<(), NetlinkError> {
        const LIMITED: u32 = 0x10;
        const FREE: u32 = 0x20;
        let say = || format!("limit a part of link {link} to {} bytes/s", rate.rate);
        let (peers_class, others_class) = if only { (LIMITED, FREE) } else { (FREE, LIMITED) };
        let mut root = Message::new(NEW_QUEUE, CREATE | EXCLUSIVE, &header(link, FIRST, ROOT, 0));
        root.attr_text(KIND, "htb").nest(OPTIONS, &[], |options| {
            let numbers = [3_u32, 10, others_class, 0, 0]; // version, quantum's divisor, default class
            options.attr(2, &numbers.map(u32::to_ne_bytes).concat());
        });
        self.change(root, say)?;
        let unlimited = Rate { rate: u64::from(u32::MAX), burst: u32::MAX / 1024 };
        for (class, rate) in [(LIMITED, rate), (FREE, unlimited)] {
            let mut message =
                Message::new(NEW_CLASS, CREATE | EXCLUSIVE, &header(link, FIRST | class, FIRST, 0));
            message.attr_text(KIND, "htb").nest(OPTIONS, &[], |options| share(options, rate));
            self.change(message, say)?;
        }
        for (number, peer) in (1..).zip(peers) {
            let protocol = if peer.net.is_ipv4() { PROTOCOL_IPV4 } else { PROTOCOL_IPV6 };
            let fixed = header(link, 0, FIRST, filter_info(number, protocol));
            let mut message = Message::new(NEW_FILTER, CREATE | EXCLUSIVE, &fixed);
            message.attr_text(KIND, "u32").nest(OPTIONS, &[], |options| {
                options.attr_u32(1, FIRST | peers_class).attr(5, &selector(&keys(peer)));
            });
            self.change(message, say)?;
        }
        Ok(())
    }

    /// All that comes in by the link takes its way through another one's queue.
    pub fn redirect_incoming(&self, link: u32, to: u32) -> Result<(), NetlinkError> {
        let say = || format!("lead what comes in by link {link} through link {to}");
        let mut queue =
            Message::new(NEW_QUEUE, CREATE | EXCLUSIVE, &header(link, INGRESS_HANDLE, INGRESS, 0));
        queue.attr_text(KIND, "ingress");
        self.change(queue, say)?;
        let fixed = header(link, 0, INGRESS_HANDLE, filter_info(1, PROTOCOL_ALL));
        let mut filter = Message::new(NEW_FILTER, CREATE | EXCLUSIVE, &fixed);
        filter.attr_text(KIND, "u32").nest(OPTIONS, &[], |options| {
            options.attr_u32(1, FIRST | 1).attr(5, &selector(&[(0, 0, 0)]));
            options.nest(7, &[], |actions| {
                actions.nest(1, &[], |action| {
                    action.attr_text(1, "mirred").nest(2, &[], |options| {
                        // index, capabilities, "stolen", two counters, "redirect out of", link
                        let parameters = [0_u32, 0, 4, 0, 0, 1, to];
                        options.attr(2, &parameters.map(u32::to_ne_bytes).concat());
                    });
                });
            });
        });
        self.change(filter, say)
    }

    /// Removes the queue of what leaves by the link.
    pub fn unlimit_link(&self, link: u32) -> Result<(), NetlinkError> {
        let message = Message::new(DEL_QUEUE, 0, &header(link, 0, ROOT, 0));
        self.change(message, || format!("remove the limit of link {link}"))
    }

    /// What comes in by the link goes its own way again.
    pub fn release_incoming(&self, link: u32) -> Result<(), NetlinkError> {
        let message = Message::new(DEL_QUEUE, 0, &header(link, INGRESS_HANDLE, INGRESS, 0));
        self.change(message, || format!("remove the limit of what comes in by link {link}"))
    }

    /// The queues of a link.
    pub fn queues(&self, link: u32) -> Result<Vec<Queue>, NetlinkError> {
        let all = self.dump(
            || Message::new(GET_QUEUE, 0, &header(link, 0, 0, 0)),
            || format!("list queues of link {link}"),
            read,
        )?;
        Ok(all.into_iter().filter(|queue| queue.link == link).collect())
    }
}

fn header(link: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut bytes = [0; 20];
    for (at, number) in [(4, link), (8, handle), (12, parent), (16, info)] {
        bytes[at..at + 4].copy_from_slice(&number.to_ne_bytes());
    }
    bytes
}

/// Filters are asked in the order of their numbers.
fn filter_info(number: u32, protocol: u16) -> u32 {
    number << 16 | u32::from(protocol.to_be())
}

/// The kernel's rate: half of it describes a table that is not used any more.
fn rate_bytes(rate: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[1] = 1; // an Ethernet
    bytes[8..].copy_from_slice(&u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
    bytes
}

fn token_bucket(options: &mut Message, rate: Rate) {
    let limit = u32::try_from(rate.rate * LATENCY / 1000).unwrap_or(u32::MAX).saturating_add(rate.burst);
    let mut parameters = Vec::with_capacity(36);
    parameters.extend(rate_bytes(rate.rate));
    parameters.extend([0; 12]); // no peak rate
    parameters.extend([limit, ticks(rate), 0].map(u32::to_ne_bytes).concat());
    options.attr(1, &parameters);
    if rate.rate > u64::from(u32::MAX) {
        options.attr(4, &rate.rate.to_ne_bytes());
    }
    options.attr_u32(6, rate.burst);
}

fn share(options: &mut Message, rate: Rate) {
    let mut parameters = Vec::with_capacity(44);
    parameters.extend(rate_bytes(rate.rate));
    parameters.extend(rate_bytes(rate.rate));
    // burst, burst at the ceiling, quantum, level, priority
    parameters.extend([ticks(rate), ticks(rate), 200_000, 0, 0].map(u32::to_ne_bytes).concat());
    options.attr(1, &parameters);
    if rate.rate > u64::from(u32::MAX) {
        options.attr(6, &rate.rate.to_ne_bytes()).attr(7, &rate.rate.to_ne_bytes());
    }
}

/// The time that a burst takes, in the kernel's units of 64 ns.
fn ticks(rate: Rate) -> u32 {
    let nanoseconds = u128::from(rate.burst) * 1_000_000_000 / u128::from(rate.rate.max(1));
    u32::try_from(nanoseconds / 64).unwrap_or(u32::MAX)
}

/// Words of the network header: mask, value, offset.
fn keys(peer: &Peer) -> Vec<(u32, u32, u32)> {
    let (first, last) = (peer.net.network().addr(), peer.net.last());
    let words = |addr: IpAddr| -> Vec<u32> {
        match addr {
            IpAddr::V4(addr) => vec![addr.to_bits()],
            IpAddr::V6(addr) => addr
                .octets()
                .chunks(4)
                .map(|it| it.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)))
                .collect(),
        }
    };
    let start = match (peer.net.is_ipv4(), peer.source) {
        (true, true) => 12,
        (true, false) => 16,
        (false, true) => 8,
        (false, false) => 24,
    };
    let pairs = words(first).into_iter().zip(words(last));
    pairs.zip((start..).step_by(4)).map(|((low, high), at)| (!(low ^ high), low, at)).collect()
}

fn selector(keys: &[(u32, u32, u32)]) -> Vec<u8> {
    let mut bytes = vec![1, 0, u8::try_from(keys.len()).unwrap_or(0), 0];
    bytes.extend([0; 12]);
    for (mask, value, at) in keys {
        bytes.extend(mask.to_be_bytes());
        bytes.extend((value & mask).to_be_bytes());
        bytes.extend(at.to_ne_bytes());
        bytes.extend([0; 4]);
    }
    bytes
}

fn read(body: &[u8]) -> Option<Queue> {
    let (fixed, attributes) = body.split_at_checked(20)?;
    let kind = find(attributes, KIND).map(text_of)?;
    let parameters = find(attributes, OPTIONS).filter(|_| kind == "tbf");
    let short = parameters.and_then(|it| find(it, 1)).and_then(|it| u32_of(it.get(8..)?)).map(u64::from);
    let long =
        parameters.and_then(|it| find(it, 4)).and_then(|it| Some(u64::from_ne_bytes(it.try_into().ok()?)));
    Some(Queue { link: u32_of(&fixed[4..])?, kind, rate: long.or(short).unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_words_of_a_header() {
        let check = |net: &str, source: bool, wanted: &[(u32, u32, u32)]| {
            assert_eq!(keys(&Peer { net: net.parse().unwrap(), source }), wanted, "{net}");
        };
        check("10.1.0.0/16", true, &[(0xffff_0000, 0x0a01_0000, 12)]);
        check("10.1.2.3/32", false, &[(0xffff_ffff, 0x0a01_0203, 16)]);
        let rest = [(0, 0, 28), (0, 0, 32), (0, 0, 36)];
        check("fd00::/8", false, &[[(0xff00_0000, 0xfd00_0000, 24)].as_slice(), &rest].concat());
    }
}
