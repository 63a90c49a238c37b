//! Readiness and availability of pods, and which of them go first when there are too many.

use crate::views::{Pod, find_condition};
use jiff::Timestamp;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

/// Whether it runs or may still run, and nobody has asked for its end.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !pod.metadata.is_terminating()
}

/// Whether all its containers have ended for good.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    pod.status.phase == "Succeeded" || pod.status.phase == "Failed"
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    find_condition(&pod.status.conditions, "Ready").is_some_and(|condition| condition.status == "True")
}

/// When it became ready, if it is.
fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = find_condition(&pod.status.conditions, "Ready")?;
    if ready.status == "True" { ready.last_transition_time } else { None }
}

/// Seconds until a ready pod counts as available: 0 when it does; `None` when it is not ready.
pub(crate) fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<i64> {
    if !is_ready(pod) {
        return None;
    }
    if min_ready_seconds == 0 {
        return Some(0);
    }
    let since = ready_since(pod)?;
    Some((since.as_second() + i64::from(min_ready_seconds) - now.as_second()).max(0))
}

/// The `count` pods that are missed least, in order. `related` are all active pods of the same workload.
pub(crate) fn least_missed(
    pods: &[Arc<Pod>],
    related: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let mut per_node: HashMap<&str, usize> = HashMap::new();
    for pod in related {
        *per_node.entry(pod.spec.node_name.as_str()).or_default() += 1;
    }
    let rank = |pod: &Pod| per_node.get(pod.spec.node_name.as_str()).copied().unwrap_or(0);
    let mut sorted = pods.to_vec();
    sorted.sort_by(|a, b| compare(a, b, rank(a), rank(b), now));
    sorted.truncate(count);
    sorted
}

/// Less: deleted earlier. The order of criteria is upstream's.
fn compare(a: &Pod, b: &Pod, rank_a: usize, rank_b: usize, now: Timestamp) -> Ordering {
    let assigned = |pod: &Pod| !pod.spec.node_name.is_empty();
    let phase = |pod: &Pod| match pod.status.phase.as_str() {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let restarts =
        |pod: &Pod| pod.status.container_statuses.iter().map(|it| it.restart_count).max().unwrap_or(0);
    let created = |pod: &Pod| pod.metadata.creation_timestamp;
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| phase(a).cmp(&phase(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        // Where more of the same run on one node, one of those goes.
        .then_with(|| rank_b.cmp(&rank_a))
        .then_with(|| newer_first(ready_since(a), ready_since(b), now))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| newer_first(created(a), created(b), now))
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

/// The younger first, where ages of the same power of two are equal: of pods started together, any may go.
fn newer_first(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(a), Some(b)) => {
            let bucket = |at: Timestamp| {
                let age = (now.as_second() - at.as_second()).max(0);
                if age == 0 { -1 } else { i64::from(age.ilog2()) }
            };
            bucket(a).cmp(&bucket(b))
        }
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    let cost = pod.metadata.annotation("controller.kubernetes.io/pod-deletion-cost");
    cost.and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: &str = "2026-01-01T01:00:00Z";

    /// `name:key=value,...` with the keys node, phase, ready (minute), cost, restarts, created (minute).
    fn pod(text: &str) -> Arc<Pod> {
        let (name, rest) = text.split_once(':').unwrap();
        let mut pod = json!({"metadata": {"name": name, "uid": name}, "spec": {"nodeName": "n"},
            "status": {"phase": "Running", "conditions": [], "containerStatuses": [{"restartCount": 0}]}});
        pod["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        for pair in rest.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap();
            let at = || format!("2026-01-01T00:{value}:00Z");
            match key {
                "node" => pod["spec"]["nodeName"] = value.into(),
                "phase" => pod["status"]["phase"] = value.into(),
                "ready" => {
                    pod["status"]["conditions"] =
                        json!([{"type": "Ready", "status": "True", "lastTransitionTime": at()}]);
                }
                "cost" => {
                    pod["metadata"]["annotations"] =
                        json!({"controller.kubernetes.io/pod-deletion-cost": value});
                }
                "restarts" => {
                    pod["status"]["containerStatuses"][0]["restartCount"] =
                        value.parse::<i32>().unwrap().into();
                }
                "created" => pod["metadata"]["creationTimestamp"] = at().into(),
                _ => panic!("{key}"),
            }
        }
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn check(pods: &str, want: &str) {
        let pods: Vec<_> = pods.split_whitespace().map(pod).collect();
        let now = NOW.parse().unwrap();
        let got = least_missed(&pods, &pods, pods.len(), now);
        let got: Vec<_> = got.iter().map(|pod| pod.metadata.name.as_str()).collect();
        assert_eq!(got.join(" "), want);
    }

    #[test]
    fn deletion_order() {
        check("a: b:node=", "b a");
        check("a:phase=Running b:phase=Unknown c:phase=Pending", "c b a");
        check("a:ready=10 b:", "b a");
        check("a:ready=10,cost=5 b:ready=10,cost=-1", "b a");
        check("a:ready=10,node=x b:ready=10,node=y c:ready=10,node=y", "b c a");
        check("a:ready=10 b:ready=59", "b a");
        check("b:ready=10 a:ready=11", "a b");
        check("a:ready=10,restarts=1 b:ready=10,restarts=4", "b a");
        check("a:ready=10,created=01 b:ready=10,created=58", "b a");
    }

    #[test]
    fn availability() {
        let now = NOW.parse().unwrap();
        assert_eq!(available_in(&pod("a:"), 0, now), None);
        assert_eq!(available_in(&pod("a:ready=59"), 0, now), Some(0));
        assert_eq!(available_in(&pod("a:ready=59"), 90, now), Some(30));
        assert_eq!(available_in(&pod("a:ready=50"), 90, now), Some(0));
    }
}
