//! What a ReplicaSet needs, and what it says about itself: pure.

use crate::pods::{available_in, is_ready, least_missed};
use crate::views::{Condition, Pod, ReplicaSet, ReplicaSetStatus, find_condition};
use coracle_apimachinery::Selector;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// No more pods than this are created or deleted at a time.
const BURST: usize = 500;

#[derive(Debug)]
pub(super) enum Action {
    Nothing,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

/// The step that brings the number of `active` pods nearer to what is wanted. `related` are the active pods of all
/// ReplicaSets of the same owner.
pub(super) fn plan(set: &ReplicaSet, active: &[Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) -> Action {
    if set.metadata.is_terminating() {
        return Action::Nothing;
    }
    let wanted = usize::try_from(set.replicas()).unwrap_or(0);
    let have = active.len();
    if have < wanted {
        Action::Create((wanted - have).min(BURST))
    } else if have > wanted {
        Action::Delete(least_missed(active, related, (have - wanted).min(BURST), now))
    } else {
        Action::Nothing
    }
}

/// What went wrong while acting: reason and message of the ReplicaFailure condition.
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The status that follows from the pods, and when it will change by time alone.
pub(super) fn status(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    terminating: usize,
    failure: Option<&Failure>,
    now: Timestamp,
) -> (ReplicaSetStatus, Option<Duration>) {
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let template_labels =
        Selector::from_labels(set.spec.template.labels().iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let (mut available, mut wake) = (0, None);
    for seconds in active.iter().filter_map(|pod| available_in(pod, set.spec.min_ready_seconds, now)) {
        match u64::try_from(seconds) {
            Ok(later) if later > 0 => {
                let later = Duration::from_secs(later);
                wake = Some(wake.map_or(later, |it: Duration| it.min(later)));
            }
            _ => available += 1,
        }
    }
    let labelled = active.iter().filter(|pod| template_labels.matches_map(&pod.metadata.labels));
    let status = ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: count(labelled.count()),
        ready_replicas: count(active.iter().filter(|pod| is_ready(pod)).count()),
        available_replicas: available,
        terminating_replicas: Some(count(terminating)),
        observed_generation: set.metadata.generation,
        conditions: conditions(&set.status.conditions, failure, now),
    };
    (status, wake)
}

fn conditions(before: &[Condition], failure: Option<&Failure>, now: Timestamp) -> Vec<Condition> {
    const KIND: &str = "ReplicaFailure";
    let mut conditions: Vec<_> = before.iter().filter(|it| it.kind != KIND).cloned().collect();
    if let Some(failure) = failure {
        conditions.push(find_condition(before, KIND).cloned().unwrap_or_else(|| Condition {
            kind: KIND.into(),
            status: "True".into(),
            last_transition_time: Some(now),
            reason: failure.reason.into(),
            message: failure.message.clone(),
            ..Condition::default()
        }));
    }
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().unwrap()
    }

    fn set(replicas: i32, min_ready: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "s", "generation": 4},
            "spec": {"replicas": replicas, "minReadySeconds": min_ready,
                "template": {"metadata": {"labels": {"app": "x"}}}},
        }))
        .unwrap()
    }

    /// One letter per pod: `p`ending, `r`eady since 30 s, `R`eady long ago, `u`nlabelled.
    fn pods(text: &str) -> Vec<Arc<Pod>> {
        let pod = |(index, letter): (usize, char)| {
            let ready = match letter {
                'r' => Some("2026-01-01T00:00:30Z"),
                'R' => Some("2025-01-01T00:00:00Z"),
                _ => None,
            };
            let conditions =
                ready.map(|at| json!([{"type": "Ready", "status": "True", "lastTransitionTime": at}]));
            Arc::new(
                serde_json::from_value(json!({
                    "metadata": {"name": format!("{letter}{index}"),
                        "labels": if letter == 'u' { json!({}) } else { json!({"app": "x"}) }},
                    "spec": {"nodeName": "n"},
                    "status": {"phase": "Running", "conditions": conditions.unwrap_or(json!([]))},
                }))
                .unwrap(),
            )
        };
        text.chars().enumerate().map(pod).collect()
    }

    #[test]
    fn steps() {
        let check = |replicas: i32, have: &str, want: &str| {
            let pods = pods(have);
            let got = match plan(&set(replicas, 0), &pods, &pods, now()) {
                Action::Nothing => String::new(),
                Action::Create(count) => format!("create {count}"),
                Action::Delete(pods) => {
                    let names: Vec<_> = pods.iter().map(|pod| pod.metadata.name.as_str()).collect();
                    format!("delete {}", names.join(" "))
                }
            };
            assert_eq!(got, want, "{replicas} wanted, have {have}");
        };
        check(0, "", "");
        check(3, "p", "create 2");
        check(900, "", "create 500");
        check(2, "Rr", "");
        check(1, "RpR", "delete p1 R0");
        check(0, "r", "delete r0");
    }

    #[test]
    fn counters() {
        let check = |min_ready: i32, have: &str, want: (i32, i32, i32, i32), wake: Option<u64>| {
            let (status, got_wake) = status(&set(9, min_ready), &pods(have), 0, None, now());
            let got = (
                status.replicas,
                status.fully_labeled_replicas,
                status.ready_replicas,
                status.available_replicas,
            );
            assert_eq!((got, got_wake.map(|it| it.as_secs())), (want, wake), "{have}");
            assert_eq!(status.observed_generation, 4);
        };
        check(0, "", (0, 0, 0, 0), None);
        check(0, "prRu", (4, 3, 2, 2), None);
        check(40, "prR", (3, 3, 2, 1), Some(10));
        check(30, "r", (1, 1, 1, 1), None);
    }

    #[test]
    fn a_failure_is_a_condition_until_it_passes() {
        let failure = Failure { reason: "FailedCreate", message: "quota".into() };
        let (with, _) = status(&set(1, 0), &[], 0, Some(&failure), now());
        assert_eq!(
            (with.conditions[0].kind.as_str(), with.conditions[0].message.as_str()),
            ("ReplicaFailure", "quota")
        );
        let mut after = set(1, 0);
        after.status = with;
        let (without, _) = status(&after, &[], 0, None, now());
        assert!(without.conditions.is_empty());
    }
}
