//! `firewall`: the host's firewall lets packets of containers pass, and with `ingressPolicy` keeps bridges apart.
mod firewalld; // through the daemon of that name
mod iptables; // by chains of the table filter

use super::entry::{Call, Plugin};
use super::rules;
use crate::netlink::{Link, Netlink};
use crate::spec::{AddResult, CniError, Code, Explain};
use serde::Deserialize;
use std::path::Path;

/// The plugin.
pub struct Firewall;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    backend: Option<String>,
    iptables_admin_chain_name: Option<String>,
    firewalld_zone: Option<String>,
    ingress_policy: Option<String>,
}

/// Who may reach a container over the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Policy {
    /// Anybody.
    Open,
    /// Nobody from another bridge.
    SameBridge,
    /// Nobody from any bridge.
    Isolated,
}

enum Backend {
    Iptables { admin_chain: String },
    Firewalld { zone: String },
}

struct Conf {
    backend: Backend,
    policy: Policy,
}

impl Conf {
    fn read(call: &Call) -> Result<Conf, CniError> {
        let raw: Raw = call.conf()?;
        let text = |it: Option<String>, default: &str| {
            it.filter(|it| !it.is_empty()).unwrap_or_else(|| default.into())
        };
        let invalid = |msg: String| Err(CniError::new(Code::InvalidConfig, format!("firewall: {msg}")));
        let admin_chain = text(raw.iptables_admin_chain_name, "CNI-ADMIN");
        if admin_chain.len() > 28 || !admin_chain.bytes().all(|it| it.is_ascii_graphic()) {
            return invalid(format!("iptablesAdminChainName {admin_chain:?} is not the name of a chain"));
        }
        let running = Path::new("/run/firewalld.pid").exists();
        let backend = match text(raw.backend, if running { "firewalld" } else { "iptables" }).as_str() {
            "iptables" => Backend::Iptables { admin_chain },
            "firewalld" => Backend::Firewalld { zone: text(raw.firewalld_zone, "trusted") },
            other => return invalid(format!("backend {other:?} is not one of iptables, firewalld")),
        };
        let policy = match text(raw.ingress_policy, "open").as_str() {
            "open" => Policy::Open,
            "same-bridge" => Policy::SameBridge,
            "isolated" => Policy::Isolated,
            other => {
                return invalid(format!("ingressPolicy {other:?} is not one of open, same-bridge, isolated"));
            }
        };
        Ok(Conf { backend, policy })
    }
}

impl Plugin for Firewall {
    fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        let conf = Conf::read(call)?;
        let result = call.prev_result()?;
        if result.ips.is_empty() {
            return Ok(result);
        }
        let done = match &conf.backend {
            Backend::Iptables { admin_chain } => iptables::add(&owner(call), &result.ips, admin_chain),
            Backend::Firewalld { zone } => firewalld::add(zone, &result.ips),
        };
        match done.and_then(|()| keep_apart(&conf, &result)) {
            Ok(()) => Ok(result),
            Err(err) => Err(err.and(remove(&conf, call, Some(&result)))),
        }
    }

    fn del(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        // Rules of iptables carry their owner; a source of a zone is known by the result only.
        remove(&conf, call, call.common.prev_result()?.as_ref())
    }

    fn check(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let result = call.prev_result()?;
        match &conf.backend {
            Backend::Iptables { .. } => iptables::check(&owner(call), &result.ips),
            Backend::Firewalld { zone } => firewalld::check(zone, &result.ips),
        }
    }

    fn gc(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let valid = call.common.valid_attachments()?;
        match &conf.backend {
            Backend::Iptables { .. } => iptables::gc(&call.common.name, valid),
            Backend::Firewalld { .. } => Ok(()), // a zone does not say whose its sources are
        }
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let ready = match &conf.backend {
            Backend::Iptables { .. } => iptables::ready(),
            Backend::Firewalld { zone } => firewalld::ready(zone),
        };
        ready.map_err(|err| CniError { code: Code::NotAvailable, ..err })
    }
}

fn owner(call: &Call) -> String {
    rules::owner(&call.common.name, &call.attachment())
}

fn remove(conf: &Conf, call: &Call, result: Option<&AddResult>) -> Result<(), CniError> {
    match &conf.backend {
        Backend::Iptables { .. } => iptables::del(&owner(call)),
        Backend::Firewalld { zone } => {
            firewalld::del(zone, result.map(|it| it.ips.as_slice()).unwrap_or_default())
        }
    }
}

fn keep_apart(conf: &Conf, result: &AddResult) -> Result<(), CniError> {
    if conf.policy == Policy::Open {
        return Ok(());
    }
    let say = || "look for the container's bridge".into();
    let host = Netlink::open().explain(Code::Network, say)?;
    let named = result.interfaces.iter().filter(|it| it.sandbox.is_empty());
    let links: Vec<Link> = named
        .filter_map(|it| host.link(&it.name).transpose())
        .collect::<Result<_, _>>()
        .explain(Code::Network, say)?;
    let Some(bridge) = links.iter().find(|it| it.kind == "bridge") else {
        let msg = "firewall: ingressPolicy needs a bridge, and prevResult names none";
        return Err(CniError::new(Code::InvalidConfig, msg));
    };
    iptables::keep_apart(&bridge.name, conf.policy == Policy::Isolated, &result.ips)?;
    if conf.policy == Policy::Isolated {
        // What the bridge switches itself is not forwarded, so iptables does not see it.
        for port in links.iter().filter(|it| it.master == Some(bridge.index)) {
            host.set_bridge_port(port.index, None, Some(true))
                .explain(Code::Network, || format!("isolate {}", port.name))?;
        }
    }
    Ok(())
}
