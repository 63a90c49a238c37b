//! `host-device`: a device of the host is moved into the container, and comes back at DEL under its old name.

use super::entry::{Call, Plugin};
use super::single;
use super::{inside, ipam};
use crate::netlink::{Link, LinkChange, Mac, Netlink, NetlinkError};
use crate::netns::Netns;
use crate::spec::{AddResult, CniError, Code, Explain};
use serde::Deserialize;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The plugin.
pub struct HostDevice;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    device: String,
    hwaddr: String,
    kernelpath: String,
    #[serde(rename = "pciBusID")]
    pci_bus_id: String,
    #[serde(rename = "runtimeConfig")]
    runtime_config: Runtime,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Runtime {
    #[serde(rename = "deviceID")]
    device_id: String,
}

/// How the device is named.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Name(String),
    Mac(Mac),
    /// A folder of the kernel's, with the names of devices below `net`.
    Folder(PathBuf),
}

impl Wanted {
    fn read(call: &Call) -> Result<Wanted, CniError> {
        let mut raw: Raw = call.conf()?;
        let invalid = |msg: String| CniError::new(Code::InvalidConfig, format!("host-device: {msg}"));
        if !raw.runtime_config.device_id.is_empty() {
            raw.pci_bus_id = raw.runtime_config.device_id;
        }
        if !raw.pci_bus_id.is_empty() {
            if !raw.pci_bus_id.bytes().all(|it| it.is_ascii_hexdigit() || matches!(it, b':' | b'.')) {
                return Err(invalid(format!(
                    "pciBusID {:?} is not one such as 0000:00:1f.6",
                    raw.pci_bus_id
                )));
            }
            return Ok(Wanted::Folder(Path::new("/sys/bus/pci/devices").join(raw.pci_bus_id)));
        }
        if !raw.kernelpath.is_empty() {
            let path = PathBuf::from(raw.kernelpath);
            let plain = path.components().all(|it| !matches!(it, std::path::Component::ParentDir));
            if !path.starts_with("/sys/devices") || !plain {
                return Err(invalid(format!("kernelpath {} is not below /sys/devices", path.display())));
            }
            return Ok(Wanted::Folder(path));
        }
        if !raw.hwaddr.is_empty() {
            return raw.hwaddr.parse().map(Wanted::Mac).map_err(invalid);
        }
        if raw.device.is_empty() {
            return Err(invalid("it needs device, hwaddr, kernelpath or pciBusID".into()));
        }
        Ok(Wanted::Name(raw.device))
    }

    fn find(&self, host: &Netlink) -> Result<Link, CniError> {
        let say = || "look for the device of the host".into();
        let found = match self {
            Wanted::Name(name) => host.link(name).explain(Code::Network, say)?,
            Wanted::Mac(mac) => {
                host.links().explain(Code::Network, say)?.into_iter().find(|it| it.mac == Some(*mac))
            }
            Wanted::Folder(folder) => match device_below(folder) {
                Some(name) => host.link(&name).explain(Code::Network, say)?,
                None => None,
            },
        };
        found.ok_or_else(|| {
            let what = match self {
                Wanted::Name(name) => format!("named {name}"),
                Wanted::Mac(mac) => format!("with the hardware address {mac}"),
                Wanted::Folder(folder) => format!("at {}", folder.display()),
            };
            CniError::new(Code::InvalidConfig, format!("host-device: the host has no device {what}"))
        })
    }
}

/// The kernel shows a device's name as a folder in `net`; a virtual one has its bus between.
fn device_below(folder: &Path) -> Option<String> {
    let names = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten();
    let direct = names(folder.join("net")).next();
    let through_bus = || {
        names(folder.to_owned())
            .filter(|it| it.file_name().to_string_lossy().starts_with("virtio"))
            .find_map(|it| names(it.path().join("net")).next())
    };
    direct.or_else(through_bus).and_then(|it| it.file_name().into_string().ok())
}

impl Plugin for HostDevice {
    fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        let wanted = Wanted::read(call)?;
        let name = &call.request.ifname;
        single::add(call, |netns| move_in(&wanted, netns, name), |netns| move_out(netns, name))
    }

    fn del(&self, call: &Call) -> Result<(), CniError> {
        Wanted::read(call)?;
        let mut failures = Vec::new();
        match call.netns_if_present() {
            Ok(Some(netns)) => failures.extend(move_out(&netns, &call.request.ifname).err()),
            Ok(None) => {} // the kernel has given the device back itself
            Err(err) => failures.push(err),
        }
        failures.extend(ipam::del(call).err());
        CniError::all(failures)
    }

    fn check(&self, call: &Call) -> Result<(), CniError> {
        Wanted::read(call)?;
        single::check(call, |_| Ok(()))
    }

    fn gc(&self, call: &Call) -> Result<(), CniError> {
        ipam::pass_on(call)
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        Wanted::read(call)?; // the device may be in a container just now
        ipam::pass_on(call)
    }
}

/// The old name goes along as the link's alias: that is where DEL finds it.
fn move_in(wanted: &Wanted, netns: &Netns, name: &str) -> Result<(), CniError> {
    let host = Netlink::open().explain(Code::Network, || "talk to the kernel".into())?;
    let link = wanted.find(&host)?;
    let say = || format!("move {} into the container", link.name);
    let down = LinkChange { up: Some(false), alias: Some(link.name.clone()), ..LinkChange::default() };
    host.change_link(link.index, &down).explain(Code::Network, say)?;
    let moved = host.move_link(link.index, netns.as_fd(), name).explain(Code::Network, say);
    moved.map_err(|err| {
        let up = LinkChange { up: Some(link.up), alias: Some(link.alias.clone()), ..LinkChange::default() };
        err.and(host.change_link(link.index, &up).explain(Code::Network, say))
    })
}

/// Back to the host, which is the calling thread's namespace.
fn move_out(netns: &Netns, ifname: &str) -> Result<(), CniError> {
    let say = || format!("move {ifname} back to the host");
    let host = File::open("/proc/thread-self/ns/net").explain(Code::Io, say)?;
    let back = || -> Result<(), NetlinkError> {
        let netlink = Netlink::open()?;
        let Some(link) = netlink.link(ifname)? else { return Ok(()) };
        let name = if link.alias.is_empty() { ifname } else { &link.alias };
        let down = LinkChange { up: Some(false), ..LinkChange::default() };
        netlink.change_link(link.index, &down)?;
        for address in netlink.addresses(link.index)?.iter().filter(|it| !it.link_scope) {
            netlink.delete_address(link.index, address.cidr)?;
        }
        netlink.move_link(link.index, host.as_fd(), name)
    };
    inside::within(netns, back)?.explain(Code::Network, say)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_below_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(device_below(dir.path()), None);
        std::fs::create_dir_all(dir.path().join("virtio0/net/ens3")).unwrap();
        assert_eq!(device_below(dir.path()).as_deref(), Some("ens3"));
        std::fs::create_dir_all(dir.path().join("net/eth7")).unwrap();
        assert_eq!(device_below(dir.path()).as_deref(), Some("eth7"));
    }
}
