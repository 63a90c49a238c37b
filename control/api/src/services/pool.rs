//! Free addresses of the ranges, and free node ports.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::families::Family;

/// Ports that nodes open for Services.
const PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;
/// Ports at the beginning of the range that are given only on request, as long as there are others.
const STATIC_PORTS: u16 = 86;

/// An address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: u128,
    bits: u8,
    family: Family,
}

/// Text that is no range.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not an address range")]
pub struct CidrError {
    text: String,
}

impl std::str::FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let bad = || CidrError { text: text.to_owned() };
        let (address, length) = text.split_once('/').ok_or_else(bad)?;
        let length: u8 = length.parse().map_err(|_| bad())?;
        let (family, width, number) = match address.parse().map_err(|_| bad())? {
            IpAddr::V4(v4) => (Family::V4, 32, u128::from(v4.to_bits())),
            IpAddr::V6(v6) => (Family::V6, 128, v6.to_bits()),
        };
        if length > width || length == 0 {
            return Err(bad());
        }
        let bits = width - length;
        Ok(Self { base: number >> bits << bits, bits, family })
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = if self.family == Family::V4 { 32 } else { 128 };
        write!(f, "{}/{}", self.address(0), width - self.bits)
    }
}

impl Cidr {
    /// The family.
    pub(super) fn family(&self) -> Family {
        self.family
    }

    /// The address at an offset from the beginning.
    pub fn address(&self, offset: u128) -> IpAddr {
        let number = self.base + offset;
        match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(number)),
        }
    }

    /// Offsets that may be given: neither the network's address nor (in IPv4) the broadcast one.
    fn usable(&self) -> std::ops::Range<u128> {
        let size = 1u128 << self.bits.min(16); // no more than 65,536 of a big range
        let whole = self.bits <= 16;
        1..if self.family == Family::V4 && whole { size - 1 } else { size }
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (family, number) = match address {
            IpAddr::V4(v4) => (Family::V4, u128::from(v4.to_bits())),
            IpAddr::V6(v6) => (Family::V6, v6.to_bits()),
        };
        family == self.family && number >> self.bits == self.base >> self.bits
    }
}

/// Why a port cannot be had.
pub struct PortError(pub String);

/// Who has which address and port.
pub struct Pool {
    cidrs: Vec<Cidr>,
    addresses: HashMap<IpAddr, String>,
    ports: HashMap<u16, String>,
}

impl Pool {
    /// With nothing taken.
    pub fn new(cidrs: Vec<Cidr>) -> Self {
        Self { cidrs, addresses: HashMap::new(), ports: HashMap::new() }
    }

    /// The ranges.
    pub fn cidrs(&self) -> &[Cidr] {
        &self.cidrs
    }

    /// Families of the cluster, the primary one first.
    pub fn families(&self) -> Vec<Family> {
        self.cidrs.iter().map(Cidr::family).collect()
    }

    /// An address is taken, whatever we think of it.
    pub fn note(&mut self, address: IpAddr, owner: &str) {
        self.addresses.insert(address, owner.to_owned());
    }

    /// A port is taken.
    pub fn note_port(&mut self, port: u16, owner: &str) {
        self.ports.insert(port, owner.to_owned());
    }

    /// The owner gives an address back; others cannot.
    pub fn give_back(&mut self, address: IpAddr, owner: &str) {
        if self.addresses.get(&address).is_some_and(|it| it == owner) {
            self.addresses.remove(&address);
        }
    }

    /// The owner gives a port back.
    pub fn give_port_back(&mut self, port: u16, owner: &str) {
        if self.ports.get(&port).is_some_and(|it| it == owner) {
            self.ports.remove(&port);
        }
    }

    /// A particular address; tells whether it was free (and not the owner's already).
    pub fn take(&mut self, text: &str, family: Family, owner: &str) -> Result<(IpAddr, bool), String> {
        let wanted: IpAddr =
            text.parse().map_err(|_| format!("failed to allocate IP {text}: not a valid IP address"))?;
        let range = self.cidrs.iter().find(|cidr| cidr.family == family);
        if !range.is_some_and(|cidr| cidr.contains(wanted)) {
            let valid = range.map(ToString::to_string).unwrap_or_default();
            return Err(format!(
                "failed to allocate IP {text}: the provided IP ({text}) is not in the valid range. The range of \
                 valid IPs is {valid}"
            ));
        }
        match self.addresses.get(&wanted) {
            Some(it) if it == owner => Ok((wanted, false)),
            Some(_) => Err(format!("failed to allocate IP {text}: provided IP is already allocated")),
            None => {
                self.note(wanted, owner);
                Ok((wanted, true))
            }
        }
    }

    /// Any address of a family: from the upper part of the range, the lower one being for those who ask by number.
    pub fn take_any(&mut self, family: Family, owner: &str) -> Result<IpAddr, String> {
        let cidr = self.cidrs.iter().find(|cidr| cidr.family == family).copied();
        let cidr = cidr.ok_or_else(|| format!("failed to allocate a {} address", family.word()))?;
        let usable = cidr.usable();
        let size = usable.end - usable.start;
        let lower = (size / 16).clamp(16, 256).min(size);
        let upper = size - lower;
        let start = if upper > 0 { random() % upper } else { 0 };
        let order = (0..upper).map(|n| lower + (start + n) % upper).chain(0..lower);
        let free = order
            .map(|offset| cidr.address(usable.start + offset))
            .find(|address| !self.addresses.contains_key(address));
        let address = free.ok_or_else(|| "failed to allocate an IP: range is full".to_owned())?;
        self.note(address, owner);
        Ok(address)
    }

    /// A particular port.
    pub fn take_port(&mut self, wanted: i64, owner: &str) -> Result<(u16, bool), PortError> {
        let port = u16::try_from(wanted).ok().filter(|port| PORTS.contains(port)).ok_or_else(|| {
            PortError(format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                PORTS.start(),
                PORTS.end()
            ))
        })?;
        match self.ports.get(&port) {
            Some(it) if it == owner => Ok((port, false)),
            Some(_) => Err(PortError("provided port is already allocated".to_owned())),
            None => {
                self.note_port(port, owner);
                Ok((port, true))
            }
        }
    }

    /// Any port.
    pub fn take_any_port(&mut self, owner: &str) -> Result<(u16, bool), PortError> {
        let (first, last) = (*PORTS.start() + STATIC_PORTS, *PORTS.end());
        let size = last - first + 1;
        let start = (random() % u128::from(size)) as u16;
        let order = (0..size).map(|n| first + (start + n) % size).chain(*PORTS.start()..first);
        let free = order.into_iter().find(|port| !self.ports.contains_key(port));
        let port = free.ok_or_else(|| PortError("range is full".to_owned()))?;
        self.note_port(port, owner);
        Ok((port, true))
    }
}

fn random() -> u128 {
    use ring::rand::SecureRandom;
    let mut bytes = [0u8; 8];
    let _ = ring::rand::SystemRandom::new().fill(&mut bytes);
    u128::from(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(cidr: &str) -> Pool {
        Pool::new(vec![cidr.parse().unwrap()])
    }

    #[test]
    fn every_address_is_given_once_and_none_of_the_ends() {
        let mut pool = pool("10.0.0.0/28");
        let mut seen: Vec<String> =
            (0..14).map(|n| pool.take_any(Family::V4, &n.to_string()).unwrap().to_string()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 14);
        assert!(!seen.contains(&"10.0.0.0".to_owned()) && !seen.contains(&"10.0.0.15".to_owned()));
        assert!(pool.take_any(Family::V4, "x").is_err());
    }

    #[test]
    fn only_the_owner_gives_back() {
        let mut pool = pool("10.0.0.0/24");
        assert!(pool.take("10.0.0.9", Family::V4, "a").unwrap().1);
        assert!(!pool.take("10.0.0.9", Family::V4, "a").unwrap().1);
        assert!(pool.take("10.0.0.9", Family::V4, "b").unwrap_err().contains("already allocated"));
        pool.give_back("10.0.0.9".parse().unwrap(), "b");
        assert!(pool.take("10.0.0.9", Family::V4, "b").is_err());
        pool.give_back("10.0.0.9".parse().unwrap(), "a");
        assert!(pool.take("10.0.0.9", Family::V4, "b").is_ok());
        assert!(pool.take("10.0.1.9", Family::V4, "b").unwrap_err().contains("10.0.0.0/24"));
    }

    #[test]
    fn big_ranges_work_too() {
        let mut pool = pool("fd00::/108");
        let address = pool.take_any(Family::V6, "a").unwrap();
        assert!(pool.cidrs()[0].contains(address));
        assert_eq!(pool.cidrs()[0].to_string(), "fd00::/108");
    }
}
