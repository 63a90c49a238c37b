//! What nodes must know of the cluster: written by the server into a ConfigMap that nodes may read, remembered by each.

use std::net::IpAddr;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde::{Deserialize, Serialize};

use super::{Membership, read, write};

/// The ConfigMap's namespace.
pub const NAMESPACE: &str = "kube-system";
/// Its name.
pub const NAME: &str = "coracle-cluster";
/// Its key.
pub const KEY: &str = "cluster.json";

/// The cluster, as its nodes see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFacts {
    /// The domain of its names.
    pub cluster_domain: String,
    /// Where cluster DNS answers.
    pub cluster_dns: Vec<IpAddr>,
    /// Addresses of pods.
    pub pod_cidrs: Vec<String>,
    /// Addresses of Services.
    pub service_cidrs: Vec<String>,
}

/// Asks the server, and remembers what it says.
pub async fn fetch(client: &Client, member: &Membership) -> Result<ClusterFacts> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let map = maps.get(NAME).await.with_context(|| format!("read configmap {NAMESPACE}/{NAME}"))?;
    let text = map.data.and_then(|mut it| it.remove(KEY)).unwrap_or_default();
    let facts: ClusterFacts =
        serde_json::from_str(&text).with_context(|| format!("read {KEY} in configmap {NAMESPACE}/{NAME}"))?;
    write(&member.facts(), text.as_bytes())?;
    Ok(facts)
}

/// What the server said the last time.
pub fn remembered(member: &Membership) -> Option<ClusterFacts> {
    serde_json::from_slice(&read(&member.facts()).ok()?).ok()
}
