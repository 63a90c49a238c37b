//! What a cluster is started with: the command line, resolved against the machine once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use coracle_control::NodeMasks;
use serde::{Deserialize, Serialize};

use crate::layout::Layout;

/// A block of addresses: `10.244.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    /// The first address.
    pub address: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}

/// Why a text is no block of addresses.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a CIDR such as 10.244.0.0/16: {reason}")]
pub struct CidrError {
    text: String,
    reason: &'static str,
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = |reason| CidrError { text: text.to_owned(), reason };
        let (address, prefix) = text.split_once('/').ok_or_else(|| error("no prefix length"))?;
        let address: IpAddr = address.parse().map_err(|_| error("the address does not parse"))?;
        let prefix: u8 = prefix.parse().map_err(|_| error("the prefix length is no number"))?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if prefix > bits {
            return Err(error("the prefix is longer than the address"));
        }
        let cidr = Self { address, prefix };
        if cidr.nth(0) != Some(address) {
            return Err(error("bits are set behind the prefix"));
        }
        Ok(cidr)
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Cidr {
    /// The address `n` after the first; `None` when the block is too small for it.
    pub fn nth(&self, n: u32) -> Option<IpAddr> {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                let value = (u32::from(address) & mask).checked_add(n)?;
                (value & mask == u32::from(address) & mask).then(|| IpAddr::V4(value.into()))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                let value = (u128::from(address) & mask).checked_add(u128::from(n))?;
                (value & mask == u128::from(address) & mask).then(|| IpAddr::V6(value.into()))
            }
        }
    }

    /// Whether an address lies in the block.
    pub fn contains(&self, address: IpAddr) -> bool {
        let base = match address {
            IpAddr::V4(it) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0);
                IpAddr::V4((u32::from(it) & mask).into())
            }
            IpAddr::V6(it) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6((u128::from(it) & mask).into())
            }
        };
        base == self.address
    }
}

/// The options of every node: of `coracle server` and of `coracle agent`.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// Everything this host keeps lives below this folder.
    #[arg(long, default_value = "/var/lib/coracle")]
    pub data_dir: PathBuf,
    /// The container runtime's CRI socket.
    #[arg(long, default_value = "unix:///run/containerd/containerd.sock")]
    pub runtime_endpoint: String,
    /// The CNI plugins' program; by default beside this one.
    #[arg(long)]
    pub cni_binary: Option<PathBuf>,
    /// The node's name; by default the host's, in lower case.
    #[arg(long)]
    pub node_name: Option<String>,
    /// The node's address; by default the one that reaches the default gateway.
    #[arg(long)]
    pub node_ip: Option<IpAddr>,
    /// Port of the kubelet.
    #[arg(long, default_value_t = 10250)]
    pub kubelet_port: u16,
    /// Port of the kubelet's health endpoint on 127.0.0.1.
    #[arg(long, default_value_t = 10248)]
    pub kubelet_healthz_port: u16,
    /// Port of the service proxy's health endpoint.
    #[arg(long, default_value_t = 10256)]
    pub proxy_healthz_port: u16,
    /// The bridge that joins this node's pods.
    #[arg(long, default_value = "cni0")]
    pub bridge: String,
    /// The cgroup below which `kubepods` is made.
    #[arg(long, default_value = "/")]
    pub cgroup_root: String,
    /// A KubeletConfiguration (v1beta1) to start from; what these options say goes over it.
    #[arg(long)]
    pub kubelet_config: Option<PathBuf>,
}

/// The options of `coracle server` and `coracle check`.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// What is particular to this node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Run the control plane alone: no pods here.
    #[arg(long)]
    pub no_node: bool,
    /// Address on which the API server listens.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Port of the API server.
    #[arg(long, default_value_t = 6443)]
    pub api_port: u16,
    /// Addresses of all pods, of which each node gets a part: a range, or one of IPv4 and one of IPv6.
    #[arg(long, default_value = "10.244.0.0/16", value_delimiter = ',')]
    pub pod_cidr: Vec<Cidr>,
    /// Prefix length of a node's part of the IPv4 range.
    #[arg(long, default_value_t = 24)]
    pub node_cidr_mask_size_ipv4: u8,
    /// Prefix length of a node's part of the IPv6 range.
    #[arg(long, default_value_t = 64)]
    pub node_cidr_mask_size_ipv6: u8,
    /// Addresses of Services; the first is the API server's, the tenth cluster DNS's.
    #[arg(long, default_value = "10.96.0.0/16")]
    pub service_cidr: Cidr,
    /// Ports that NodePort Services take theirs from: `first-last`.
    #[arg(long, default_value = "30000-32767")]
    pub service_node_port_range: String,
    /// The domain of the cluster's names.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
}

/// The options of `coracle agent`.
#[derive(Debug, Clone, Args)]
pub struct AgentArgs {
    /// What is particular to this node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// The cluster's API server: https://HOST:PORT.
    #[arg(long)]
    pub server: String,
    /// What `coracle token create` printed; needed once.
    #[arg(long)]
    pub token: Option<String>,
    /// A file that holds the token, for those who do not want it among a process's arguments.
    #[arg(long, conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// The hash of the cluster's CA, when the token does not carry it: sha256:...
    #[arg(long)]
    pub ca_hash: Option<String>,
}

/// What is particular to one node, with nothing left to guess.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeSettings {
    /// The data folder.
    pub data_dir: PathBuf,
    /// The container runtime's CRI socket.
    pub runtime_endpoint: String,
    /// The CNI plugins' program.
    pub cni_binary: PathBuf,
    /// The node's name.
    pub node_name: String,
    /// The node's address.
    pub node_ip: IpAddr,
    /// Port of the kubelet.
    pub kubelet_port: u16,
    /// Port of the kubelet's health endpoint.
    pub kubelet_healthz_port: u16,
    /// Port of the service proxy's health endpoint.
    pub proxy_healthz_port: u16,
    /// The bridge that joins this node's pods.
    pub bridge: String,
    /// The cgroup below which `kubepods` is made.
    pub cgroup_root: String,
    /// A KubeletConfiguration to start from.
    pub kubelet_config: Option<PathBuf>,
}

/// The settings of a control plane and its node.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is particular to this node.
    pub node: NodeSettings,
    /// Whether pods run here.
    pub runs_node: bool,
    /// Where the API server listens.
    pub api_address: SocketAddr,
    /// Addresses of all pods.
    pub pod_cidrs: Vec<Cidr>,
    /// How much of them a node gets.
    pub node_masks: NodeMasks,
    /// Addresses of Services.
    pub service_cidr: Cidr,
    /// First and last port for NodePort Services.
    pub node_ports: (u16, u16),
    /// The domain of the cluster's names.
    pub cluster_domain: String,
    /// The address of cluster DNS.
    pub cluster_dns: IpAddr,
}

/// What this host was last started as: for the commands that speak with it, and for those that clear it away.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Started {
    /// What is particular to this node.
    #[serde(flatten)]
    pub node: NodeSettings,
    /// The address of cluster DNS, once it is known.
    #[serde(default)]
    pub cluster_dns: Option<IpAddr>,
    /// Which part it plays.
    #[serde(default)]
    pub role: Role,
}

/// The part that a host plays in a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Control plane and node.
    #[default]
    Server,
    /// Control plane alone.
    ControlPlane,
    /// A node of a cluster that is elsewhere.
    Agent,
}

/// An option that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The value is wrong in itself.
    #[error("--{option} {value}: {reason}")]
    Invalid {
        /// The option's name.
        option: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The machine does not tell what the option would have.
    #[error("cannot find out --{option}: {reason}; give it")]
    Unknown {
        /// The option's name.
        option: &'static str,
        /// What was tried.
        reason: String,
    },
}

fn invalid(option: &'static str, value: &str, reason: &str) -> SettingsError {
    SettingsError::Invalid { option, value: value.to_owned(), reason: reason.to_owned() }
}

impl NodeArgs {
    /// Checks the options and fills in what the machine knows.
    pub fn resolve(self) -> Result<NodeSettings, SettingsError> {
        let data_dir = std::path::absolute(&self.data_dir)
            .map_err(|error| invalid("data-dir", &self.data_dir.display().to_string(), &error.to_string()))?;
        if !self.runtime_endpoint.starts_with("unix://") {
            return Err(invalid(
                "runtime-endpoint",
                &self.runtime_endpoint,
                "must be unix:// and a socket's path",
            ));
        }
        if self.bridge.is_empty() || self.bridge.len() > 15 || self.bridge.contains(['/', ' ']) {
            return Err(invalid(
                "bridge",
                &self.bridge,
                "an interface name has 1 to 15 characters without / and space",
            ));
        }
        Ok(NodeSettings {
            cni_binary: self.cni_binary.map_or_else(beside_this_program, Ok)?,
            node_name: node_name(self.node_name)?,
            node_ip: self.node_ip.map_or_else(node_ip, Ok)?,
            data_dir,
            runtime_endpoint: self.runtime_endpoint,
            kubelet_port: self.kubelet_port,
            kubelet_healthz_port: self.kubelet_healthz_port,
            proxy_healthz_port: self.proxy_healthz_port,
            bridge: self.bridge,
            cgroup_root: self.cgroup_root,
            kubelet_config: self.kubelet_config,
        })
    }
}

impl ServerArgs {
    /// Checks the options and fills in what the machine knows.
    pub fn resolve(self) -> Result<Settings, SettingsError> {
        check_pod_cidrs(&self.pod_cidr)?;
        for range in &self.pod_cidr {
            if self.service_cidr.contains(range.address) || range.contains(self.service_cidr.address) {
                let value = self.service_cidr.to_string();
                return Err(invalid("service-cidr", &value, "overlaps with --pod-cidr"));
            }
        }
        let cluster_dns = self
            .service_cidr
            .nth(10)
            .ok_or_else(|| invalid("service-cidr", &self.service_cidr.to_string(), "has no tenth address"))?;
        let node_ports = port_range(&self.service_node_port_range).ok_or_else(|| {
            invalid("service-node-port-range", &self.service_node_port_range, "must be first-last")
        })?;
        Ok(Settings {
            node: self.node.resolve()?,
            runs_node: !self.no_node,
            api_address: SocketAddr::new(self.bind_address, self.api_port),
            pod_cidrs: self.pod_cidr,
            node_masks: NodeMasks { v4: self.node_cidr_mask_size_ipv4, v6: self.node_cidr_mask_size_ipv6 },
            service_cidr: self.service_cidr,
            node_ports,
            cluster_domain: self.cluster_domain,
            cluster_dns,
        })
    }
}

/// One range, or one of each family.
fn check_pod_cidrs(ranges: &[Cidr]) -> Result<(), SettingsError> {
    let shown = || ranges.iter().map(Cidr::to_string).collect::<Vec<_>>().join(",");
    match ranges {
        [_] => Ok(()),
        [a, b] if a.address.is_ipv4() != b.address.is_ipv4() => Ok(()),
        _ => Err(invalid("pod-cidr", &shown(), "must be one range, or one of IPv4 and one of IPv6")),
    }
}

impl NodeSettings {
    /// Where this host keeps what.
    pub fn layout(&self) -> Layout {
        Layout::new(&self.data_dir)
    }
}

impl Settings {
    /// The address under which the node itself reaches the API server.
    pub fn api_url(&self) -> String {
        let host = if self.api_address.ip().is_unspecified() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            self.api_address.ip()
        };
        format!("https://{}", SocketAddr::new(host, self.api_address.port()))
    }

    /// The address under which other nodes reach the API server.
    pub fn advertised_url(&self) -> String {
        format!("https://{}", SocketAddr::new(self.node.node_ip, self.api_address.port()))
    }
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0 && first <= last).then_some((first, last))
}

fn beside_this_program() -> Result<PathBuf, SettingsError> {
    std::env::current_exe()
        .map(|path| path.with_file_name("coracle-cni"))
        .map_err(|error| SettingsError::Unknown { option: "cni-binary", reason: error.to_string() })
}

fn node_name(given: Option<String>) -> Result<String, SettingsError> {
    let name = match given {
        Some(name) => name,
        None => nix::unistd::gethostname()
            .map_err(|error| SettingsError::Unknown { option: "node-name", reason: error.to_string() })?
            .to_string_lossy()
            .trim()
            .to_lowercase(),
    };
    match coracle_apimachinery::names::dns1123_subdomain(&name).first() {
        None => Ok(name),
        Some(reason) => {
            Err(SettingsError::Invalid { option: "node-name", value: name.clone(), reason: reason.clone() })
        }
    }
}

/// The address that the kernel would send from towards the outside; without a default route, the first address that
/// is not the loopback's.
fn node_ip() -> Result<IpAddr, SettingsError> {
    let unknown = |reason: String| SettingsError::Unknown { option: "node-ip", reason };
    // Connecting a datagram socket sends nothing: it only asks for a route.
    let routed = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect(("203.0.113.1", 9)).and_then(|()| socket.local_addr()));
    if let Ok(address) = routed
        && !address.ip().is_loopback()
    {
        return Ok(address.ip());
    }
    let interfaces = nix::ifaddrs::getifaddrs().map_err(|error| unknown(error.to_string()))?;
    interfaces
        .filter_map(|it| {
            it.address.and_then(|address| address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip())))
        })
        .find(|address| !address.is_loopback())
        .ok_or_else(|| unknown("no interface has an IPv4 address besides the loopback's".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidrs_parse_or_say_why_not() {
        for (text, expected) in [
            ("10.244.0.0/16", Ok(())),
            ("fd00::/64", Ok(())),
            ("0.0.0.0/0", Ok(())),
            ("10.244.0.0", Err("no prefix length")),
            ("10.244.0/16", Err("the address does not parse")),
            ("10.244.0.0/x", Err("the prefix length is no number")),
            ("10.244.0.0/33", Err("the prefix is longer than the address")),
            ("10.244.1.0/16", Err("bits are set behind the prefix")),
        ] {
            assert_eq!(text.parse::<Cidr>().map(|_| ()).map_err(|it| it.reason), expected, "{text}");
        }
    }

    #[test]
    fn the_nth_address_stays_in_the_block() {
        let cidr: Cidr = "10.96.0.0/30".parse().unwrap();
        assert_eq!(cidr.nth(1), Some("10.96.0.1".parse().unwrap()));
        assert_eq!(cidr.nth(4), None);
        assert!(cidr.contains("10.96.0.3".parse().unwrap()));
        assert!(!cidr.contains("10.96.0.4".parse().unwrap()));
    }

    #[test]
    fn pods_have_one_range_or_one_of_each_family() {
        let check = |text: &str, good: bool| {
            let ranges: Vec<Cidr> = text.split(',').map(|it| it.parse().unwrap()).collect();
            assert_eq!(check_pod_cidrs(&ranges).is_ok(), good, "{text}");
        };
        check("10.244.0.0/16", true);
        check("fd00::/56", true);
        check("10.244.0.0/16,fd00::/56", true);
        check("fd00::/56,10.244.0.0/16", true);
        check("10.244.0.0/16,10.245.0.0/16", false);
        check("10.244.0.0/16,fd00::/56,fd01::/56", false);
    }

    #[test]
    fn what_an_older_version_started_can_be_cleared_away() {
        let text = r#"{"data_dir":"/d","runtime_endpoint":"unix:///s","cni_binary":"/b","node_name":"n",
            "node_ip":"10.0.0.1","api_address":"0.0.0.0:6443","kubelet_port":1,"kubelet_healthz_port":2,
            "proxy_healthz_port":3,"pod_cidr":"10.244.0.0/16","service_cidr":"10.96.0.0/16",
            "node_ports":[1,2],"cluster_domain":"c","cluster_dns":"10.96.0.10","bridge":"b",
            "cgroup_root":"/","kubelet_config":null}"#;
        let started: Started = serde_json::from_str(text).unwrap();
        assert_eq!((started.role, started.cluster_dns), (Role::Server, "10.96.0.10".parse().ok()));
        let again: Started = serde_json::from_slice(&serde_json::to_vec(&started).unwrap()).unwrap();
        assert_eq!(again.node.node_name, "n");
    }

    #[test]
    fn port_ranges() {
        assert_eq!(port_range("30000-32767"), Some((30000, 32767)));
        for bad in ["30000", "2-1", "0-5", "a-b", "1-70000"] {
            assert_eq!(port_range(bad), None, "{bad}");
        }
    }
}
