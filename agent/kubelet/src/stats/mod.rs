//! `/stats/summary` and `/metrics/resource`: read when asked for, never kept.

use std::sync::Arc;

use coracle_cri::RuntimeHandle;
use k8s_openapi::api::core::v1::Pod;

use crate::cgroup::CgroupManager;
use crate::config::KubeletConfig;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// The runtime did not give its statistics.
    #[error("list container statistics")]
    Runtime(#[source] coracle_cri::CriError),
    /// A part that is not there yet.
    #[error("{0} is not supported by this kubelet")]
    NotYet(&'static str),
}

/// Reads statistics of the node and its pods.
#[derive(Clone)]
pub struct Stats {
    /// The configuration.
    pub config: Arc<KubeletConfig>,
    /// Containers' figures.
    pub runtime: RuntimeHandle,
    /// Pods' and the node's figures.
    pub cgroups: Arc<CgroupManager>,
}

impl Stats {
    /// The body of `/stats/summary` for these pods, as JSON.
    pub async fn summary(
        &self,
        pods: &[Arc<Pod>],
        only_cpu_and_memory: bool,
    ) -> Result<serde_json::Value, StatsError> {
        let _ = (pods, only_cpu_and_memory);
        Err(StatsError::NotYet("/stats/summary"))
    }

    /// The body of `/metrics/resource`, Prometheus text.
    pub async fn resource_metrics(&self, pods: &[Arc<Pod>]) -> Result<String, StatsError> {
        let _ = pods;
        Err(StatsError::NotYet("/metrics/resource"))
    }
}
