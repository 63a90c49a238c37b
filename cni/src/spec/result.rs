//! What ADD returns, in the shape of the newest version; [`super::legacy`] writes the older ones.

use super::conf::null_is_default;
use super::error::{CniError, Code, Explain};
use super::legacy;
use super::version::Version;
use crate::address::Cidr;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::IpAddr;

/// The state of an attachment after ADD.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(default)]
pub struct AddResult {
    /// Links that were made, on the host and inside.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub interfaces: Vec<Interface>,
    /// Addresses that were given.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub ips: Vec<IpConfig>,
    /// Routes inside the container.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub routes: Vec<Route>,
    /// Name servers for the container.
    #[serde(deserialize_with = "null_is_default")]
    pub dns: Dns,
}

/// One link.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its maximum packet size.
    #[serde(skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// The namespace it is in; empty for the host's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// A socket file that belongs to it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// The PCI device behind it.
    #[serde(rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

/// One address.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct IpConfig {
    /// Which of the result's interfaces has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// The address with its network's prefix length.
    pub address: Cidr,
    /// The way out of that network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// One route.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Where to.
    pub dst: Cidr,
    /// Through which router; the address's own gateway when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// The path's maximum packet size.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// The segment size to announce to TCP peers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub advmss: u32,
    /// The smaller, the more it is preferred.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u32,
    /// The routing table it goes into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The kernel's scope number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route with nothing but its destination and router.
    pub fn new(dst: Cidr, gw: Option<IpAddr>) -> Route {
        Route { dst, gw, mtu: 0, advmss: 0, priority: 0, table: None, scope: None }
    }

    /// True for the route to everywhere.
    pub fn is_default(&self) -> bool {
        self.dst.prefix() == 0
    }
}

/// Name servers and how to ask them.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(default)]
pub struct Dns {
    /// Addresses of the servers.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Domains to search for short names.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub options: Vec<String>,
}

impl Dns {
    /// True when it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}

impl AddResult {
    /// Reads a result of any version that we speak.
    pub fn from_json(value: &Value) -> Result<AddResult, CniError> {
        let version = Version::parse(value.get("cniVersion").and_then(Value::as_str).unwrap_or(""))?;
        if version < Version::V0_3_0 {
            return legacy::read(value);
        }
        AddResult::deserialize(value)
            .explain(Code::Decode, || "decode the result of the plugin before".into())
    }

    /// Writes the result as `version` has it.
    pub fn to_json(&self, version: Version) -> Value {
        legacy::write(self, version)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
