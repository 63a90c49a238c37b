//! `portmap`: ports of the host that lead to containers, by nftables.
mod conf; // mappings, checked
mod table; // the rules, and the elements of one attachment

use super::entry::{Call, Plugin};
use super::rules;
use crate::netlink::conntrack;
use crate::nft;
use crate::spec::{AddResult, AttachmentId, CniError, Code, Explain, Protocol};
use crate::sysctl;
use conf::Conf;
use table::Entry;

/// The plugin.
pub struct Portmap;

impl Plugin for Portmap {
    fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        let conf = Conf::read(call)?;
        let before = call.prev_result()?;
        let entries = table::entries(&conf, &before)?;
        if entries.is_empty() {
            return Ok(before);
        }
        if conf.snat {
            let_localhost_out(&before)?;
        }
        let owner = rules::owner(&call.common.name, &attachment(call));
        load(&entries, &owner)?;
        // A flow that began before the mapping was there has to be looked up again.
        match forget_flows(&entries) {
            Ok(()) => Ok(before),
            Err(err) => Err(err.and(rules::remove(&table::SETS, |it| it == owner).map(drop))),
        }
    }

    fn del(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        // A runtime that still has the result also has the mappings: none means none were made.
        if conf.mappings.is_empty() && call.common.prev_result().is_ok_and(|it| it.is_some()) {
            return Ok(());
        }
        let owner = rules::owner(&call.common.name, &attachment(call));
        let gone = rules::remove(&table::SETS, |it| it == owner)?;
        forget_ports(&table::udp_ports(&gone))
    }

    fn check(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let wanted = table::entries(&conf, &call.prev_result()?)?;
        if wanted.is_empty() {
            return Ok(());
        }
        let owner = rules::owner(&call.common.name, &attachment(call));
        let found = rules::elements(&table::SETS)?;
        match wanted
            .iter()
            .find(|it| !found.iter().any(|e| e.set == it.set && e.key == it.key && e.owner == owner))
        {
            None => Ok(()),
            Some(lost) => Err(CniError::new(
                Code::CheckFailed,
                format!("{} is missing from nftables set {}", lost.key, lost.set),
            )),
        }
    }

    fn gc(&self, call: &Call) -> Result<(), CniError> {
        Conf::read(call)?;
        let gone = rules::remove_invalid(&table::SETS, &call.common.name, call.common.valid_attachments()?)?;
        forget_ports(&table::udp_ports(&gone))
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        Conf::read(call)?;
        nft::apply("").explain(Code::NotAvailable, || "portmap cannot use nftables".into())
    }
}

fn load(entries: &[Entry], owner: &str) -> Result<(), CniError> {
    match rules::load(&table::definitions(), &table::text(entries, owner)) {
        Err(err) if err.is_conflict() => {
            let taken = rules::elements(&table::SETS)?;
            let clash =
                entries.iter().find_map(|it| taken.iter().find(|e| e.set == it.set && e.key == it.key));
            let msg = match clash {
                Some(other) => format!("host port {} leads to another container already", other.key),
                None => "a host port leads to another container already".into(),
            };
            Err(CniError::new(Code::Address, msg)
                .details(clash.map(|it| it.owner.clone()).unwrap_or_default()))
        }
        loaded => loaded.explain(Code::Network, || "map host ports".into()),
    }
}

/// Packets from 127.0.0.1 may leave through the container's bridge; the table keeps out what would come in that way.
fn let_localhost_out(before: &AddResult) -> Result<(), CniError> {
    for interface in before.interfaces.iter().filter(|it| it.sandbox.is_empty()) {
        let setting = format!("net/ipv4/conf/{}/route_localnet", interface.name);
        sysctl::ensure_if_present(&setting, "1")
            .explain(Code::Io, || "map host ports for localhost".into())?;
    }
    Ok(())
}

fn forget_flows(entries: &[Entry]) -> Result<(), CniError> {
    forget_ports(&entries.iter().filter_map(|entry| entry.udp_port).collect::<Vec<_>>())
}

fn forget_ports(ports: &[u16]) -> Result<(), CniError> {
    if ports.is_empty() {
        return Ok(());
    }
    let stale = |flow: &conntrack::Connection| {
        flow.protocol == Protocol::Udp.number() && ports.contains(&flow.destination.1)
    };
    conntrack::forget(stale).map(drop).explain(Code::Network, || "forget UDP flows to mapped ports".into())
}

fn attachment(call: &Call) -> AttachmentId {
    AttachmentId { container_id: call.request.container_id.clone(), ifname: call.request.ifname.clone() }
}
