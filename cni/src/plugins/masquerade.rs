//! Packets that leave a container's network take the host's address.

use super::rules::{self, TABLE};
use crate::address::Cidr;
use crate::spec::{AttachmentId, CniError, Code, Explain};

const SETS: [&str; 4] = ["masq4", "masq6", "near4", "near6"];

/// `masq`: who is translated. `near`: pairs of container and its own network, which are not.
fn definitions() -> String {
    format!(
        "table inet {TABLE} {{
  set masq4 {{ type ipv4_addr; }}
  set masq6 {{ type ipv6_addr; }}
  set near4 {{ type ipv4_addr . ipv4_addr; flags interval; }}
  set near6 {{ type ipv6_addr . ipv6_addr; flags interval; }}
  chain pods_out {{ type nat hook postrouting priority srcnat; policy accept; }}
}}
flush chain inet {TABLE} pods_out
table inet {TABLE} {{
  chain pods_out {{
    ip saddr @masq4 ip saddr . ip daddr != @near4 ip daddr != 224.0.0.0/4 masquerade fully-random
    ip6 saddr @masq6 ip6 saddr . ip6 daddr != @near6 ip6 daddr != ff00::/8 masquerade fully-random
  }}
}}
"
    )
}

/// Begins to translate for these addresses, except towards their own networks.
pub(super) fn add(network: &str, attachment: &AttachmentId, ips: &[Cidr]) -> Result<(), CniError> {
    let owner = rules::owner(network, attachment);
    let mut elements = String::new();
    for ip in ips {
        let (masq, near) = if ip.is_ipv4() { ("masq4", "near4") } else { ("masq6", "near6") };
        elements += &rules::replace_text(masq, &ip.addr().to_string(), &owner);
        elements += &rules::replace_text(near, &format!("{} . {}", ip.addr(), ip.network()), &owner);
    }
    let load = || rules::load(&definitions(), &elements);
    let loaded = load().or_else(|err| {
        // Left from an attachment in another network with the same address.
        if !err.is_conflict() {
            return Err(err);
        }
        let stale: Vec<String> = ips.iter().map(|ip| ip.addr().to_string()).collect();
        let first = |key: &str| key.split(" . ").next().unwrap_or_default().to_owned();
        let found = rules::elements(&SETS).unwrap_or_default();
        for element in found.iter().filter(|it| stale.contains(&first(&it.key))) {
            let _ = rules::remove(&[&element.set], |owner| owner == element.owner); // the load below says if it stayed
        }
        load()
    });
    loaded.explain(Code::Network, || format!("masquerade for container {}", attachment.container_id))
}

/// Stops translating for an attachment.
pub(super) fn del(network: &str, attachment: &AttachmentId) -> Result<(), CniError> {
    let owner = rules::owner(network, attachment);
    rules::remove(&SETS, |it| it == owner).map(drop)
}

/// Is every address still translated?
pub(super) fn check(network: &str, attachment: &AttachmentId, ips: &[Cidr]) -> Result<(), CniError> {
    let owner = rules::owner(network, attachment);
    let found = rules::elements(&SETS)?;
    for ip in ips {
        if !found.iter().any(|it| it.owner == owner && it.key == ip.addr().to_string()) {
            return Err(CniError::new(
                Code::CheckFailed,
                format!("{} is not masqueraded any more", ip.addr()),
            ));
        }
    }
    Ok(())
}

/// Stops translating for attachments that are gone.
pub(super) fn gc(network: &str, valid: &[AttachmentId]) -> Result<(), CniError> {
    rules::remove_invalid(&SETS, network, valid).map(drop)
}
