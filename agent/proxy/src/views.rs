//! The fields of Services and EndpointSlices that are read.

use coracle_client::views::Meta;
use serde::{Deserialize, Deserializer};
use std::net::IpAddr;

pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
const HEADLESS: &str = "service.kubernetes.io/headless";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    pub(crate) metadata: Meta,
    pub(crate) spec: ServiceSpec,
    pub(crate) status: ServiceStatus,
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
    #[serde(rename = "externalIPs", deserialize_with = "null_is_default")]
    pub(crate) external_ips: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) ports: Vec<ServicePort>,
    pub(crate) session_affinity: String,
    pub(crate) session_affinity_config: Option<AffinityConfig>,
    pub(crate) external_traffic_policy: String,
    pub(crate) internal_traffic_policy: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) load_balancer_source_ranges: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServicePort {
    pub(crate) name: String,
    pub(crate) protocol: String,
    pub(crate) port: u16,
    pub(crate) node_port: u16,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AffinityConfig {
    #[serde(rename = "clientIP")]
    pub(crate) client_ip: Option<ClientIp>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClientIp {
    pub(crate) timeout_seconds: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceStatus {
    pub(crate) load_balancer: LoadBalancer,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LoadBalancer {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) ingress: Vec<Ingress>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Ingress {
    pub(crate) ip: String,
    pub(crate) ip_mode: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Slice {
    pub(crate) metadata: Meta,
    pub(crate) address_type: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) endpoints: Vec<SliceEndpoint>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) ports: Vec<SlicePort>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SliceEndpoint {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) addresses: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) conditions: Conditions,
    pub(crate) node_name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Conditions {
    pub(crate) ready: Option<bool>,
    pub(crate) serving: Option<bool>,
    pub(crate) terminating: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SlicePort {
    pub(crate) name: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) port: Option<u16>,
}

coracle_client::slim_view!(Service, Slice);

impl Service {
    /// Keeps what rules need, and nothing else.
    pub(crate) fn shrink(&mut self) {
        shrink(&mut self.metadata);
        self.metadata.labels.retain(|key, _| key == OTHER_PROXY || key == HEADLESS);
    }

    /// True for a service whose cluster IPs this proxy answers.
    pub(crate) fn is_proxied(&self) -> bool {
        let ours = self.metadata.label(OTHER_PROXY).is_none() && self.metadata.label(HEADLESS).is_none();
        ours && self.spec.kind != "ExternalName" && !matches!(self.spec.cluster_ip.as_str(), "" | "None")
    }

    pub(crate) fn cluster_ips(&self) -> Vec<IpAddr> {
        let many = self.spec.cluster_ips.iter();
        let one = Some(&self.spec.cluster_ip).filter(|_| self.spec.cluster_ips.is_empty());
        many.chain(one).filter_map(|ip| ip.parse().ok()).collect()
    }
}

impl Slice {
    /// Keeps what rules need, and nothing else.
    pub(crate) fn shrink(&mut self) {
        shrink(&mut self.metadata);
        self.metadata.labels.retain(|key, _| key == SERVICE_NAME || key == HEADLESS);
    }

    /// The service that this slice is of.
    pub(crate) fn service(&self) -> Option<&str> {
        self.metadata.label(SERVICE_NAME).filter(|_| self.metadata.label(HEADLESS).is_none())
    }
}

fn shrink(meta: &mut Meta) {
    meta.annotations.clear();
    meta.owner_references = Vec::new();
    meta.finalizers = Vec::new();
    meta.uid = String::new();
}

/// Other servers write `null` for an empty list.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
