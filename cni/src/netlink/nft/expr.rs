//! One step of a rule: load into a register, compare, look up, act.

use super::set::Set;
use super::{DATA_VALUE, DATA_VERDICT, LIST_ITEM};
use crate::netlink::message::Message;

const NAME: u16 = 1;
const DATA: u16 = 2;
const VERDICT_REGISTER: u32 = 0;
const FULLY_RANDOM: u32 = 16;

/// A step. Registers are numbered as the kernel does: 1 to 4 of sixteen bytes, 8 to 23 their quarters.
#[derive(Clone, Debug)]
pub enum Expr {
    /// Load the packet's IP family.
    NfProto(u32),
    /// Load the transport protocol.
    L4Proto(u32),
    /// Load the name of the link it came in by.
    InputName(u32),
    /// Load bytes of the link's header.
    Link {
        /// The first byte.
        offset: u32,
        /// How many.
        length: u32,
        /// Into this register.
        to: u32,
    },
    /// Load bytes of the network header.
    Network {
        /// The first byte.
        offset: u32,
        /// How many.
        length: u32,
        /// Into this register.
        to: u32,
    },
    /// Load the destination port.
    DestinationPort(u32),
    /// Load the kind of the destination address, as routing sees it.
    DestinationKind(u32),
    /// Load the connection's status bits.
    ConnectionStatus(u32),
    /// Load the connection's state bit.
    ConnectionState(u32),
    /// Go on only when the register holds this.
    Equal(u32, Vec<u8>),
    /// Go on only when it does not.
    NotEqual(u32, Vec<u8>),
    /// Keep these bits of the register only.
    Mask(u32, Vec<u8>),
    /// Go on only when the set has the register's key.
    In(&'static Set, u32),
    /// Go on only when it has not.
    NotIn(&'static Set, u32),
    /// Load what the map has for the key in the first register into the second.
    Map(&'static Set, u32, u32),
    /// Change the destination.
    Dnat {
        /// The family of the address.
        ipv4: bool,
        /// The register with the address.
        addr: u32,
        /// The register with the port.
        port: u32,
    },
    /// Take the address of the link it leaves by, and any free port.
    Masquerade,
    /// Go through another chain.
    Jump(&'static str),
    /// Let it go on its way.
    Accept,
    /// Drop it.
    Drop,
}

impl Expr {
    pub(super) fn write(&self, list: &mut Message) {
        list.nest(LIST_ITEM, &[], |item| {
            item.attr_text(NAME, self.name());
            item.nest(DATA, &[], |data| self.write_data(data));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Expr::NfProto(_) | Expr::L4Proto(_) | Expr::InputName(_) => "meta",
            Expr::Link { .. } | Expr::Network { .. } | Expr::DestinationPort(_) => "payload",
            Expr::DestinationKind(_) => "fib",
            Expr::ConnectionStatus(_) | Expr::ConnectionState(_) => "ct",
            Expr::Equal(..) | Expr::NotEqual(..) => "cmp",
            Expr::Mask(..) => "bitwise",
            Expr::In(..) | Expr::NotIn(..) | Expr::Map(..) => "lookup",
            Expr::Dnat { .. } => "nat",
            Expr::Masquerade => "masq",
            Expr::Jump(_) | Expr::Accept | Expr::Drop => "immediate",
        }
    }

    fn write_data(&self, data: &mut Message) {
        // Each of these kinds has the numbers of its attributes in the order of the list.
        match self {
            Expr::NfProto(to) => numbers(data, &[(1, *to), (2, 15)]),
            Expr::L4Proto(to) => numbers(data, &[(1, *to), (2, 16)]),
            Expr::InputName(to) => numbers(data, &[(1, *to), (2, 6)]),
            Expr::Link { offset, length, to } => {
                numbers(data, &[(1, *to), (2, 0), (3, *offset), (4, *length)])
            }
            Expr::Network { offset, length, to } => {
                numbers(data, &[(1, *to), (2, 1), (3, *offset), (4, *length)]);
            }
            Expr::DestinationPort(to) => numbers(data, &[(1, *to), (2, 2), (3, 2), (4, 2)]),
            Expr::DestinationKind(to) => numbers(data, &[(1, *to), (2, 3), (3, 2)]),
            Expr::ConnectionStatus(to) => connection(data, *to, 2),
            Expr::ConnectionState(to) => connection(data, *to, 0),
            Expr::Equal(from, bytes) => compare(data, *from, 0, bytes),
            Expr::NotEqual(from, bytes) => compare(data, *from, 1, bytes),
            Expr::Mask(register, bits) => {
                let length = u32::try_from(bits.len()).unwrap_or(0);
                numbers(data, &[(1, *register), (2, *register), (3, length), (6, 0)]);
                value(data, 4, bits);
                value(data, 5, &vec![0; bits.len()]);
            }
            Expr::In(set, from) => {
                data.attr_text(1, set.name);
                numbers(data, &[(2, *from)]);
            }
            Expr::NotIn(set, from) => {
                data.attr_text(1, set.name);
                numbers(data, &[(2, *from), (5, 1)]);
            }
            Expr::Map(set, from, to) => {
                data.attr_text(1, set.name);
                numbers(data, &[(2, *from), (3, *to)]);
            }
            Expr::Dnat { ipv4, addr, port } => {
                numbers(data, &[(1, 1), (2, if *ipv4 { 2 } else { 10 }), (3, *addr), (5, *port)]);
            }
            Expr::Masquerade => numbers(data, &[(1, FULLY_RANDOM)]),
            Expr::Jump(chain) => verdict(data, -3, Some(chain)),
            Expr::Accept => verdict(data, 1, None),
            Expr::Drop => verdict(data, 0, None),
        }
    }
}

/// Numbers go in the network's byte order.
fn numbers(data: &mut Message, all: &[(u16, u32)]) {
    for (kind, number) in all {
        data.attr(*kind, &number.to_be_bytes());
    }
}

fn connection(data: &mut Message, to: u32, key: u32) {
    numbers(data, &[(2, key), (1, to)]);
}

fn compare(data: &mut Message, from: u32, how: u32, bytes: &[u8]) {
    numbers(data, &[(1, from), (2, how)]);
    value(data, 3, bytes);
}

fn value(data: &mut Message, kind: u16, bytes: &[u8]) {
    data.nest(kind, &[], |inner| {
        inner.attr(DATA_VALUE, bytes);
    });
}

fn verdict(data: &mut Message, code: i32, chain: Option<&str>) {
    numbers(data, &[(1, VERDICT_REGISTER)]);
    data.nest(2, &[], |inner| {
        inner.nest(DATA_VERDICT, &[], |verdict| {
            verdict.attr(1, &code.to_be_bytes());
            if let Some(chain) = chain {
                verdict.attr_text(2, chain);
            }
        });
    });
}
