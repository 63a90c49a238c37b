//! Service, EndpointSlice and Endpoints, as far as they are read and written.

use crate::views::IntOrString;
use coracle_client::slim_view;
use coracle_client::views::Meta;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Service {
    pub(super) metadata: Meta,
    pub(super) spec: ServiceSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServiceSpec {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(rename = "clusterIP")]
    pub(super) cluster_ip: String,
    pub(super) selector: BTreeMap<String, String>,
    pub(super) ports: Vec<ServicePort>,
    pub(super) ip_families: Vec<String>,
    pub(super) publish_not_ready_addresses: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServicePort {
    pub(super) name: String,
    pub(super) protocol: String,
    pub(super) port: i32,
    pub(super) target_port: Option<IntOrString>,
    pub(super) app_protocol: Option<String>,
}

impl Service {
    pub(super) fn is_headless(&self) -> bool {
        self.spec.cluster_ip == "None"
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Slice {
    pub(super) metadata: Meta,
    pub(super) address_type: String,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) ports: Vec<Port>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Endpoint {
    pub(super) addresses: Vec<String>,
    pub(super) conditions: Conditions,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target_ref: Option<TargetRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) zone: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Conditions {
    pub(super) ready: bool,
    pub(super) serving: bool,
    pub(super) terminating: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct TargetRef {
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) protocol: String,
    pub(super) port: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) app_protocol: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Endpoints {
    pub(super) metadata: Meta,
    pub(super) subsets: Vec<Subset>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Subset {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) addresses: Vec<Address>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) not_ready_addresses: Vec<Address>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ports: Vec<LegacyPort>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Address {
    pub(super) ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target_ref: Option<TargetRef>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LegacyPort {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    pub(super) protocol: String,
    pub(super) port: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) app_protocol: Option<String>,
}

slim_view!(Service, Slice, Endpoints);
