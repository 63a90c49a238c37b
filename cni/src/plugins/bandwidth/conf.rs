//! Rates, checked.

use crate::address::Cidr;
use crate::netlink::traffic::Rate;
use crate::plugins::Call;
use crate::spec::{CniError, Code};
use serde::Deserialize;

/// What the configuration asks for.
#[derive(Debug)]
pub(super) struct Conf {
    /// Towards the container.
    pub(super) ingress: Option<Rate>,
    /// From the container.
    pub(super) egress: Option<Rate>,
    /// Networks at the other side.
    pub(super) peers: Vec<Cidr>,
    /// Only traffic with `peers` is held back; else all but that.
    pub(super) only_peers: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    #[serde(flatten)]
    rates: Rates,
    runtime_config: Runtime,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Runtime {
    bandwidth: Option<Rates>,
}

/// In bits, and bits a second.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Rates {
    ingress_rate: u64,
    ingress_burst: u64,
    egress_rate: u64,
    egress_burst: u64,
    unshaped_subnets: Option<Vec<String>>,
    shaped_subnets: Option<Vec<String>>,
}

impl Conf {
    /// Reads and checks the configuration of a call; what the runtime says replaces all of it.
    pub(super) fn read(call: &Call) -> Result<Conf, CniError> {
        let raw: Raw = call.conf()?;
        let (asked, fixed) = (raw.runtime_config.bandwidth, raw.rates);
        let lists = |rates: &Rates| {
            (
                rates.unshaped_subnets.clone().unwrap_or_default(),
                rates.shaped_subnets.clone().unwrap_or_default(),
            )
        };
        let (unshaped, shaped) = match asked.as_ref().map(lists) {
            Some((unshaped, shaped)) if !unshaped.is_empty() || !shaped.is_empty() => (unshaped, shaped),
            _ => lists(&fixed),
        };
        let rates = asked.unwrap_or(fixed);
        if !unshaped.is_empty() && !shaped.is_empty() {
            let msg = "bandwidth: unshapedSubnets and shapedSubnets exclude each other";
            return Err(CniError::new(Code::InvalidConfig, msg));
        }
        let only_peers = !shaped.is_empty();
        let net = |text: &String| {
            text.parse::<Cidr>().map_err(|err| {
                CniError::new(Code::InvalidConfig, format!("bandwidth: a subnet is not one: {err}"))
            })
        };
        Ok(Conf {
            ingress: rate("ingress", rates.ingress_rate, rates.ingress_burst)?,
            egress: rate("egress", rates.egress_rate, rates.egress_burst)?,
            peers: unshaped.iter().chain(&shaped).map(net).collect::<Result<_, _>>()?,
            only_peers,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

fn rate(name: &str, rate: u64, burst: u64) -> Result<Option<Rate>, CniError> {
    let invalid = |msg: String| Err(CniError::new(Code::InvalidConfig, format!("bandwidth: {msg}")));
    match (rate, burst) {
        (0, 0) => Ok(None),
        (_, 0) => invalid(format!("{name}Rate is set, so {name}Burst must be too")),
        (0, _) => invalid(format!("{name}Burst is set, so {name}Rate must be too")),
        (1..8, _) => invalid(format!("{name}Rate {rate} is less than one byte a second")),
        _ => match u32::try_from(burst / 8) {
            Ok(0) => invalid(format!("{name}Burst {burst} is less than one byte")),
            Ok(burst) => Ok(Some(Rate { rate: rate / 8, burst })),
            Err(_) => invalid(format!("{name}Burst {burst} is more than 4 GiB")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_need_bursts() {
        let check = |given: (u64, u64), wanted: Result<Option<Rate>, &str>| match (
            rate("egress", given.0, given.1),
            wanted,
        ) {
            (Ok(got), Ok(wanted)) => assert_eq!(got, wanted, "{given:?}"),
            (Err(err), Err(part)) => assert!(err.to_string().contains(part), "{err}"),
            other => panic!("{given:?}: {other:?}"),
        };
        check((0, 0), Ok(None));
        check((8000, 1600), Ok(Some(Rate { rate: 1000, burst: 200 })));
        check((8000, 0), Err("so egressBurst must be too"));
        check((0, 8), Err("so egressRate must be too"));
        check((7, 80), Err("less than one byte a second"));
        check((8000, 1 << 40), Err("more than 4 GiB"));
        check((1 << 40, 1 << 30), Ok(Some(Rate { rate: 1 << 37, burst: 1 << 27 })));
    }
}
