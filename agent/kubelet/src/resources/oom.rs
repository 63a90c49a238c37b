//! oom_score_adj: who goes first when memory runs out.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{QosClass, container_requests, is_sidecar, qos_class};

/// Guaranteed and node-critical pods.
const GUARANTEED: i64 = -997;
/// Pods that asked for nothing.
const BEST_EFFORT: i64 = 1000;
/// The priority from which a pod is critical to its node (`system-node-critical`).
const NODE_CRITICAL: i32 = 2_000_001_000;

/// The container's score: the less of the machine's memory it asked for, the higher.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    if pod.spec.as_ref().and_then(|it| it.priority).is_some_and(|it| it >= NODE_CRITICAL) {
        return GUARANTEED;
    }
    match qos_class(pod) {
        QosClass::Guaranteed => return GUARANTEED,
        QosClass::BestEffort => return BEST_EFFORT,
        QosClass::Burstable => {}
    }
    let own = burstable(container_requests(container).memory(), memory_capacity);
    if !is_sidecar(container) {
        return own;
    }
    // A sidecar outlives the containers that it serves.
    let served = pod.spec.iter().flat_map(|it| &it.containers);
    served
        .map(|it| burstable(container_requests(it).memory(), memory_capacity))
        .min()
        .map_or(own, |it| own.min(it))
}

fn burstable(request: i64, capacity: i64) -> i64 {
    if capacity <= 0 {
        return BEST_EFFORT - 1;
    }
    let part = i64::try_from(i128::from(request) * 1000 / i128::from(capacity)).unwrap_or(1000);
    // Never as safe as guaranteed, never as exposed as best effort.
    (1000 - part).clamp(BEST_EFFORT + GUARANTEED, BEST_EFFORT - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &str, container: usize, want: i64) {
        let pod: Pod = serde_json::from_str(&format!(r#"{{"spec":{spec}}}"#)).unwrap();
        let spec = pod.spec.as_ref().unwrap();
        let all: Vec<_> = spec.init_containers.iter().flatten().chain(&spec.containers).collect();
        assert_eq!(oom_score_adj(&pod, all[container], 4 << 30), want, "{pod:?}");
    }

    #[test]
    fn the_score_falls_with_the_part_of_memory_asked_for() {
        check(r#"{"containers":[{"name":"a"}]}"#, 0, 1000);
        check(r#"{"priority":2000001000,"containers":[{"name":"a"}]}"#, 0, -997);
        check(r#"{"containers":[{"name":"a","resources":{"limits":{"cpu":"1","memory":"1Gi"}}}]}"#, 0, -997);
        check(r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}]}"#, 0, 999);
        check(r#"{"containers":[{"name":"a","resources":{"requests":{"memory":"1Gi"}}}]}"#, 0, 750);
        check(r#"{"containers":[{"name":"a","resources":{"requests":{"memory":"8Gi"}}}]}"#, 0, 3);
        let sidecar = r#"{"initContainers":[{"name":"s","restartPolicy":"Always"}],
            "containers":[{"name":"a","resources":{"requests":{"memory":"1Gi"}}}]}"#;
        check(sidecar, 0, 750);
        check(sidecar, 1, 750);
    }
}
