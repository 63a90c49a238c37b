//! `bandwidth`: traffic of a container held to a rate, by queues on the host's end of its link pair.
//!
//! What goes to the container leaves the host's end, and waits there. What comes from it has no queue of its own: it
//! takes its way through a link made for that (an ifb), and waits there.
mod conf; // rates, checked

use super::entry::{Call, Plugin};
use super::rules;
use crate::address::Cidr;
use crate::netlink::traffic::{Peer, Rate};
use crate::netlink::{Link, LinkChange, LinkKind, Netlink, NetlinkError, NewLink};
use crate::spec::{AddResult, CniError, Code, Explain};
use conf::Conf;

/// The plugin.
pub struct Bandwidth;

impl Plugin for Bandwidth {
    fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        let conf = Conf::read(call)?;
        let mut result = call.prev_result()?;
        if conf.is_empty() {
            return Ok(result);
        }
        let host = Netlink::open().explain(Code::Network, || "talk to the kernel".into())?;
        let end = host_end(&host, call, &result)?;
        let done = limit(call, &conf, &host, &end);
        match done {
            Ok(Some(queue)) => {
                // Interfaces are named by their numbers, so it must be the last.
                result.interfaces.push(super::inside::interface(&queue, String::new()));
                Ok(result)
            }
            Ok(None) => Ok(result),
            Err(err) => Err(err.and(undo(call, &host, &end))),
        }
    }

    fn del(&self, call: &Call) -> Result<(), CniError> {
        Conf::read(call)?;
        remove_queue_link(call) // the queues on the host's end go with it
    }

    fn check(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let result = call.prev_result()?;
        if conf.is_empty() {
            return Ok(());
        }
        let host = Netlink::open().explain(Code::Network, || "talk to the kernel".into())?;
        let end = host_end(&host, call, &result)?;
        if let Some(rate) = conf.ingress {
            must_have_queue(&host, &end, &conf, rate)?;
        }
        if let Some(rate) = conf.egress {
            let name = queue_link(call);
            let say = || format!("look for {name}");
            let Some(queue) = host.link(&name).explain(Code::Network, say)? else {
                return Err(CniError::new(
                    Code::CheckFailed,
                    format!("{name}, which limits egress, is gone"),
                ));
            };
            must_have_queue(&host, &queue, &conf, rate)?;
            let queues = host.queues(end.index).explain(Code::Network, say)?;
            if !queues.iter().any(|queue| queue.kind == "ingress") {
                let msg = format!("what comes in by {} does not go through {name} any more", end.name);
                return Err(CniError::new(Code::CheckFailed, msg));
            }
        }
        Ok(())
    }

    fn gc(&self, call: &Call) -> Result<(), CniError> {
        let network = &call.common.name;
        let keep: Vec<String> =
            call.common.valid_attachments()?.iter().map(|it| rules::owner(network, it)).collect();
        let prefix = rules::network_prefix(network);
        let remove = || -> Result<(), NetlinkError> {
            let host = Netlink::open()?;
            let ours = |link: &Link| link.kind == "ifb" && link.alias.starts_with(&prefix);
            for link in host.links()?.iter().filter(|it| ours(it) && !keep.contains(&it.alias)) {
                host.delete_link_named(&link.name)?;
            }
            Ok(())
        };
        remove().explain(Code::Network, || "remove what limits containers that are gone".into())
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        Conf::read(call).map(drop)
    }
}

fn limit(call: &Call, conf: &Conf, host: &Netlink, end: &Link) -> Result<Option<Link>, CniError> {
    let say = || format!("limit the bandwidth of container {}", call.request.container_id);
    if let Some(rate) = conf.ingress {
        hold(host, end, conf, rate, true).explain(Code::Network, say)?;
    }
    let Some(rate) = conf.egress else { return Ok(None) };
    let queue = make_queue_link(call, host, end).explain(Code::Network, say)?;
    hold(host, &queue, conf, rate, false).explain(Code::Network, say)?;
    host.redirect_incoming(end.index, queue.index).explain(Code::Network, say)?;
    Ok(Some(queue))
}

fn hold(
    host: &Netlink,
    link: &Link,
    conf: &Conf,
    rate: Rate,
    to_container: bool,
) -> Result<(), NetlinkError> {
    if conf.peers.is_empty() {
        return host.limit_link(link.index, rate);
    }
    let peer = |net: &Cidr| Peer { net: *net, source: to_container };
    let peers: Vec<Peer> = conf.peers.iter().map(peer).collect();
    host.limit_part(link.index, rate, &peers, conf.only_peers)
}

fn make_queue_link(call: &Call, host: &Netlink, end: &Link) -> Result<Link, NetlinkError> {
    let name = queue_link(call);
    let new = NewLink { name: &name, kind: LinkKind::Ifb, mtu: Some(end.mtu), mac: None, netns: None };
    match host.create_link(&new) {
        // Left from an attachment of the same name whose DEL never came.
        Err(err) if err.is_exists() => {
            host.delete_link_named(&name)?;
            host.create_link(&new)?;
        }
        made => made?,
    }
    let link = host.link(&name)?.unwrap_or_default();
    let alias = rules::owner(&call.common.name, &call.attachment());
    let change = LinkChange { up: Some(true), alias: Some(alias), ..LinkChange::default() };
    host.change_link(link.index, &change)?;
    Ok(link)
}

fn must_have_queue(host: &Netlink, link: &Link, conf: &Conf, rate: Rate) -> Result<(), CniError> {
    let queues = host.queues(link.index).explain(Code::Network, || format!("look at {}", link.name))?;
    let wanted = if conf.peers.is_empty() { "tbf" } else { "htb" };
    match queues.iter().find(|queue| queue.kind == wanted) {
        None => {
            Err(CniError::new(Code::CheckFailed, format!("{} is not held to a rate any more", link.name)))
        }
        Some(queue) if wanted == "tbf" && queue.rate != rate.rate => {
            let msg = format!("{} is held to {} bytes/s, not {}", link.name, queue.rate, rate.rate);
            Err(CniError::new(Code::CheckFailed, msg))
        }
        Some(_) => Ok(()),
    }
}

fn undo(call: &Call, host: &Netlink, end: &Link) -> Result<(), CniError> {
    for done in [host.unlimit_link(end.index), host.release_incoming(end.index)] {
        let _ = done; // there may be none; the link goes with the container at the latest
    }
    remove_queue_link(call)
}

fn remove_queue_link(call: &Call) -> Result<(), CniError> {
    let name = queue_link(call);
    let remove = || Netlink::open()?.delete_link_named(&name);
    remove().map(drop).explain(Code::Network, || format!("remove {name}"))
}

/// The name follows from the attachment, so that DEL finds it without any record.
fn queue_link(call: &Call) -> String {
    let identity = rules::owner(&call.common.name, &call.attachment());
    format!("bwp{:012x}", rules::digest(&identity) & 0xffff_ffff_ffff)
}

/// The end on the host of the container's link pair.
fn host_end(host: &Netlink, call: &Call, result: &AddResult) -> Result<Link, CniError> {
    let say = || format!("look for the host's end of container {}", call.request.container_id);
    let ifname = &call.request.ifname;
    let netns = call.netns()?;
    let inner =
        super::inside::within(&netns, || Netlink::open()?.link(ifname))?.explain(Code::Network, say)?;
    let Some(inner) = inner else {
        return Err(CniError::new(Code::InvalidConfig, format!("the container has no interface {ifname}")));
    };
    for interface in result.interfaces.iter().filter(|it| it.sandbox.is_empty()) {
        if let Some(link) = host.link(&interface.name).explain(Code::Network, say)?
            && link.kind == "veth"
            && Some(link.index) == inner.peer
        {
            return Ok(link);
        }
    }
    let msg =
        format!("bandwidth: prevResult names no link on the host that leads to {ifname} in the container");
    Err(CniError::new(Code::InvalidConfig, msg)
        .details("it works with the plugins that make a link pair: bridge and ptp"))
}
