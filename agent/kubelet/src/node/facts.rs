//! What is found out about the machine once, at start.

use std::fs;
use std::net::{IpAddr, UdpSocket};

use super::{Machine, NodeError};
use crate::config::{KubeletConfig, NodeSettings};
use crate::translate::NodeAllocatable;

/// The version that this kubelet behaves as.
pub const KUBELET_VERSION: &str = "v1.36.2";

/// What is found out about the machine once, at start.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeFacts {
    /// The node's name.
    pub name: String,
    /// Its addresses, primary first.
    pub ips: Vec<IpAddr>,
    /// What pods can have.
    pub allocatable: NodeAllocatable,
    /// The machine's size.
    pub machine: Machine,
    /// Bytes of the file system of the kubelet's root folder.
    pub ephemeral_storage: i64,
    /// Bytes per size of huge page, by its name in the API: `2Mi`.
    pub hugepages: Vec<(String, i64)>,
    /// `nodeInfo`, but for the runtime's version.
    pub system: SystemInfo,
}

/// Identities and versions of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SystemInfo {
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The firmware's uuid; the machine's id where there is none.
    pub system_uuid: String,
    /// Changes with each boot.
    pub boot_id: String,
    /// `uname -r`.
    pub kernel_version: String,
    /// The distribution's pretty name.
    pub os_image: String,
    /// Go's word for it: `amd64`, `arm64`.
    pub architecture: String,
}

impl NodeFacts {
    /// Reads them. Blocking, but for a moment only.
    pub(super) fn read(config: &KubeletConfig) -> Result<Self, NodeError> {
        let fact = |what: &str| {
            let what = what.to_owned();
            move |source| NodeError::Fact { what, source }
        };
        let machine = Machine::read().map_err(fact("the machine's size"))?;
        if config.resources.fail_swap_on && machine.swap > 0 {
            return Err(NodeError::Refused(
                "running with swap on is not supported, please disable swap or set failSwapOn to false"
                    .to_owned(),
            ));
        }
        let root = &config.paths.root;
        fs::create_dir_all(root).map_err(fact(&format!("folder {}", root.display())))?;
        let ephemeral_storage = super::pressure::file_system(root).map_or(0, |it| it.capacity);
        let hugepages = hugepages();
        Ok(Self {
            name: config.node.name.clone(),
            ips: addresses(&config.node)?,
            allocatable: super::capacity::allocatable(config, &machine, ephemeral_storage, &hugepages),
            machine,
            ephemeral_storage,
            hugepages,
            system: system(),
        })
    }
}

fn system() -> SystemInfo {
    let line = |path: &str| fs::read_to_string(path).map(|it| it.trim().to_owned()).unwrap_or_default();
    let first =
        |paths: &[&str]| paths.iter().map(|it| line(it)).find(|it| !it.is_empty()).unwrap_or_default();
    let machine_id = first(&["/etc/machine-id", "/var/lib/dbus/machine-id"]);
    let uuid = first(&["/sys/class/dmi/id/product_uuid", "/proc/device-tree/vm,uuid"]);
    SystemInfo {
        system_uuid: if uuid.is_empty() {
            machine_id.clone()
        } else {
            uuid.trim_end_matches('\0').to_owned()
        },
        machine_id,
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        kernel_version: line("/proc/sys/kernel/osrelease"),
        os_image: pretty_name(&first(&["/etc/os-release", "/usr/lib/os-release"])),
        architecture: go_arch(std::env::consts::ARCH).to_owned(),
    }
}

fn pretty_name(os_release: &str) -> String {
    let value = os_release.lines().find_map(|it| it.strip_prefix("PRETTY_NAME="));
    value.map_or_else(|| "Linux".to_owned(), |it| it.trim_matches('"').to_owned())
}

fn go_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// `--node-ip`, else the address from which the default route leaves, else any that is not loopback.
fn addresses(settings: &NodeSettings) -> Result<Vec<IpAddr>, NodeError> {
    let given: Vec<IpAddr> = settings.ips.iter().copied().filter(|it| !it.is_unspecified()).collect();
    if !given.is_empty() {
        return Ok(given);
    }
    let any: Vec<IpAddr> = interface_addresses();
    // Connecting a UDP socket sends nothing: it asks the routing table.
    let routed = |from: &str, to: &str| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|it| !it.is_loopback() && !it.is_unspecified())
    };
    let wants_v6_first = settings.ips.first().is_some_and(IpAddr::is_ipv6);
    let v4 = routed("0.0.0.0:0", "192.0.2.1:9").or_else(|| any.iter().copied().find(IpAddr::is_ipv4));
    let v6 = routed("[::]:0", "[2001:db8::1]:9").or_else(|| any.iter().copied().find(IpAddr::is_ipv6));
    let found = if wants_v6_first { v6.or(v4) } else { v4.or(v6) };
    // A machine without any network can still run pods for itself.
    Ok(vec![found.unwrap_or_else(|| IpAddr::from([127, 0, 0, 1]))])
}

fn interface_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let addresses = interfaces.filter_map(|it| {
        let address = it.address?;
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::from(it.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::from(it.ip())))
    });
    let is_link_local = |it: &IpAddr| match it {
        IpAddr::V4(it) => it.is_link_local(),
        IpAddr::V6(it) => it.is_unicast_link_local(),
    };
    addresses.filter(|it| !it.is_loopback() && !is_link_local(it)).collect()
}

fn hugepages() -> Vec<(String, i64)> {
    let Ok(entries) = fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let mut sizes: Vec<(String, i64)> = entries
        .flatten()
        .filter_map(|it| {
            let name = it.file_name().into_string().ok()?;
            let kib: i64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count: i64 = fs::read_to_string(it.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
            Some((coracle_apimachinery::Quantity::from_bytes(kib * 1024).to_string(), kib * 1024 * count))
        })
        .collect();
    sizes.sort();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_a_name_an_address_and_a_size() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = crate::config::testing::config(dir.path());
        config.resources.fail_swap_on = false;
        let facts = NodeFacts::read(&config).unwrap();
        assert_eq!((facts.name.as_str(), facts.ips.len()), ("node-1", 1));
        assert!(facts.allocatable.memory > 0 && facts.allocatable.memory < facts.allocatable.memory_capacity);
        assert!(facts.ephemeral_storage > 0 && !facts.system.boot_id.is_empty());
        config.node.ips = vec!["192.0.2.7".parse().unwrap()];
        assert_eq!(NodeFacts::read(&config).unwrap().ips, config.node.ips);
    }

    #[test]
    fn names_are_go_s_and_the_distribution_s() {
        assert_eq!(pretty_name("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert_eq!((pretty_name(""), go_arch("aarch64")), ("Linux".to_owned(), "arm64"));
    }
}
