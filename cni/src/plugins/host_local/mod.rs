//! `host-local`: addresses from ranges of this host, leased in files.
mod conf; // ranges and what else can be configured
mod leases; // one file per address
mod plan; // which address: pure
mod resolv; // name servers from a resolv.conf

use super::entry::{Call, Plugin};
use crate::address::Cidr;
use crate::spec::{AddResult, AttachmentId, CniError, Code, Dns, IpConfig};
use conf::Conf;
use leases::Leases;
use std::net::IpAddr;

/// The plugin.
pub struct HostLocal;

impl Plugin for HostLocal {
    fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        let conf = Conf::read(call)?;
        let dns = match &conf.resolv_conf {
            Some(path) => resolv::read(path)?,
            None => Dns::default(),
        };
        let leases = Leases::lock(&conf.dir)?;
        let ips = lease_all(&conf, &leases, &call.attachment())?;
        Ok(AddResult { interfaces: vec![], ips, routes: conf.routes, dns })
    }

    fn del(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let Some(leases) = Leases::lock_if_present(&conf.dir)? else { return Ok(()) };
        let owner = call.attachment();
        leases.release(|lease| lease.is_of(&owner)).map(drop)
    }

    fn check(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let owner = call.attachment();
        let held = match Leases::lock_if_present(&conf.dir)? {
            Some(leases) => {
                leases.all()?.into_iter().filter(|lease| lease.is_of(&owner)).map(|it| it.addr).collect()
            }
            None => Vec::new(),
        };
        let wanted = call.common.prev_result()?.map(|it| it.ips).unwrap_or_default();
        let lost = wanted.iter().find(|ip| {
            let ours = conf.sets.iter().flatten().any(|range| range.subnet.contains(ip.address.addr()));
            ours && !held.contains(&ip.address.addr())
        });
        let missing = |what: String| {
            Err(CniError::new(
                Code::CheckFailed,
                format!("{what} is not leased to container {}", owner.container_id),
            ))
        };
        match lost {
            Some(ip) => missing(ip.address.addr().to_string()),
            None if held.is_empty() => missing("an address".into()),
            None => Ok(()),
        }
    }

    fn gc(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let valid = call.common.valid_attachments()?;
        let Some(leases) = Leases::lock_if_present(&conf.dir)? else { return Ok(()) };
        leases.release(|lease| !valid.iter().any(|attachment| lease.is_of(attachment))).map(drop)
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let Some(leases) = Leases::lock_if_present(&conf.dir)? else { return Ok(()) };
        let taken = leases.taken()?;
        match conf.sets.iter().find(|set| plan::next_free(set, None, |addr| taken.contains(&addr)).is_none())
        {
            Some(set) => Err(CniError::new(Code::NotAvailable, exhausted(&call.common.name, set))),
            None => Ok(()),
        }
    }
}

/// One address of each set, all or none.
fn lease_all(conf: &Conf, leases: &Leases, owner: &AttachmentId) -> Result<Vec<IpConfig>, CniError> {
    let all = leases.all()?;
    if let Some(held) = all.iter().find(|lease| lease.is_of(owner)) {
        let msg = format!("{} is leased to container {} already", held.addr, owner.container_id);
        return Err(CniError::new(Code::Address, msg).details("an ADD without a DEL came before"));
    }
    let taken: Vec<IpAddr> = all.into_iter().map(|lease| lease.addr).collect();
    let mut requested = conf.requested.clone();
    let mut given = Vec::new();
    let leased = conf.sets.iter().enumerate().try_for_each(|(number, set)| {
        let wanted = requested.iter().position(|addr| set.iter().any(|range| range.subnet.contains(*addr)));
        let (addr, range) = match wanted.map(|at| requested.remove(at)) {
            Some(addr) => plan::requested(set, addr, &taken)?,
            None => plan::next_free(set, leases.last(number), |addr| taken.contains(&addr))
                .ok_or_else(|| CniError::new(Code::Address, exhausted(&conf.network, set)))?,
        };
        leases.lease(addr, owner)?;
        given.push(IpConfig {
            interface: None,
            address: prefixed(addr, range.subnet),
            gateway: range.gateway,
        });
        leases.set_last(number, addr)
    });
    let outside = requested.first().map(|addr| {
        CniError::new(
            Code::Address,
            format!("requested address {addr} is in no range of network {}", conf.network),
        )
    });
    match leased.err().or(outside) {
        None => Ok(given),
        Some(err) => Err(err.and(leases.release(|lease| lease.is_of(owner)).map(drop))),
    }
}

fn prefixed(addr: IpAddr, subnet: Cidr) -> Cidr {
    Cidr::new(addr, subnet.prefix()).unwrap_or(Cidr::host(addr))
}

fn exhausted(network: &str, set: &[plan::Range]) -> String {
    let ranges: Vec<String> = set.iter().map(|range| format!("{}-{}", range.start, range.end)).collect();
    format!("no address is left in {} of network {network}", ranges.join(", "))
}
