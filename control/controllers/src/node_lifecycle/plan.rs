//! Conditions and taints of a node: pure.

use crate::views::{Node, NodeCondition, Taint};
use jiff::Timestamp;
use std::time::Duration;

/// How long a node may be silent before its state is Unknown.
pub(super) const GRACE: Duration = Duration::from_secs(50);

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that mean trouble when True, and their taints.
const TROUBLES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

fn find<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.conditions.iter().find(|condition| condition.kind == kind)
}

/// `True`, `False`, `Unknown`, or empty for a node that has not said.
pub(super) fn ready_status(node: &Node) -> &str {
    find(node, "Ready").map_or("", |condition| condition.status.as_str())
}

/// Whether the difference is one that only the node itself makes.
pub(super) fn spoke(old: &Node, new: &Node) -> bool {
    let heartbeat = |node: &Node| find(node, "Ready").and_then(|condition| condition.last_heartbeat_time);
    heartbeat(old) != heartbeat(new)
}

/// The conditions of a node that fell silent; `None` when they say so already.
pub(super) fn silenced(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let unknown = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"].into_iter().filter_map(|kind| {
        let before = find(node, kind);
        if before.is_some_and(|condition| condition.status == "Unknown") {
            return None;
        }
        let (reason, message) = match before {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        Some(NodeCondition {
            kind: kind.to_owned(),
            status: "Unknown".to_owned(),
            last_heartbeat_time: before.map_or(node.metadata.creation_timestamp, |it| it.last_heartbeat_time),
            last_transition_time: Some(now),
            reason: reason.to_owned(),
            message: message.to_owned(),
        })
    });
    let unknown: Vec<_> = unknown.collect();
    (!unknown.is_empty()).then_some(unknown)
}

/// The taints the node should have; `None` when it has them. Taints of others stay.
pub(super) fn taints(node: &Node, all_silent: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let mut wanted = Vec::new();
    let mut want = |key: &'static str, effect: &'static str| wanted.push((key, effect));
    match ready_status(node) {
        "True" => {}
        "Unknown" => want(UNREACHABLE, "NoSchedule"),
        // A node that has not said anything yet is not ready.
        _ => want(NOT_READY, "NoSchedule"),
    }
    if !all_silent {
        match ready_status(node) {
            "False" => want(NOT_READY, "NoExecute"),
            "Unknown" => want(UNREACHABLE, "NoExecute"),
            _ => {}
        }
    }
    for (condition, key) in TROUBLES {
        if find(node, condition).is_some_and(|it| it.status == "True") {
            want(key, "NoSchedule");
        }
    }
    if node.spec.unschedulable {
        want(UNSCHEDULABLE, "NoSchedule");
    }
    let ours = |taint: &Taint| match taint.effect.as_str() {
        "NoSchedule" => {
            [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
                || TROUBLES.iter().any(|(_, key)| taint.key == *key)
        }
        "NoExecute" => [NOT_READY, UNREACHABLE].contains(&taint.key.as_str()),
        _ => false,
    };
    let same = |taint: &Taint, (key, effect): &(&str, &str)| taint.key == *key && taint.effect == *effect;
    let keeps = |taint: &&Taint| !ours(taint) || wanted.iter().any(|it| same(taint, it));
    let mut next: Vec<_> = node.spec.taints.iter().filter(keeps).cloned().collect();
    for it in &wanted {
        if !next.iter().any(|taint| same(taint, it)) {
            let (key, effect) = (it.0.to_owned(), it.1.to_owned());
            next.push(Taint { key, effect, value: String::new(), time_added: Some(now) });
        }
    }
    (next != node.spec.taints).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    /// Conditions as `Ready=True`, taints as `key:effect`, and `cordoned`.
    fn node(text: &str) -> Node {
        let (mut conditions, mut taints, mut cordoned) = (vec![], vec![], false);
        for word in text.split_whitespace() {
            if let Some((kind, status)) = word.split_once('=') {
                conditions.push(json!({"type": kind, "status": status}));
            } else if let Some((key, effect)) = word.split_once(':') {
                let prefix = if key == "mine" { "" } else { "node.kubernetes.io/" };
                taints.push(json!({"key": format!("{prefix}{key}"), "effect": effect}));
            } else {
                cordoned = word == "cordoned";
            }
        }
        serde_json::from_value(json!({"metadata": {"name": "n"}, "status": {"conditions": conditions},
            "spec": {"taints": taints, "unschedulable": cordoned}}))
        .unwrap()
    }

    fn check(text: &str, all_silent: bool, want: &str) {
        let got = taints(&node(text), all_silent, now()).map(|taints| {
            let text =
                |it: &Taint| format!("{}:{}", it.key.trim_start_matches("node.kubernetes.io/"), it.effect);
            taints.iter().map(text).collect::<Vec<_>>().join(" ")
        });
        assert_eq!(got.as_deref().unwrap_or("same"), want, "{text}");
    }

    #[test]
    fn taints_follow_conditions() {
        check("Ready=True", false, "same");
        check("Ready=True not-ready:NoSchedule mine:NoSchedule", false, "mine:NoSchedule");
        check("Ready=False", false, "not-ready:NoSchedule not-ready:NoExecute");
        check("Ready=False", true, "not-ready:NoSchedule");
        check("Ready=Unknown not-ready:NoExecute", false, "unreachable:NoSchedule unreachable:NoExecute");
        check("Ready=Unknown unreachable:NoSchedule unreachable:NoExecute", false, "same");
        check("Ready=Unknown unreachable:NoSchedule unreachable:NoExecute", true, "unreachable:NoSchedule");
        check("Ready=True DiskPressure=True MemoryPressure=False", false, "disk-pressure:NoSchedule");
        check("Ready=True cordoned", false, "unschedulable:NoSchedule");
        check("Ready=True unschedulable:NoSchedule", false, "");
        check("", false, "not-ready:NoSchedule");
        check("not-ready:NoSchedule", false, "same");
    }

    #[test]
    fn silence_makes_conditions_unknown_once() {
        let text = |conditions: Option<Vec<NodeCondition>>| {
            let conditions = conditions.unwrap_or_default();
            conditions.iter().map(|it| format!("{} {}", it.kind, it.reason)).collect::<Vec<_>>().join(", ")
        };
        let all = "Ready=True MemoryPressure=False DiskPressure=Unknown PIDPressure=False";
        let want = "Ready NodeStatusUnknown, MemoryPressure NodeStatusUnknown, PIDPressure NodeStatusUnknown";
        assert_eq!(text(silenced(&node(all), now())), want);
        assert!(text(silenced(&node(""), now())).starts_with("Ready NodeStatusNeverUpdated, "));
        let unknown = "Ready=Unknown MemoryPressure=Unknown DiskPressure=Unknown PIDPressure=Unknown";
        assert!(silenced(&node(unknown), now()).is_none());
    }
}
