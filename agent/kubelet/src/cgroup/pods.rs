//! What a pod's cgroup, a class's and the whole of kubepods are limited to: pure.

use k8s_openapi::api::core::v1::Pod;

use super::Limits;
use crate::config::{KubeletConfig, ResourceSettings};
use crate::node::Machine;
use crate::resources::{
    MIN_SHARES, QosClass, all_containers, container_limits, pod_limits, pod_requests, qos_class, quota,
    shares,
};

/// The limits of a pod's cgroup.
pub(super) fn pod_values(pod: &Pod, settings: &ResourceSettings) -> Limits {
    let limits = pod_limits(pod);
    let own = pod.spec.as_ref().and_then(|it| it.resources.as_ref()).and_then(|it| it.limits.as_ref());
    // The sum is a limit only when every container has one.
    let all_limit = |name: &str| {
        own.is_some_and(|it| it.contains_key(name))
            || all_containers(pod).all(|it| container_limits(it).get(name).is_some_and(|it| it > 0))
    };
    let class = qos_class(pod);
    let mut values = Limits { pids: settings.pod_pids_limit, ..Limits::default() };
    values.shares = match class {
        QosClass::BestEffort => Some(MIN_SHARES),
        QosClass::Guaranteed | QosClass::Burstable => Some(shares(pod_requests(pod).cpu_milli())),
    };
    if class == QosClass::BestEffort {
        return values;
    }
    if settings.cpu_quota && all_limit("cpu") {
        let period = i64::try_from(settings.cpu_quota_period.as_micros()).unwrap_or(100_000);
        values.period = Some(period);
        values.quota = Some(quota(limits.cpu_milli(), period));
    }
    if all_limit("memory") {
        values.memory = Some(limits.memory());
    }
    values
}

/// The limits of kubepods: the machine less what is reserved; nothing when `pods` are not held to allocatable.
pub(super) fn root_values(config: &KubeletConfig, machine: &Machine) -> Limits {
    let settings = &config.resources;
    let (kube, system) = (&settings.kube_reserved, &settings.system_reserved);
    let cpu = (machine.cpu_milli - kube.cpu_milli - system.cpu_milli).max(0);
    let mut values = Limits { shares: Some(shares(cpu)), ..Limits::default() };
    if settings.enforce.iter().any(|it| it == "pods") {
        values.memory = Some((machine.memory - kube.memory - system.memory).max(0));
        if kube.pids + system.pids > 0 {
            values.pids = Some((machine.pids - kube.pids - system.pids).max(0));
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(containers: &str, want: Limits) {
        let pod: Pod = serde_json::from_str(&format!(r#"{{"spec":{{"containers":{containers}}}}}"#)).unwrap();
        let settings = ResourceSettings {
            cpu_quota: true,
            cpu_quota_period: std::time::Duration::from_millis(100),
            ..ResourceSettings::default()
        };
        assert_eq!(pod_values(&pod, &settings), want, "{containers}");
    }

    #[test]
    fn a_pods_cgroup_has_the_sum_of_its_containers() {
        check(r#"[{"name":"a"}]"#, Limits { shares: Some(2), ..Limits::default() });
        check(
            r#"[{"name":"a","resources":{"limits":{"cpu":"500m","memory":"64Mi"}}}]"#,
            Limits {
                shares: Some(512),
                quota: Some(50_000),
                period: Some(100_000),
                memory: Some(64 << 20),
                pids: None,
            },
        );
        check(
            r#"[{"name":"a","resources":{"limits":{"cpu":"1","memory":"64Mi"}}},{"name":"b","resources":{"limits":{"cpu":"1"}}}]"#,
            Limits { shares: Some(2048), quota: Some(200_000), period: Some(100_000), ..Limits::default() },
        );
        check(
            r#"[{"name":"a","resources":{"requests":{"cpu":"100m"}}}]"#,
            Limits { shares: Some(102), ..Limits::default() },
        );
    }
}
