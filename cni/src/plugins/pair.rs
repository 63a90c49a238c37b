//! A link pair between the host and a container.

use super::entry::Call;
use super::inside;
use super::rules::{self, digest};
use crate::netlink::{Link, LinkChange, Mac, Netlink, NetlinkError, Veth};
use crate::netns::Netns;
use crate::spec::{AddResult, CniError, Code, Explain};
use std::net::IpAddr;
use std::os::fd::AsFd;

/// What the pair shall be.
pub(super) struct Pair<'a> {
    pub(super) mtu: Option<u32>,
    /// The bridge that the host's end joins.
    pub(super) master: Option<u32>,
    /// The hardware address that the container asks for.
    pub(super) mac: Option<Mac>,
    pub(super) given: &'a AddResult,
}

/// Makes the pair; the host's end is returned.
pub(super) fn make(call: &Call, host: &Netlink, netns: &Netns, pair: &Pair) -> Result<Link, CniError> {
    let name = host_end(call);
    let veth = Veth {
        name: &name,
        mtu: pair.mtu,
        master: pair.master,
        peer_name: &call.request.ifname,
        peer_mac: pair.mac.or_else(|| pair.given.ips.first().map(|ip| mac_of(ip.address.addr()))),
        peer_netns: netns.as_fd(),
    };
    let fail = || format!("connect container {} to the host", call.request.container_id);
    match host.create_veth(&veth) {
        // Left from an attachment of the same name whose DEL never came: its other end is in a namespace that is gone.
        Err(err) if err.is_exists() => {
            host.delete_link_named(&name).explain(Code::Network, fail)?;
            host.create_veth(&veth).explain(Code::Network, fail)?;
        }
        made => made.explain(Code::Network, fail)?,
    }
    let end = host.link(&name).explain(Code::Network, fail)?.ok_or_else(|| {
        CniError::new(Code::Network, fail()).details(format!("{name} vanished as soon as it was made"))
    })?;
    // Whose it is: GC looks for it there.
    let alias = Some(rules::owner(&call.common.name, &call.attachment()));
    let change = LinkChange { alias, ..LinkChange::default() };
    host.change_link(end.index, &change).explain(Code::Network, fail)?;
    Ok(end)
}

/// Removes pairs of this network whose attachment is not among the valid ones.
pub(super) fn gc(call: &Call) -> Result<(), CniError> {
    let (network, valid) = (&call.common.name, call.common.valid_attachments()?);
    let prefix = rules::network_prefix(network);
    let keep: Vec<String> = valid.iter().map(|it| rules::owner(network, it)).collect();
    let stale =
        |link: &Link| link.kind == "veth" && link.alias.starts_with(&prefix) && !keep.contains(&link.alias);
    let remove = || -> Result<(), NetlinkError> {
        let host = Netlink::open()?;
        for link in host.links()?.iter().filter(|it| stale(it)) {
            host.delete_link_named(&link.name)?;
        }
        Ok(())
    };
    remove().explain(Code::Network, || "remove links of containers that are gone".into())
}

/// Removes the pair by the host's end; where that is not there, by the container's, which another plugin may have
/// made under the same name.
pub(super) fn remove(call: &Call) -> Result<(), CniError> {
    let name = host_end(call);
    let by_host_end = || Netlink::open()?.delete_link_named(&name);
    if by_host_end().explain(Code::Network, || format!("remove link {name}"))? {
        return Ok(());
    }
    match call.netns_if_present()? {
        Some(netns) => inside::remove(&netns, &call.request.ifname),
        None => Ok(()),
    }
}

/// After a failed ADD: what is in the container under that name may be somebody else's.
pub(super) fn undo(call: &Call) -> Result<(), CniError> {
    let name = host_end(call);
    let remove = || Netlink::open()?.delete_link_named(&name);
    remove().map(drop).explain(Code::Network, || format!("remove link {name}"))
}

/// The name of the host's end follows from the attachment, so that DEL finds it without any record.
pub(super) fn host_end(call: &Call) -> String {
    let identity = format!("{}/{}/{}", call.common.name, call.request.container_id, call.request.ifname);
    format!("veth{:011x}", digest(&identity) & 0xfff_ffff_ffff)
}

/// A hardware address that follows from the IP address: when the address is given again, what others
/// remember about its neighbour is still true.
fn mac_of(addr: IpAddr) -> Mac {
    let [a, b, c, d] = match addr {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => {
            let hash = digest(&v6.to_string());
            u32::try_from((hash ^ hash >> 32) & 0xffff_ffff).unwrap_or(0).to_be_bytes()
        }
    };
    Mac([0x0a, 0x58, a, b, c, d])
}
