//! A plugin whose link is only in the container: made there, given addresses, removed with all that hangs on it.

use super::entry::Call;
use super::{inside, ipam};
use crate::netlink::{Link, Netlink};
use crate::netns::Netns;
use crate::spec::{AddResult, CniError, Code, Explain};

/// Makes the link by `make`, gives it addresses; when something fails, `undo` takes the link back.
pub(super) fn add(
    call: &Call,
    make: impl FnOnce(&Netns) -> Result<(), CniError>,
    undo: impl FnOnce(&Netns) -> Result<(), CniError>,
) -> Result<AddResult, CniError> {
    let netns = call.netns()?;
    inside::must_be_free(&netns, &call.request.ifname)?;
    make(&netns)?;
    let attached = match ipam::add(call) {
        Ok(given) => attach(call, &netns, given).map_err(|err| err.and(ipam::del(call))),
        Err(err) => Err(err),
    };
    attached.map_err(|err| err.and(undo(&netns)))
}

fn attach(call: &Call, netns: &Netns, mut given: AddResult) -> Result<AddResult, CniError> {
    // A plugin of the chain may have brought addresses for this link.
    if given.ips.is_empty()
        && let Some(before) = call.common.prev_result()?
    {
        (given.ips, given.routes) = (before.ips, before.routes);
        given.dns = before.dns;
    }
    let plan =
        inside::Plan { ifname: &call.request.ifname, dad: true, up: true, routed: false, given: &given };
    let link = inside::set_up(netns, &plan)?;
    given.ips.iter_mut().for_each(|ip| ip.interface = Some(0));
    Ok(AddResult {
        interfaces: vec![inside::interface(&link, call.sandbox())],
        dns: call.common.dns_or(&given.dns),
        ..given
    })
}

/// Removes the link, then gives the addresses back: they are free only when nothing uses them any more.
pub(super) fn del(call: &Call) -> Result<(), CniError> {
    let mut failures = Vec::new();
    match call.netns_if_present() {
        Ok(Some(netns)) => failures.extend(inside::remove(&netns, &call.request.ifname).err()),
        Ok(None) => {}
        Err(err) => failures.push(err),
    }
    failures.extend(ipam::del(call).err());
    CniError::all(failures)
}

/// Interface, addresses, routes; then `kind`, which looks at the link itself from inside.
pub(super) fn check(
    call: &Call,
    kind: impl FnOnce(&Link) -> Result<(), CniError> + Send,
) -> Result<(), CniError> {
    let made = call.prev_result()?;
    let netns = call.netns()?;
    let ifname = &call.request.ifname;
    inside::check(&netns, &made, ifname)?;
    inside::within(&netns, || {
        let found = Netlink::open().and_then(|it| it.link(ifname));
        let found = found.explain(Code::Network, || format!("look at {ifname} in the container"))?;
        let gone = || CniError::new(Code::CheckFailed, format!("{ifname} in the container is gone"));
        kind(&found.ok_or_else(gone)?)
    })??;
    ipam::pass_on(call)
}

/// Fails a CHECK when the link is of another kind.
pub(super) fn must_be(link: &Link, kind: &str) -> Result<(), CniError> {
    if link.kind == kind {
        return Ok(());
    }
    let now = if link.kind.is_empty() { "a device" } else { &link.kind };
    Err(CniError::new(Code::CheckFailed, format!("{} in the container is {now}, not {kind}", link.name)))
}

/// Where the link below is: on the host, or in the container.
pub(super) fn with_parent<T: Send>(
    netns: &Netns,
    in_container: bool,
    work: impl FnOnce(&Netlink) -> Result<T, CniError> + Send,
) -> Result<T, CniError> {
    let open_and_work = || work(&Netlink::open().explain(Code::Network, || "talk to the kernel".into())?);
    if in_container { inside::within(netns, open_and_work)? } else { open_and_work() }
}

/// The link below, by its name; without a name the one with the default route.
pub(super) fn parent(netlink: &Netlink, plugin: &str, name: Option<&str>) -> Result<Link, CniError> {
    let say = || format!("look for the master of {plugin}");
    let Some(name) = name else {
        let routes = netlink.routes().explain(Code::Network, say)?;
        let way_out = routes.iter().filter(|it| it.dst.prefix() == 0 && it.table == Some(254));
        let links = netlink.links().explain(Code::Network, say)?;
        let found = way_out.min_by_key(|it| (!it.dst.is_ipv4(), it.priority));
        return found.and_then(|route| links.into_iter().find(|it| it.index == route.link)).ok_or_else(
            || {
                CniError::new(
                    Code::InvalidConfig,
                    format!("{plugin} has no master, and there is no default route"),
                )
                .details("name the device in master")
            },
        );
    };
    netlink.link(name).explain(Code::Network, say)?.ok_or_else(|| {
        CniError::new(Code::InvalidConfig, format!("{plugin}: there is no device {name} (master)"))
    })
}

/// The packet size: as wanted, but not more than the link below has.
pub(super) fn mtu(plugin: &str, wanted: u32, parent: &Link) -> Result<Option<u32>, CniError> {
    if wanted > parent.mtu {
        let msg = format!("{plugin}: mtu {wanted} is more than the {} of {}", parent.mtu, parent.name);
        return Err(CniError::new(Code::InvalidConfig, msg));
    }
    Ok(Some(wanted).filter(|mtu| *mtu > 0))
}

/// Explains why the kernel did not make a link.
pub(super) fn made(done: Result<(), crate::netlink::NetlinkError>, kind: &str) -> Result<(), CniError> {
    match done {
        Err(err) if err.is_unsupported() => {
            Err(CniError::new(Code::Network, format!("this kernel has no links of type {kind}"))
                .details(format!("{err}: is the module {kind} there?")))
        }
        done => done.explain(Code::Network, || format!("make the {kind} of the container")),
    }
}

/// STATUS: could an ADD be served? A link below that is in containers cannot be looked for yet.
pub(super) fn parent_is_there(plugin: &str, name: Option<&str>, in_container: bool) -> Result<(), CniError> {
    if in_container {
        return Ok(());
    }
    let found = Netlink::open().explain(Code::Network, || "talk to the kernel".into());
    found
        .and_then(|netlink| parent(&netlink, plugin, name))
        .map(drop)
        .map_err(|err| CniError { code: Code::NotAvailable, ..err })
}
