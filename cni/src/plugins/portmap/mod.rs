//! `portmap`: ports of the host that lead to containers, by nftables or iptables.
mod conditional; // rules instead of elements, where packets must fulfil conditions
mod conf; // mappings, checked
mod iptables; // the same with chains of iptables
mod table; // the rules, and the elements of one attachment

use super::entry::{Call, Plugin};
use super::rules::{self, Rules};
use crate::netlink::conntrack;
use crate::netlink::nft::Element;
use crate::spec::{AddResult, CniError, Code, Explain, Protocol};
use crate::sysctl;
use conf::Conf;

/// The plugin.
pub struct Portmap;

impl Plugin for Portmap {
    fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        let conf = Conf::read(call)?;
        let before = call.prev_result()?;
        let owner = rules::owner(&call.common.name, &call.attachment());
        let entries = table::entries(&conf, &before, &owner)?;
        if entries.is_empty() {
            return Ok(before);
        }
        if conf.snat {
            let_localhost_out(&before)?;
        }
        let mapped = if conf.iptables {
            iptables::add(&conf, &owner, &before)
        } else {
            load(&open()?, &entries).and_then(|()| {
                if conf.is_conditional() { conditional::add(&conf, &owner, &before) } else { Ok(()) }
            })
        };
        // A flow that began before the mapping was there has to be looked up again.
        match mapped.and_then(|()| forget_flows(&conf.udp_ports())) {
            Ok(()) => Ok(before),
            Err(err) => Err(err.and(remove(&conf, &owner).map(drop))),
        }
    }

    fn del(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        // A runtime that still has the result also has the mappings: none means none were made.
        if conf.mappings.is_empty() && call.common.prev_result().is_ok_and(|it| it.is_some()) {
            return Ok(());
        }
        let mut ports = remove(&conf, &rules::owner(&call.common.name, &call.attachment()))?;
        ports.extend(conf.udp_ports());
        forget_flows(&ports)
    }

    fn check(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let owner = rules::owner(&call.common.name, &call.attachment());
        let wanted = table::entries(&conf, &call.prev_result()?, &owner)?;
        if wanted.is_empty() {
            return Ok(());
        }
        if conf.iptables {
            return iptables::check(&conf, &owner, &call.prev_result()?);
        }
        if conf.is_conditional() {
            conditional::check(&owner)?;
        }
        let found = open()?.elements()?;
        match wanted.iter().find(|it| !found.iter().any(|e| e.same_key(it) && e.comment == owner)) {
            None => Ok(()),
            Some(lost) => Err(CniError::new(Code::CheckFailed, format!("missing: {lost}"))),
        }
    }

    fn gc(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let (network, valid) = (&call.common.name, call.common.valid_attachments()?);
        if conf.iptables {
            return iptables::gc(network, valid);
        }
        if conf.is_conditional() {
            conditional::gc(network, valid)?;
        }
        let gone = open()?.remove_invalid(network, valid)?;
        forget_flows(&table::udp_ports(&gone))
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        if Conf::read(call)?.iptables {
            return iptables::ready().map_err(|err| CniError { code: Code::NotAvailable, ..err });
        }
        let ready = open().and_then(|rules| rules.elements());
        ready.map(drop).map_err(|err| CniError { code: Code::NotAvailable, ..err })
    }
}

fn open() -> Result<Rules, CniError> {
    Rules::open(&table::PART)
}

/// Removes the rules of an attachment; the UDP ports that led to it are returned, where they are known.
fn remove(conf: &Conf, owner: &str) -> Result<Vec<u16>, CniError> {
    if conf.iptables {
        return iptables::del(owner).map(|()| vec![]);
    }
    if conf.is_conditional() {
        conditional::del(owner)?;
    }
    open()?.remove_of(owner).map(|gone| table::udp_ports(&gone))
}

fn load(rules: &Rules, entries: &[Element]) -> Result<(), CniError> {
    match rules.add(entries) {
        Err(err) if err.is_exists() => {
            let taken = rules.elements()?;
            let clash = entries.iter().find_map(|it| taken.iter().find(|other| other.same_key(it)));
            let msg = match clash {
                Some(other) => format!("host port {} leads to another container already", other.key()),
                None => "a host port leads to another container already".into(),
            };
            let owner = clash.map(|it| format!("it belongs to {}", it.comment));
            Err(CniError::new(Code::Address, msg).details(owner.unwrap_or_default()))
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

/// UDP flows to mapped ports are looked up again.
fn forget_flows(ports: &[u16]) -> Result<(), CniError> {
    if ports.is_empty() {
        return Ok(());
    }
    let stale = |flow: &conntrack::Connection| {
        flow.protocol == Protocol::Udp.number() && ports.contains(&flow.destination.1)
    };
    conntrack::forget(stale).map(drop).explain(Code::Network, || "forget UDP flows to mapped ports".into())
}
