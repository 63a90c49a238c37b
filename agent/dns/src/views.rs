//! The fields of Services and EndpointSlices that are read.

use coracle_client::views::Meta;
use serde::{Deserialize, Deserializer};
use std::net::IpAddr;

const SERVICE_NAME: &str = "kubernetes.io/service-name";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    pub(crate) metadata: Meta,
    pub(crate) spec: ServiceSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceSpec {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(rename = "clusterIP")]
    pub(crate) cluster_ip: String,
    #[serde(rename = "clusterIPs", deserialize_with = "null_is_default")]
    pub(crate) cluster_ips: Vec<String>,
    pub(crate) external_name: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) ports: Vec<Port>,
    pub(crate) publish_not_ready_addresses: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Port {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) name: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) protocol: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) port: u16,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Slice {
    pub(crate) metadata: Meta,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) endpoints: Vec<Endpoint>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) ports: Vec<Port>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoint {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) addresses: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) conditions: Conditions,
    pub(crate) hostname: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Conditions {
    pub(crate) ready: Option<bool>,
}

coracle_client::slim_view!(Service, Slice);

impl Service {
    /// Keeps what names need, and nothing else.
    pub(crate) fn shrink(&mut self) {
        shrink(&mut self.metadata);
        self.metadata.labels.clear();
    }

    pub(crate) fn is_headless(&self) -> bool {
        self.spec.cluster_ip == "None"
    }

    pub(crate) fn is_external(&self) -> bool {
        self.spec.kind == "ExternalName"
    }

    /// Its cluster IPs; none for a headless one.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let one = Some(&self.spec.cluster_ip).filter(|_| self.spec.cluster_ips.is_empty());
        self.spec.cluster_ips.iter().chain(one).filter_map(|ip| ip.parse().ok())
    }
}

impl Slice {
    /// Keeps what names need, and nothing else.
    pub(crate) fn shrink(&mut self) {
        shrink(&mut self.metadata);
        self.metadata.labels.retain(|key, _| key == SERVICE_NAME);
    }

    /// The service that this slice is of.
    pub(crate) fn service(&self) -> Option<&str> {
        self.metadata.label(SERVICE_NAME)
    }
}

impl Endpoint {
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.addresses.first()?.parse().ok()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.conditions.ready.unwrap_or(true)
    }

    /// The name below the service's own: its hostname, or its address with dashes.
    pub(crate) fn label(&self) -> Option<String> {
        let given = self.hostname.clone().filter(|name| !name.is_empty());
        given.or_else(|| Some(dashed(self.address()?)))
    }
}

/// An address as one label.
pub(crate) fn dashed(addr: IpAddr) -> String {
    addr.to_string().replace(['.', ':'], "-")
}

fn shrink(meta: &mut Meta) {
    meta.annotations.clear();
    meta.owner_references = Vec::new();
    meta.finalizers = Vec::new();
    meta.uid = String::new();
}

/// Other servers write `null` for an empty field.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
