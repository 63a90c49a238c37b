//! Counters and conditions of a Deployment: upstream's reasons and sentences.

use super::sizes::{max_unavailable, replicas};
use crate::views::{Condition, Deployment, DeploymentStatus, ReplicaSet, find_condition};
use jiff::Timestamp;
use std::time::Duration;

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const FAILURE: &str = "ReplicaFailure";
const DONE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// Whether all wanted pods are of the newest template, available, and no other is left.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = replicas(deployment);
    status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
        && status.observed_generation >= deployment.metadata.generation
}

/// Sets a condition; one with the same status and reason stays as it is.
pub(super) fn set_condition(
    conditions: &mut Vec<Condition>,
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let before = find_condition(conditions, kind);
    if before.is_some_and(|it| it.status == status && it.reason == reason) {
        return;
    }
    let same_status = before.filter(|it| it.status == status);
    let transition = same_status.map_or(Some(now), |it| it.last_transition_time);
    conditions.retain(|it| it.kind != kind);
    conditions.push(Condition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        last_update_time: Some(now),
        last_transition_time: transition,
        reason: reason.to_owned(),
        message,
    });
}

/// The status after a plan, and when the progress deadline must be looked at.
pub(super) fn next(
    deployment: &Deployment,
    sets: &[ReplicaSet],
    newest: Option<&ReplicaSet>,
    conditions: Vec<Condition>,
    rolling_out: bool,
    now: Timestamp,
) -> (DeploymentStatus, Option<Duration>) {
    let mut status = counters(deployment, sets, newest);
    status.conditions = conditions;
    let enough = status.available_replicas >= replicas(deployment) - max_unavailable(deployment);
    let (value, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set_condition(&mut status.conditions, AVAILABLE, value, reason, message.to_owned(), now);
    let mut wake = None;
    if rolling_out {
        progress(deployment, newest, &mut status, now);
        replica_failure(sets, newest, &mut status.conditions);
        wake = deadline(deployment, &status, now);
    }
    (status, wake)
}

fn counters(deployment: &Deployment, sets: &[ReplicaSet], newest: Option<&ReplicaSet>) -> DeploymentStatus {
    let sum = |of: fn(&ReplicaSet) -> i32| sets.iter().map(of).sum::<i32>();
    let available = sum(|set| set.status.available_replicas);
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: sum(|set| set.status.replicas),
        updated_replicas: newest.map_or(0, |set| set.status.replicas),
        ready_replicas: sum(|set| set.status.ready_replicas),
        available_replicas: available,
        unavailable_replicas: (sum(ReplicaSet::replicas) - available).max(0),
        terminating_replicas: sets.iter().map(|set| set.status.terminating_replicas).sum(),
        collision_count: deployment.status.collision_count,
        conditions: Vec::new(),
    }
}

/// Keeps the Progressing condition: complete, moving, or stuck beyond the deadline.
fn progress(
    deployment: &Deployment,
    newest: Option<&ReplicaSet>,
    status: &mut DeploymentStatus,
    now: Timestamp,
) {
    let Some(deadline) = deployment.spec.progress_deadline_seconds.filter(|it| *it != i32::MAX) else {
        status.conditions.retain(|it| it.kind != PROGRESSING);
        return;
    };
    let current = find_condition(&status.conditions, PROGRESSING).cloned();
    let done_before = current.as_ref().is_some_and(|it| it.reason == DONE);
    if done_before && status.replicas == status.updated_replicas {
        return;
    }
    let subject = newest.map_or_else(
        || format!("Deployment \"{}\"", deployment.metadata.name),
        |set| format!("ReplicaSet \"{}\"", set.metadata.name),
    );
    let conditions = &mut status.conditions.clone();
    if is_complete(deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        set_condition(conditions, PROGRESSING, "True", DONE, message, now);
    } else if is_moving(&deployment.status, status) {
        // Each step forward starts the deadline anew, so the update time moves even if nothing else does.
        let transition =
            current.as_ref().filter(|it| it.status == "True").and_then(|it| it.last_transition_time);
        conditions.retain(|it| it.kind != PROGRESSING);
        conditions.push(Condition {
            kind: PROGRESSING.into(),
            status: "True".into(),
            last_update_time: Some(now),
            last_transition_time: transition.or(Some(now)),
            reason: "ReplicaSetUpdated".into(),
            message: format!("{subject} is progressing."),
        });
    } else if has_timed_out(current.as_ref(), deadline, now) {
        let message = format!("{subject} has timed out progressing.");
        set_condition(conditions, PROGRESSING, "False", TIMED_OUT, message, now);
    }
    status.conditions.clone_from(conditions);
}

fn is_moving(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let old = |status: &DeploymentStatus| status.replicas - status.updated_replicas;
    after.updated_replicas > before.updated_replicas
        || old(after) < old(before)
        || after.ready_replicas > before.ready_replicas
        || after.available_replicas > before.available_replicas
}

fn has_timed_out(condition: Option<&Condition>, deadline: i32, now: Timestamp) -> bool {
    match condition {
        None => false,
        Some(it) if it.reason == DONE => false,
        Some(it) if it.reason == TIMED_OUT => true,
        Some(it) => {
            it.last_update_time.is_some_and(|since| now.as_second() - since.as_second() > i64::from(deadline))
        }
    }
}

/// Takes over what the newest set (or any, without one) says about failing to make pods.
fn replica_failure(sets: &[ReplicaSet], newest: Option<&ReplicaSet>, conditions: &mut Vec<Condition>) {
    let failure = |set: &ReplicaSet| find_condition(&set.status.conditions, FAILURE).cloned();
    let found = newest.and_then(failure).or_else(|| sets.iter().find_map(failure));
    match found {
        Some(found) => {
            let update = found.last_transition_time;
            let next = Condition { last_update_time: update, ..found };
            let same =
                |it: &Condition| it.kind == FAILURE && it.status == next.status && it.reason == next.reason;
            if !conditions.iter().any(same) {
                conditions.retain(|it| it.kind != FAILURE);
                conditions.push(next);
            }
        }
        None => conditions.retain(|it| it.kind != FAILURE),
    }
}

fn deadline(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let deadline = deployment.spec.progress_deadline_seconds.filter(|it| *it != i32::MAX)?;
    let current = find_condition(&status.conditions, PROGRESSING)?;
    if is_complete(deployment, status) || current.reason == TIMED_OUT || current.reason == DONE {
        return None;
    }
    let since = current.last_update_time?;
    let left = since.as_second() + i64::from(deadline) - now.as_second();
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const START: &str = "2026-01-01T00:00:00Z";

    /// A Deployment of 2 and one set; counters are `replicas/ready/available`.
    fn after(
        before: &str,
        set: &str,
        progressing: &str,
        seconds: i64,
    ) -> (DeploymentStatus, Option<Duration>) {
        let numbers = |text: &str| -> Vec<i32> { text.split('/').map(|it| it.parse().unwrap()).collect() };
        let (b, s) = (numbers(before), numbers(set));
        let condition = json!({"type": "Progressing", "status": "True", "reason": progressing,
            "lastUpdateTime": START, "lastTransitionTime": START});
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "d", "generation": 3},
            "spec": {"replicas": 2, "progressDeadlineSeconds": 600,
                "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}},
            "status": {"replicas": b[0], "updatedReplicas": b[0], "readyReplicas": b[1], "availableReplicas": b[2],
                "conditions": if progressing.is_empty() { json!([]) } else { json!([condition]) }},
        }))
        .unwrap();
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {"name": "d-1"}, "spec": {"replicas": 2},
            "status": {"replicas": s[0], "readyReplicas": s[1], "availableReplicas": s[2]}}))
        .unwrap();
        let now = Timestamp::from_second(START.parse::<Timestamp>().unwrap().as_second() + seconds).unwrap();
        let conditions = deployment.status.conditions.clone();
        next(&deployment, std::slice::from_ref(&set), Some(&set), conditions, true, now)
    }

    fn check(before: &str, set: &str, progressing: &str, seconds: i64, want: &str, wake: Option<u64>) {
        let (status, got_wake) = after(before, set, progressing, seconds);
        let text: Vec<_> =
            status.conditions.iter().map(|it| format!("{}={} {}", it.kind, it.status, it.reason)).collect();
        assert_eq!(text.join(", "), want);
        assert_eq!(got_wake.map(|it| it.as_secs()), wake);
    }

    #[test]
    fn conditions() {
        const SHORT: &str = "Available=False MinimumReplicasUnavailable";
        const ENOUGH: &str = "Available=True MinimumReplicasAvailable";
        let p = |rest: &str, available: &str| format!("{available}, Progressing={rest}");
        let q = |rest: &str, available: &str| format!("Progressing={rest}, {available}");
        check("0/0/0", "0/0/0", "", 0, SHORT, None);
        check("0/0/0", "2/0/0", "NewReplicaSetCreated", 9, &p("True ReplicaSetUpdated", SHORT), Some(601));
        check("2/0/0", "2/0/0", "ReplicaSetUpdated", 100, &q("True ReplicaSetUpdated", SHORT), Some(501));
        check("2/0/0", "2/0/0", "ReplicaSetUpdated", 601, &p("False ProgressDeadlineExceeded", SHORT), None);
        check("2/1/1", "2/2/2", "ReplicaSetUpdated", 9, &p("True NewReplicaSetAvailable", ENOUGH), None);
        check(
            "2/2/2",
            "2/1/1",
            "NewReplicaSetAvailable",
            9999,
            &q("True NewReplicaSetAvailable", SHORT),
            None,
        );
    }

    #[test]
    fn sentences_and_times() {
        let (status, _) = after("0/0/0", "2/1/1", "NewReplicaSetCreated", 9);
        let progressing = find_condition(&status.conditions, PROGRESSING).unwrap();
        assert_eq!(progressing.message, "ReplicaSet \"d-1\" is progressing.");
        assert_eq!(progressing.last_transition_time, Some(START.parse().unwrap()));
        assert_eq!(progressing.last_update_time.unwrap().to_string(), "2026-01-01T00:00:09Z");
        assert_eq!((status.replicas, status.unavailable_replicas, status.observed_generation), (2, 1, 3));
        assert_eq!(status.terminating_replicas, None, "unknown of one is unknown of all");
    }
}
