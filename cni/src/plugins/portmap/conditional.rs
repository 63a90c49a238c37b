//! Mappings with conditions, which are written in the language of `nft`: rules of a chain of their own, loaded by it.

use super::conf::{Conf, Host};
use crate::netlink::nft::{Batch, Family, OwnedRule, Selector, owned_rules};
use crate::netlink::{Netlink, NetlinkError};
use crate::nft;
use crate::plugins::rules::{self, TABLE};
use crate::spec::{AddResult, AttachmentId, CniError, Code, Explain};
use std::fmt::Write;

const IN: &str = "hostports_if_in";
const LOCAL: &str = "hostports_if_local";
const AT: Selector<'static> = Selector { family: Family::Inet, table: TABLE };

/// Adds one rule for each mapping, before the mappings without conditions.
pub(super) fn add(conf: &Conf, owner: &str, before: &AddResult) -> Result<(), CniError> {
    let mut text = format!(
        "table inet {TABLE} {{
  chain {IN} {{ type nat hook prerouting priority dstnat - 1; policy accept; }}
  chain {LOCAL} {{ type nat hook output priority -101; policy accept; }}
}}
"
    );
    for ipv4 in [true, false] {
        let Some(ip) = before.ips.iter().find(|ip| ip.address.is_ipv4() == ipv4) else { continue };
        let conditions = if ipv4 { &conf.conditions_v4 } else { &conf.conditions_v6 }.join(" ");
        let (family, name) = if ipv4 { ("ip", "ipv4") } else { ("ip6", "ipv6") };
        for mapping in &conf.mappings {
            let host = match mapping.host {
                Host::Any => String::new(),
                Host::AnyV4 | Host::AnyV6 if (mapping.host == Host::AnyV4) == ipv4 => String::new(),
                Host::One(host) if host.is_ipv4() == ipv4 => format!("{family} daddr {host} "),
                Host::AnyV4 | Host::AnyV6 | Host::One(_) => continue,
            };
            let target =
                if ipv4 { ip.address.addr().to_string() } else { format!("[{}]", ip.address.addr()) };
            for chain in [IN, LOCAL] {
                // Writing to a String cannot fail.
                let _ = writeln!(
                    text,
                    "add rule inet {TABLE} {chain} meta nfproto {name} fib daddr type local {host}{} dport {} {conditions} \
                     dnat {family} to {target}:{} comment \"{owner}\"",
                    mapping.protocol.as_str(),
                    mapping.host_port,
                    mapping.container_port
                );
            }
        }
    }
    nft::apply(&text).explain(Code::InvalidConfig, || "map host ports under conditions".into())
}

/// Removes the rules of an attachment.
pub(super) fn del(owner: &str) -> Result<(), CniError> {
    remove(|it| it == owner)
}

/// Removes rules of attachments that are gone.
pub(super) fn gc(network: &str, valid: &[AttachmentId]) -> Result<(), CniError> {
    let prefix = rules::network_prefix(network);
    let keep: Vec<String> = valid.iter().map(|it| rules::owner(network, it)).collect();
    remove(|owner| owner.starts_with(&prefix) && !keep.iter().any(|it| it == owner))
}

/// Are the rules there?
pub(super) fn check(owner: &str) -> Result<(), CniError> {
    let found = Netlink::open_netfilter().and_then(|it| owned_rules(&it, AT));
    if found.explain(Code::Network, || "look at mapped ports".into())?.iter().any(|it| it.comment == owner) {
        return Ok(());
    }
    Err(CniError::new(
        Code::CheckFailed,
        format!("nftables table {TABLE} has lost the mappings under conditions"),
    ))
}

fn remove(picked: impl Fn(&str) -> bool) -> Result<(), CniError> {
    let remove = || -> Result<(), NetlinkError> {
        let netlink = Netlink::open_netfilter()?;
        let gone = owned_rules(&netlink, AT)?;
        let gone: Vec<&OwnedRule> = gone.iter().filter(|it| picked(&it.comment)).collect();
        for some in gone.chunks(200) {
            let mut batch = Batch::new(AT.family, AT.table);
            for rule in some {
                batch.delete_rule(rule);
            }
            match batch.commit(&netlink) {
                Err(err) if err.is_not_found() => {}
                done => done?,
            }
        }
        Ok(())
    };
    remove().explain(Code::Network, || "unmap host ports".into())
}
