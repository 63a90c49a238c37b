//! An address with its prefix length, as CNI and the kernel write it: `10.1.0.5/24`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{fmt, str::FromStr};

/// An address and the length of its network's prefix; host bits are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Cidr {
    addr: IpAddr,
    prefix: u8,
}

/// Why a text is not an address with a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// The text is not `address/length`.
    #[error("{0:?} is not an address with a prefix length such as 10.1.0.0/24")]
    Syntax(String),
    /// The length is longer than the address.
    #[error("prefix length {prefix} is too long for {addr}")]
    Prefix {
        /// The address that was given.
        addr: IpAddr,
        /// The length that does not fit it.
        prefix: u8,
    },
}

impl Cidr {
    /// Joins an address and a prefix length that fits it.
    pub fn new(addr: IpAddr, prefix: u8) -> Result<Cidr, CidrError> {
        if prefix > width(addr) { Err(CidrError::Prefix { addr, prefix }) } else { Ok(Cidr { addr, prefix }) }
    }

    /// The whole address as a network of its own: /32 or /128.
    pub fn host(addr: IpAddr) -> Cidr {
        Cidr { addr, prefix: width(addr) }
    }

    /// The address, host bits included.
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// The length of the prefix in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// True for IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.addr.is_ipv4()
    }

    /// The network with all host bits cleared.
    pub fn network(&self) -> Cidr {
        Cidr { addr: from_number(number(self.addr) & self.mask(), self.is_ipv4()), prefix: self.prefix }
    }

    /// The highest address: for IPv4 the broadcast address.
    pub fn last(&self) -> IpAddr {
        from_number(number(self.addr) | !self.mask() & full(self.is_ipv4()), self.is_ipv4())
    }

    /// True when `addr` lies in this network.
    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.is_ipv4() && number(addr) & self.mask() == number(self.addr) & self.mask()
    }

    /// True when the two networks share an address.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.contains(other.network().addr) || other.contains(self.network().addr)
    }

    fn mask(&self) -> u128 {
        let host_bits = u32::from(width(self.addr) - self.prefix);
        full(self.is_ipv4()) & u128::MAX.checked_shl(host_bits).unwrap_or(0)
    }
}

/// The address `steps` after `addr`, or nothing past the end of the family.
pub fn step(addr: IpAddr, steps: i128) -> Option<IpAddr> {
    let moved = number(addr).checked_add_signed(steps)?;
    (moved <= full(addr.is_ipv4())).then(|| from_number(moved, addr.is_ipv4()))
}

fn width(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

fn full(ipv4: bool) -> u128 {
    if ipv4 { u128::from(u32::MAX) } else { u128::MAX }
}

fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn from_number(bits: u128, ipv4: bool) -> IpAddr {
    if ipv4 {
        Ipv4Addr::from_bits(u32::try_from(bits & full(true)).unwrap_or(u32::MAX)).into()
    } else {
        Ipv6Addr::from_bits(bits).into()
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        let syntax = || CidrError::Syntax(text.to_owned());
        let (addr, prefix) = text.split_once('/').ok_or_else(syntax)?;
        Cidr::new(addr.parse().map_err(|_| syntax())?, prefix.parse().map_err(|_| syntax())?)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cidr, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let check = |text: &str, network: &str, last: &str| {
            let cidr: Cidr = text.parse().unwrap();
            assert_eq!(
                (cidr.network().to_string(), cidr.last().to_string()),
                (network.into(), last.into()),
                "{text}"
            );
        };
        check("10.1.2.3/24", "10.1.2.0/24", "10.1.2.255");
        check("10.1.2.3/32", "10.1.2.3/32", "10.1.2.3");
        check("10.1.2.3/0", "0.0.0.0/0", "255.255.255.255");
        check("fd00::5/64", "fd00::/64", "fd00::ffff:ffff:ffff:ffff");
        check("fd00::5/128", "fd00::5/128", "fd00::5");
        check("::/0", "::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    }

    #[test]
    fn refuses_what_is_no_network() {
        for text in ["10.1.2.3", "10.1.2.3/33", "x/24", "10.1.2.3/", "fd00::/129", "10.1.2/24"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn contains_and_steps() {
        let cidr: Cidr = "10.1.2.0/24".parse().unwrap();
        assert!(cidr.contains("10.1.2.255".parse().unwrap()));
        assert!(!cidr.contains("10.1.3.0".parse().unwrap()));
        assert!(!cidr.contains("::a01:200".parse().unwrap()));
        assert!(cidr.overlaps(&"10.1.0.0/16".parse().unwrap()));
        assert!(!cidr.overlaps(&"10.1.3.0/24".parse().unwrap()));
        assert_eq!(step("10.1.2.255".parse().unwrap(), 1), Some("10.1.3.0".parse().unwrap()));
        assert_eq!(step("255.255.255.255".parse().unwrap(), 1), None);
        assert_eq!(step("0.0.0.0".parse().unwrap(), -1), None);
    }
}
