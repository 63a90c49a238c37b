//! What every plugin's configuration has in common.

use super::error::{CniError, Code, Explain};
use super::result::{AddResult, Dns};
use super::version::Version;
use serde::{Deserialize, Deserializer, Serialize};
use std::net::IpAddr;

/// The part of a plugin's configuration that means the same to all plugins.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Common {
    cni_version: String,
    /// The name of the network.
    pub name: String,
    /// The name of the plugin's binary.
    #[serde(rename = "type")]
    pub kind: String,
    /// The plugin that gives addresses; its further fields are its own.
    #[serde(deserialize_with = "null_is_default")]
    pub ipam: IpamType,
    /// Name servers that the container shall use.
    #[serde(deserialize_with = "null_is_default")]
    pub dns: Dns,
    prev_result: Option<serde_json::Value>,
    /// What the runtime adds for the capabilities that the plugin declared.
    #[serde(deserialize_with = "null_is_default")]
    pub runtime_config: RuntimeConfig,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<AttachmentId>>,
    #[serde(rename = "cni.dev/attachments")]
    attachments: Option<Vec<AttachmentId>>,
}

/// Which plugin gives addresses.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct IpamType {
    /// Its binary's name; empty for a network without addresses.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Values for declared capabilities.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct RuntimeConfig {
    /// The hardware address the container asks for.
    pub mac: Option<String>,
    /// Addresses the container asks for, with or without a prefix length.
    #[serde(deserialize_with = "null_is_default")]
    pub ips: Vec<String>,
    /// Ports of the host that lead to the container.
    #[serde(deserialize_with = "null_is_default")]
    pub port_mappings: Vec<PortMapping>,
    /// Name servers that the container shall use.
    #[serde(deserialize_with = "null_is_default")]
    pub dns: RuntimeDns,
}

/// Name servers, as runtimes spell them.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct RuntimeDns {
    /// Addresses of the servers.
    #[serde(deserialize_with = "null_is_default")]
    pub servers: Vec<String>,
    /// Domains to search for short names.
    #[serde(deserialize_with = "null_is_default")]
    pub searches: Vec<String>,
    /// Options of the resolver.
    #[serde(deserialize_with = "null_is_default")]
    pub options: Vec<String>,
}

/// One port of the host that leads to a port of the container.
#[derive(Deserialize, Serialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The port on the host; 0 or less means none.
    pub host_port: i32,
    /// The port in the container.
    pub container_port: i32,
    /// TCP when nothing is said.
    #[serde(default)]
    pub protocol: Protocol,
    /// The only address of the host that leads there; all when empty.
    #[serde(rename = "hostIP", default, skip_serializing_if = "String::is_empty")]
    pub host_ip: String,
}

/// A transport protocol with ports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The lower-case name, as nft and CNI write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// The number in IP headers.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Protocol, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.to_ascii_lowercase().as_str() {
            "" | "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            _ => Err(serde::de::Error::custom(format!("protocol {text:?} is not one of tcp, udp, sctp"))),
        }
    }
}

/// Which attachment: a container and an interface in it.
#[derive(Deserialize, Serialize, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AttachmentId {
    /// The container.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface inside.
    pub ifname: String,
}

impl Common {
    /// Reads the common part out of a whole configuration.
    pub fn read(bytes: &[u8]) -> Result<Common, CniError> {
        serde_json::from_slice(bytes).explain(Code::Decode, || "decode the network configuration".into())
    }

    /// The version that the result must have.
    pub fn version(&self) -> Result<Version, CniError> {
        Version::parse(&self.cni_version)
    }

    /// What the plugins before this one made.
    pub fn prev_result(&self) -> Result<Option<AddResult>, CniError> {
        self.prev_result.as_ref().map(AddResult::from_json).transpose()
    }

    /// Name servers: the runtime's, else the configuration's, else those that came with the addresses.
    pub fn dns_or(&self, given: &Dns) -> Dns {
        let asked = &self.runtime_config.dns;
        if !asked.servers.is_empty() || !asked.searches.is_empty() || !asked.options.is_empty() {
            return Dns {
                nameservers: asked.servers.clone(),
                search: asked.searches.clone(),
                options: asked.options.clone(),
                ..Dns::default()
            };
        }
        if self.dns.is_empty() { given.clone() } else { self.dns.clone() }
    }

    /// Attachments that GC must leave alone; both spellings of the key are in use.
    pub fn valid_attachments(&self) -> Result<&[AttachmentId], CniError> {
        self.valid_attachments.as_deref().or(self.attachments.as_deref()).ok_or_else(|| {
            CniError::new(
                Code::InvalidConfig,
                "GC needs the key cni.dev/valid-attachments in the configuration",
            )
        })
    }

    /// Refuses a network without a name, or with one that cannot be the name of a folder.
    pub fn validate_name(&self) -> Result<(), CniError> {
        let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if self.name.starts_with(|c: char| c.is_ascii_alphanumeric()) && self.name.chars().all(rest) {
            return Ok(());
        }
        Err(CniError::new(Code::InvalidConfig, format!("network name {:?} is not valid", self.name))
            .details("it starts with a letter or digit, followed by letters, digits, '_', '.' or '-'"))
    }
}

impl RuntimeConfig {
    /// The addresses asked for, without their prefix lengths.
    pub fn requested_ips(&self) -> Result<Vec<IpAddr>, CniError> {
        self.ips.iter().map(|text| parse_ip(text)).collect()
    }
}

/// An address that may carry a prefix length.
pub(crate) fn parse_ip(text: &str) -> Result<IpAddr, CniError> {
    let bare = text.split_once('/').map_or(text, |it| it.0);
    bare.trim().parse().explain(Code::InvalidConfig, || format!("{text:?} is not an IP address"))
}

/// Other programs write `null` for an absent list or object.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
