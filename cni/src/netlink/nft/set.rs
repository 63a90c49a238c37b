//! Sets and maps, and how their fields lie in memory.

use crate::address::Cidr;
use crate::netlink::Mac;
use std::fmt::Write;
use std::net::IpAddr;

/// One field of a key or a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// The number of a transport protocol.
    Protocol,
    /// A port.
    Port,
    /// The name of a link.
    Ifname,
    /// A hardware address.
    Mac,
}

impl Field {
    /// The number by which `nft` knows how to print it.
    fn kind(self) -> u32 {
        match self {
            Field::Ipv4 => 7,
            Field::Ipv6 => 8,
            Field::Mac => 9,
            Field::Protocol => 12,
            Field::Port => 13,
            Field::Ifname => 41,
        }
    }

    fn length(self) -> usize {
        match self {
            Field::Protocol => 1,
            Field::Port => 2,
            Field::Ipv4 => 4,
            Field::Mac => 6,
            Field::Ipv6 | Field::Ifname => 16,
        }
    }

    /// In a key of several fields each begins at a multiple of four.
    fn padded(self) -> usize {
        self.length().next_multiple_of(4)
    }

    fn text(self, bytes: &[u8]) -> String {
        match (self, bytes) {
            (Field::Ipv4, [a, b, c, d]) => IpAddr::from([*a, *b, *c, *d]).to_string(),
            (Field::Ipv6, _) => {
                <[u8; 16]>::try_from(bytes).map(IpAddr::from).map(|it| it.to_string()).unwrap_or_default()
            }
            (Field::Protocol, [6, ..]) => "tcp".into(),
            (Field::Protocol, [17, ..]) => "udp".into(),
            (Field::Protocol, [132, ..]) => "sctp".into(),
            (Field::Port, [high, low, ..]) => u16::from_be_bytes([*high, *low]).to_string(),
            (Field::Mac, _) => <[u8; 6]>::try_from(bytes).map(|it| Mac(it).to_string()).unwrap_or_default(),
            (Field::Ifname, _) => String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned(),
            (Field::Ipv4 | Field::Protocol | Field::Port, _) => bytes.iter().map(u8::to_string).collect(),
        }
    }
}

/// One value for a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Datum {
    /// One address.
    Ip(IpAddr),
    /// All addresses of a network.
    Net(Cidr),
    /// A protocol's number.
    Protocol(u8),
    /// A port.
    Port(u16),
    /// A link's name.
    Ifname(String),
    /// A hardware address.
    Mac(Mac),
}

impl Datum {
    /// The lowest and the highest value it stands for.
    fn bounds(&self) -> (Vec<u8>, Vec<u8>) {
        let ip = |addr: IpAddr| match addr {
            IpAddr::V4(addr) => addr.octets().to_vec(),
            IpAddr::V6(addr) => addr.octets().to_vec(),
        };
        let one = |bytes: Vec<u8>| (bytes.clone(), bytes);
        match self {
            Datum::Ip(addr) => one(ip(*addr)),
            Datum::Net(net) => (ip(net.network().addr()), ip(net.last())),
            Datum::Protocol(number) => one(vec![*number]),
            Datum::Port(number) => one(number.to_be_bytes().to_vec()),
            Datum::Mac(mac) => one(mac.0.to_vec()),
            Datum::Ifname(name) => {
                let mut bytes = name.as_bytes().to_vec();
                bytes.resize(Field::Ifname.length(), 0);
                one(bytes)
            }
        }
    }
}

/// A set, or a map when it has values.
#[derive(PartialEq, Eq, Debug)]
pub struct Set {
    /// Its name in the table.
    pub name: &'static str,
    /// What its keys are made of.
    pub key: &'static [Field],
    /// What its values are made of; empty for a set.
    pub value: &'static [Field],
    /// Keys may stand for networks.
    pub ranges: bool,
}

impl Set {
    pub(super) fn flags(&self) -> u32 {
        let map = if self.value.is_empty() { 0 } else { 8 };
        let ranges = if self.ranges { 0x4 | 0x80 } else { 0 };
        map | ranges
    }

    /// Six bits a field.
    pub(super) fn kind(fields: &[Field]) -> u32 {
        fields.iter().fold(0, |kind, field| kind << 6 | field.kind())
    }

    pub(super) fn length(fields: &[Field]) -> u32 {
        let length = match fields {
            [one] => one.length(),
            many => many.iter().map(|field| field.padded()).sum(),
        };
        u32::try_from(length).unwrap_or(u32::MAX)
    }

    /// The length of each field as the kernel compares it.
    pub(super) fn field_lengths(&self) -> impl Iterator<Item = u32> {
        self.key.iter().map(|field| u32::try_from(field.length()).unwrap_or(u32::MAX))
    }
}

/// The lowest and the highest bytes that these values stand for.
pub(super) fn encode(data: &[Datum]) -> (Vec<u8>, Vec<u8>) {
    let (mut low, mut high) = (Vec::new(), Vec::new());
    for datum in data {
        let (first, last) = datum.bounds();
        low.extend(first);
        high.extend(last);
        if data.len() > 1 {
            low.resize(low.len().next_multiple_of(4), 0);
            high.resize(high.len().next_multiple_of(4), 0);
        }
    }
    (low, high)
}

/// The bytes of each field.
pub(super) fn split<'a>(fields: &'a [Field], bytes: &'a [u8]) -> impl Iterator<Item = (Field, &'a [u8])> {
    let mut at = 0;
    fields.iter().map_while(move |field| {
        let value = bytes.get(at..at + field.length())?;
        at += field.padded();
        Some((*field, value))
    })
}

/// As `nft` writes it: `10.1.0.5 . 10.1.0.0/24`.
pub(super) fn text(fields: &[Field], low: &[u8], high: Option<&[u8]>) -> String {
    let mut text = String::new();
    let mut ends = split(fields, high.unwrap_or(low));
    for (field, first) in split(fields, low) {
        if !text.is_empty() {
            text.push_str(" . ");
        }
        text.push_str(&field.text(first));
        if let Some((_, last)) = ends.next().filter(|(_, last)| *last != first) {
            let same: u32 = first
                .iter()
                .zip(last)
                .scan(true, |equal, (a, b)| {
                    let bits = if *equal { (a ^ b).leading_zeros() } else { 0 };
                    *equal &= a == b;
                    Some(bits)
                })
                .sum();
            let _ = write!(text, "/{same}"); // writing to a String cannot fail
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_as_the_kernel_has_them() {
        let check = |fields: &[Field], data: &[Datum], low: &str, high: &str, shown: &str| {
            let hex = |bytes: &[u8]| bytes.iter().map(|it| format!("{it:02x}")).collect::<String>();
            let (first, last) = encode(data);
            assert_eq!((hex(&first).as_str(), hex(&last).as_str()), (low, high), "{data:?}");
            assert_eq!(Set::length(fields) as usize, first.len());
            assert_eq!(text(fields, &first, Some(&last)), shown);
        };
        let ip = |text: &str| Datum::Ip(text.parse().unwrap());
        let net = |text: &str| Datum::Net(text.parse().unwrap());
        check(&[Field::Ipv4], &[ip("10.1.0.5")], "0a010005", "0a010005", "10.1.0.5");
        check(
            &[Field::Ipv4, Field::Ipv4],
            &[ip("10.1.0.5"), net("10.1.0.0/20")],
            "0a0100050a010000",
            "0a0100050a010fff",
            "10.1.0.5 . 10.1.0.0/20",
        );
        check(
            &[Field::Protocol, Field::Port],
            &[Datum::Protocol(6), Datum::Port(80)],
            "0600000000500000",
            "0600000000500000",
            "tcp . 80",
        );
        let mac = Datum::Mac("02:00:00:00:00:07".parse().unwrap());
        let bytes = "76657468300000000000000000000000020000000007".to_owned() + "0000";
        check(
            &[Field::Ifname, Field::Mac],
            &[Datum::Ifname("veth0".into()), mac],
            &bytes,
            &bytes,
            "veth0 . 02:00:00:00:00:07",
        );
    }

    #[test]
    fn kinds_are_those_of_nft() {
        assert_eq!(Set::kind(&[Field::Ipv4, Field::Ipv4]), 0x1c7);
        assert_eq!(Set::kind(&[Field::Ipv6, Field::Protocol, Field::Port]), 0x830d);
        assert_eq!(Set::kind(&[Field::Ifname, Field::Mac]), 0xa49);
    }
}
