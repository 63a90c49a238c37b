//! `static`: addresses as they are written in the configuration.

use super::entry::{Call, Plugin};
use crate::address::Cidr;
use crate::spec::{AddResult, CniError, Code, Dns, IpConfig, Route};
use serde::Deserialize;
use std::net::IpAddr;

/// The plugin.
pub struct Static;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    ipam: Ipam,
    args: Option<Args>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Ipam {
    addresses: Option<Vec<RawAddress>>,
    routes: Option<Vec<Route>>,
    dns: Option<Dns>,
}

#[derive(Deserialize, Clone)]
struct RawAddress {
    address: String,
    #[serde(default)]
    gateway: Option<IpAddr>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Args {
    cni: Option<CniArgs>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CniArgs {
    ips: Option<Vec<String>>,
    addresses: Option<Vec<RawAddress>>,
    routes: Option<Vec<Route>>,
    dns: Option<Dns>,
}

impl Plugin for Static {
    fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        read(call)
    }

    fn del(&self, _: &Call) -> Result<(), CniError> {
        Ok(()) // nothing is kept
    }

    fn check(&self, call: &Call) -> Result<(), CniError> {
        let wanted = read(call)?;
        let made = call.prev_result()?;
        let lost = wanted.ips.iter().find(|ip| {
            !made
                .ips
                .iter()
                .any(|it| it.address == ip.address && (ip.gateway.is_none() || it.gateway == ip.gateway))
        });
        match lost {
            None => Ok(()),
            Some(ip) => {
                let msg = format!("prevResult has not the address {} of the configuration", ip.address);
                Err(CniError::new(Code::CheckFailed, msg))
            }
        }
    }

    fn gc(&self, _: &Call) -> Result<(), CniError> {
        Ok(())
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        match read(call) {
            // They may come with the container.
            Err(err) if err.msg == NONE => Ok(()),
            read => read.map(drop),
        }
    }
}

const NONE: &str = "static: no address is given";

/// The runtime's addresses replace those of `args`, which replace CNI_ARGS', which replace the configuration's.
fn read(call: &Call) -> Result<AddResult, CniError> {
    let raw: Raw = call.conf()?;
    let args = raw.args.and_then(|it| it.cni).unwrap_or_default();
    let plain = |texts: &[String]| -> Vec<RawAddress> {
        texts.iter().map(|it| RawAddress { address: it.clone(), gateway: None }).collect()
    };
    let from_args = args.addresses.unwrap_or_default();
    let from_args = if from_args.is_empty() { plain(&args.ips.unwrap_or_default()) } else { from_args };
    let choices = [
        plain(&call.common.runtime_config.ips),
        from_args,
        from_environment(call)?,
        raw.ipam.addresses.unwrap_or_default(),
    ];
    let chosen = choices.into_iter().find(|it| !it.is_empty()).ok_or_else(|| {
        CniError::new(Code::InvalidConfig, NONE)
            .details("it needs ipam.addresses, args.cni.ips, the capability ips, or IP in CNI_ARGS")
    })?;
    Ok(AddResult {
        interfaces: vec![],
        ips: chosen.iter().map(address).collect::<Result<_, _>>()?,
        routes: args.routes.or(raw.ipam.routes).unwrap_or_default(),
        dns: args.dns.or(raw.ipam.dns).unwrap_or_default(),
    })
}

/// `IP=10.1.0.5/24,fd00::5/64;GATEWAY=10.1.0.1,fd00::1`.
fn from_environment(call: &Call) -> Result<Vec<RawAddress>, CniError> {
    let words = |key: &str| -> Vec<&str> {
        let text = call.request.arg(key).unwrap_or_default();
        text.split(',').map(str::trim).filter(|it| !it.is_empty()).collect()
    };
    let gateways: Vec<IpAddr> =
        words("GATEWAY").into_iter().map(crate::spec::parse_ip).collect::<Result<_, _>>()?;
    let address = |text: &str| {
        let cidr = text.parse::<Cidr>().ok();
        let gateway = cidr.and_then(|cidr| gateways.iter().find(|it| cidr.contains(**it)).copied());
        RawAddress { address: text.to_owned(), gateway }
    };
    Ok(words("IP").into_iter().map(address).collect())
}

fn address(raw: &RawAddress) -> Result<IpConfig, CniError> {
    let address: Cidr = raw
        .address
        .parse()
        .map_err(|err| CniError::new(Code::InvalidConfig, format!("static address: {err}")))?;
    if let Some(gateway) = raw.gateway.filter(|it| it.is_ipv4() != address.is_ipv4()) {
        let msg = format!("static: gateway {gateway} is not of the family of {address}");
        return Err(CniError::new(Code::InvalidConfig, msg));
    }
    Ok(IpConfig { interface: None, address, gateway: raw.gateway })
}
