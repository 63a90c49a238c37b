//! Requests and limits of containers and pods as numbers, and what follows from them: QoS class, shares, OOM score.

mod amounts; // a container's or pod's amounts
mod oom; // oom_score_adj
mod qos; // QoS class

pub use amounts::{Amounts, container_limits, container_requests, pod_limits, pod_requests};
pub use oom::oom_score_adj;
pub use qos::{QosClass, qos_class};

use k8s_openapi::api::core::v1::{Container, Pod};

/// The least `cpu.shares` there is.
pub const MIN_SHARES: i64 = 2;
/// The most.
pub const MAX_SHARES: i64 = 262_144;
/// The shortest quota, in microseconds, that kernels accept.
const MIN_QUOTA_MICROS: i64 = 1000;

/// `cpu.shares` for thousandths of a core: 1024 a core, within the kernel's bounds.
pub fn shares(milli: i64) -> i64 {
    if milli == 0 { MIN_SHARES } else { (milli * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES) }
}

/// The CFS quota in microseconds for thousandths of a core; 0 (no quota) when there is no limit.
pub fn quota(milli: i64, period_micros: i64) -> i64 {
    if milli == 0 { 0 } else { (milli * period_micros / 1000).max(MIN_QUOTA_MICROS) }
}

/// `cpu.weight` for `cpu.shares`: the curve that keeps both least, both default and both greatest values on each other.
pub fn weight(shares: i64) -> u64 {
    if shares <= MIN_SHARES {
        return 1;
    }
    if shares >= MAX_SHARES {
        return 10_000;
    }
    #[expect(clippy::cast_precision_loss, reason = "shares are below 2^18")]
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 10000")]
    let weight = 10f64.powf(exponent).ceil() as u64;
    weight.clamp(1, 10_000)
}

/// Whether an init container keeps running beside the app containers.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// All containers that have resources of their own: init first, then app.
pub(crate) fn all_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|it| it.init_containers.iter().flatten().chain(&it.containers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_quota_and_weight_follow_the_kernels_bounds() {
        for (milli, want) in [(0, 2), (1, 2), (100, 102), (500, 512), (1000, 1024), (1_000_000, 262_144)] {
            assert_eq!(shares(milli), want, "{milli}m");
        }
        for (milli, want) in [(0, 0), (5, 1000), (500, 50_000), (2500, 250_000)] {
            assert_eq!(quota(milli, 100_000), want, "{milli}m");
        }
        for (shares, want) in [(2, 1), (1024, 100), (262_144, 10_000), (102, 17), (512, 59)] {
            assert_eq!(weight(shares), want, "{shares} shares");
        }
    }
}
