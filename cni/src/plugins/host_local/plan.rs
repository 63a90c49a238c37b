//! Which address comes next. Pure: what is taken comes in as data.

use crate::address::{Cidr, step};
use crate::spec::{CniError, Code};
use std::net::IpAddr;

/// Addresses from `start` to `end`, both included, of one subnet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Range {
    /// The subnet that containers believe to be in.
    pub(super) subnet: Cidr,
    /// The first address that may be given.
    pub(super) start: IpAddr,
    /// The last one.
    pub(super) end: IpAddr,
    /// The way out; never given to a container.
    pub(super) gateway: Option<IpAddr>,
}

impl Range {
    /// Checks a range and fills in what is left open.
    pub(super) fn new(
        subnet: Cidr,
        start: Option<IpAddr>,
        end: Option<IpAddr>,
        gateway: Option<IpAddr>,
    ) -> Result<Range, CniError> {
        let refuse = |why: String| Err(CniError::new(Code::InvalidConfig, why));
        if subnet != subnet.network() {
            return refuse(format!("subnet {subnet} has host bits set: did you mean {}?", subnet.network()));
        }
        let width = if subnet.is_ipv4() { 32 } else { 128 };
        if subnet.prefix() > width - 2 {
            return refuse(format!(
                "subnet {subnet} is too small: it must have room for a gateway and a container"
            ));
        }
        // IPv4's highest address is the broadcast address; IPv6 has none, but nothing is lost by the same rule.
        let first = step(subnet.addr(), 1).unwrap_or(subnet.addr());
        let last = step(subnet.last(), if subnet.is_ipv4() { -1 } else { 0 }).unwrap_or(subnet.last());
        for (name, addr) in [("rangeStart", start), ("rangeEnd", end)] {
            match addr {
                Some(addr) if !subnet.contains(addr) || addr < first || addr > last => {
                    return refuse(format!(
                        "{name} {addr} is not among the addresses {first}-{last} of {subnet}"
                    ));
                }
                _ => {}
            }
        }
        let (start, end) = (start.unwrap_or(first), end.unwrap_or(last));
        if start > end {
            return refuse(format!("rangeStart {start} is after rangeEnd {end}"));
        }
        if let Some(gateway) = gateway.filter(|addr| addr.is_ipv4() != subnet.is_ipv4()) {
            return refuse(format!("gateway {gateway} is not of the family of {subnet}"));
        }
        Ok(Range { subnet, start, end, gateway: gateway.or(Some(first)) })
    }

    pub(super) fn contains(&self, addr: IpAddr) -> bool {
        self.subnet.contains(addr) && self.start <= addr && addr <= self.end
    }

    pub(super) fn overlaps(&self, other: &Range) -> bool {
        self.subnet.is_ipv4() == other.subnet.is_ipv4() && self.start <= other.end && other.start <= self.end
    }
}

/// The first free address after `last`, round and round the ranges: an address rests before it is given again.
pub(super) fn next_free(
    set: &[Range],
    last: Option<IpAddr>,
    taken: impl Fn(IpAddr) -> bool,
) -> Option<(IpAddr, &Range)> {
    let at = last.and_then(|addr| set.iter().position(|range| range.contains(addr)));
    let begin = at.zip(last);
    // The rest of the last one's range, then all ranges from the next on, itself at the end as far as `last`.
    let turns = (0..=set.len()).filter_map(|turn| {
        let number = (at.unwrap_or(0) + turn) % set.len().max(1);
        let range = set.get(number)?;
        match begin {
            Some((_, last)) if turn == 0 => Some((step(last, 1)?, range.end, range)),
            Some((_, last)) if turn == set.len() => Some((range.start, last, range)),
            None if turn == set.len() => None,
            _ => Some((range.start, range.end, range)),
        }
    });
    turns.into_iter().find_map(|(from, to, range)| {
        let mut addr = from;
        while addr <= to {
            if Some(addr) != range.gateway && !taken(addr) {
                return Some((addr, range));
            }
            addr = step(addr, 1)?;
        }
        None
    })
}

/// The requested address, if it may be given.
pub(super) fn requested<'a>(
    set: &'a [Range],
    addr: IpAddr,
    taken: &[IpAddr],
) -> Result<(IpAddr, &'a Range), CniError> {
    let refuse = |why: &str| Err(CniError::new(Code::Address, format!("requested address {addr} {why}")));
    let Some(range) = set.iter().find(|range| range.contains(addr)) else {
        return refuse("is in the subnet, but outside its ranges");
    };
    if range.gateway == Some(addr) {
        return refuse("is the gateway");
    }
    if taken.contains(&addr) {
        return refuse("is leased to another container");
    }
    Ok((addr, range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn range(text: &str) -> Range {
        let mut words = text.split_whitespace();
        let subnet = words.next().unwrap().parse().unwrap();
        let mut addr = || words.next().and_then(|word| word.parse().ok());
        Range::new(subnet, addr(), addr(), addr()).unwrap()
    }

    fn set(text: &str) -> Vec<Range> {
        text.split(',').map(range).collect()
    }

    #[test]
    fn which_comes_next() {
        let check = |ranges: &str, last: &str, taken: &str, wanted: &str| {
            let taken: Vec<IpAddr> = taken.split_whitespace().map(|it| it.parse().unwrap()).collect();
            let set = set(ranges);
            let got = next_free(&set, last.parse().ok(), |addr| taken.contains(&addr));
            let got = got.map(|it| it.0.to_string()).unwrap_or_default();
            assert_eq!(got, wanted, "{ranges} after {last:?} without {taken:?}");
        };
        check("10.1.0.0/29", "", "", "10.1.0.2");
        check("10.1.0.0/29", "10.1.0.3", "", "10.1.0.4");
        check("10.1.0.0/29", "10.1.0.6", "", "10.1.0.2");
        check("10.1.0.0/29", "10.1.0.3", "10.1.0.4 10.1.0.5 10.1.0.6", "10.1.0.2");
        check("10.1.0.0/29", "10.1.0.3", "10.1.0.2 10.1.0.4 10.1.0.5 10.1.0.6", "10.1.0.3");
        check("10.1.0.0/29", "", "10.1.0.2 10.1.0.3 10.1.0.4 10.1.0.5 10.1.0.6", "");
        check("10.1.0.0/29", "10.9.9.9", "", "10.1.0.2");
        check("10.1.0.0/29 10.1.0.5 10.1.0.6,10.2.0.0/29", "10.1.0.6", "", "10.2.0.2");
        check("10.1.0.0/29 10.1.0.5 10.1.0.6,10.2.0.0/29", "10.2.0.6", "", "10.1.0.5");
        check("fd00::/64", "", "", "fd00::2");
        check("fd00::/64", "fd00::ffff:ffff:ffff:ffff", "", "fd00::2");
        check("255.255.255.248/29", "255.255.255.254", "", "255.255.255.250");
    }

    #[test]
    fn ranges_that_make_no_sense() {
        let check = |subnet: &str, start: &str, end: &str, gateway: &str, wanted: &str| {
            let addr = |text: &str| text.parse().ok();
            let err = Range::new(subnet.parse().unwrap(), addr(start), addr(end), addr(gateway)).unwrap_err();
            assert!(err.to_string().contains(wanted), "{err}");
            assert_eq!(err.code, Code::InvalidConfig);
        };
        check("10.1.0.1/24", "", "", "", "did you mean 10.1.0.0/24");
        check("10.1.0.0/31", "", "", "", "too small");
        check("10.1.0.0/24", "10.2.0.1", "", "", "rangeStart 10.2.0.1 is not among");
        check("10.1.0.0/24", "", "10.1.0.255", "", "rangeEnd 10.1.0.255 is not among");
        check("10.1.0.0/24", "10.1.0.9", "10.1.0.3", "", "is after rangeEnd");
        check("10.1.0.0/24", "", "", "fd00::1", "not of the family");
    }

    proptest! {
        #[test]
        fn all_are_given_once_before_none_is_left(first in 0_u8..14, count in 1_u8..14) {
            let base = set("10.1.0.0/28");
            let ranges = vec![Range { start: step(base[0].start, i128::from(first.min(13))).unwrap(), ..base[0].clone() }];
            let (mut taken, mut last) = (BTreeSet::new(), None);
            while let Some((addr, range)) = next_free(&ranges, last, |it| taken.contains(&it)) {
                prop_assert!(range.contains(addr) && range.gateway != Some(addr));
                prop_assert!(taken.insert(addr), "{} twice", addr);
                last = Some(addr);
            }
            // One given back is found again, wherever the last one was.
            let back = *taken.iter().nth(usize::from(count) % taken.len()).unwrap();
            taken.remove(&back);
            prop_assert_eq!(next_free(&ranges, last, |it| taken.contains(&it)).map(|it| it.0), Some(back));
        }
    }
}
