//! `/stats/summary` and `/metrics/resource`: read when asked for, never polled.
//!
//! Kept between two readings is only each one's processor time, so that the second can tell a rate.

mod cadvisor; // Prometheus text under cAdvisor's names
mod metrics; // Prometheus text
mod sample; // one reading of everything
mod summary; // the JSON of /stats/summary

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use coracle_cri::RuntimeHandle;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::cgroup::{CgroupError, CgroupManager};
use crate::config::KubeletConfig;
use sample::Sample;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// The runtime did not give its statistics.
    #[error("list container statistics")]
    Runtime(#[source] coracle_cri::CriError),
    /// A cgroup could not be read.
    #[error("read cgroup statistics")]
    Cgroup(#[source] CgroupError),
}

/// Reads statistics of the node and its pods.
#[derive(Clone)]
pub struct Stats {
    config: Arc<KubeletConfig>,
    runtime: RuntimeHandle,
    cgroups: Arc<CgroupManager>,
    before: Arc<Mutex<Rates>>,
}

/// Processor time at the last reading, by what it is of.
#[derive(Default)]
struct Rates {
    at: Option<Timestamp>,
    nanos: HashMap<String, u64>,
}

impl Stats {
    /// A reader; nothing is read yet.
    pub fn new(config: Arc<KubeletConfig>, runtime: RuntimeHandle, cgroups: Arc<CgroupManager>) -> Self {
        Self { config, runtime, cgroups, before: Arc::default() }
    }

    /// The body of `/stats/summary` for these pods, as JSON.
    pub async fn summary(
        &self,
        pods: &[Arc<Pod>],
        only_cpu_and_memory: bool,
    ) -> Result<serde_json::Value, StatsError> {
        let mut sample = self.sample(pods).await?;
        self.add_rates(&mut sample);
        let full = if only_cpu_and_memory { None } else { Some(self.file_systems().await) };
        Ok(summary::render(&self.config.node.name, &sample, full.as_ref()))
    }

    /// The body of `/metrics/resource`, Prometheus text. What cannot be read is left out and counted as an error.
    pub async fn resource_metrics(&self, pods: &[Arc<Pod>]) -> Result<String, StatsError> {
        Ok(metrics::render(&self.sample(pods).await?))
    }

    /// The body of `/metrics/cadvisor`.
    pub async fn cadvisor_metrics(&self, pods: &[Arc<Pod>]) -> Result<String, StatsError> {
        let sample = self.sample(pods).await?;
        let machine = self.cgroups.machine();
        let cgroup = |pod: &Pod| self.cgroups.path_of(pod);
        Ok(cadvisor::render(&sample, machine, cgroup, &self.cgroups.kubepods()))
    }

    fn add_rates(&self, sample: &mut Sample) {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = before.at.map(|it| sample.at.duration_since(it).as_nanos()).filter(|it| *it > 0);
        let mut nanos = HashMap::new();
        sample.for_each_usage(|name, usage| {
            let Some(now) = usage.stats.cpu_usage_nanos else { return };
            if let (Some(elapsed), Some(then)) = (elapsed, before.nanos.get(&name)) {
                let spent = u128::from(now.saturating_sub(*then)) * 1_000_000_000;
                usage.nano_cores = u64::try_from(spent / elapsed.unsigned_abs()).ok();
            }
            nanos.insert(name, now);
        });
        *before = Rates { at: Some(sample.at), nanos };
    }
}
