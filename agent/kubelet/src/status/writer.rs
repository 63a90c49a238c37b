//! What differs between two statuses, as a strategic merge patch.

use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use serde_json::{Map, Value, json};

/// The conditions that this kubelet writes; others belong to others.
pub(super) const OWNED_CONDITIONS: [&str; 8] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PodResizePending",
    "PodResizeInProgress",
    "AllContainersRestarting",
];

/// The reason of a DisruptionTarget that is ours.
pub(super) const BY_KUBELET: &str = "TerminationByKubelet";

fn is_owned(condition: &PodCondition) -> bool {
    OWNED_CONDITIONS.contains(&condition.type_.as_str()) || condition.reason.as_deref() == Some(BY_KUBELET)
}

/// The fields of a status that this kubelet writes.
const OWNED_FIELDS: [&str; 13] = [
    "containerStatuses",
    "ephemeralContainerStatuses",
    "hostIP",
    "hostIPs",
    "initContainerStatuses",
    "message",
    "observedGeneration",
    "phase",
    "podIP",
    "podIPs",
    "qosClass",
    "reason",
    "startTime",
];

/// The part of a status that this kubelet writes.
pub fn owned(status: &PodStatus) -> Map<String, Value> {
    let Ok(Value::Object(all)) = serde_json::to_value(status) else { return Map::new() };
    all.into_iter().filter(|(key, _)| OWNED_FIELDS.contains(&key.as_str())).collect()
}

/// The patch that makes `before` into `wanted`; none when they agree.
pub fn difference(before: &PodStatus, wanted: &PodStatus) -> Option<Value> {
    let (old, new) = (owned(before), owned(wanted));
    let mut patch = Map::new();
    for (key, value) in &new {
        if old.get(key).is_some_and(|old| essence(old) == essence(value)) {
            continue;
        }
        let addresses = key == "podIPs" || key == "hostIPs";
        let replaced = match value {
            // These lists merge by address: say that the old ones go.
            Value::Array(list) if addresses && old.contains_key(key) => {
                let mut list = list.clone();
                list.push(json!({ "$patch": "replace" }));
                Value::Array(list)
            }
            value => value.clone(),
        };
        patch.insert(key.clone(), replaced);
    }
    for key in old.keys().filter(|it| !new.contains_key(*it)) {
        patch.insert(key.clone(), Value::Null);
    }
    let changed = conditions(before, wanted);
    if !changed.is_empty() {
        patch.insert("conditions".into(), Value::Array(changed));
    }
    (!patch.is_empty()).then(|| json!({ "status": patch }))
}

/// A value without what says nothing: the API gives `lastState: {}` where nobody wrote any.
fn essence(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().map(|(key, it)| (key.clone(), essence(it)));
            Value::Object(kept.filter(|(_, it)| !it.is_null() && *it != json!({})).collect())
        }
        Value::Array(items) => items.iter().map(essence).collect(),
        plain => plain.clone(),
    }
}

/// Our conditions, all of them as soon as one differs: they merge by their type, and a server that does not merge must
/// not lose any. A field that is to go says so. They are compared as they are written: a time in memory has a finer
/// grain than the API's whole seconds.
fn conditions(before: &PodStatus, wanted: &PodStatus) -> Vec<Value> {
    let ours = |list: &PodStatus| -> Vec<Value> {
        let all = list.conditions.iter().flatten();
        all.filter(|it| is_owned(it)).filter_map(|it| serde_json::to_value(it).ok()).collect()
    };
    let (old, mut new) = (ours(before), ours(wanted));
    let find = |it: &Value| old.iter().find(|old| old["type"] == it["type"]);
    let gone = |it: &&Value| !new.iter().any(|new| new["type"] == it["type"]);
    let gone: Vec<Value> =
        old.iter().filter(gone).map(|it| json!({ "$patch": "delete", "type": it["type"] })).collect();
    if gone.is_empty() && new.iter().all(|it| find(it) == Some(it)) {
        return Vec::new();
    }
    for value in &mut new {
        let Some(old) = find(value) else { continue };
        for field in ["reason", "message"] {
            if !old[field].is_null() && value[field].is_null() {
                value[field] = Value::Null;
            }
        }
    }
    new.extend(gone);
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, PodCondition, PodIP};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn status(phase: &str, ips: &[&str], ready: &str) -> PodStatus {
        PodStatus {
            phase: Some(phase.into()),
            pod_ips: (!ips.is_empty()).then(|| ips.iter().map(|it| PodIP { ip: (*it).into() }).collect()),
            conditions: Some(vec![
                PodCondition { type_: "Ready".into(), status: ready.into(), ..PodCondition::default() },
                PodCondition { type_: "Theirs".into(), status: ready.into(), ..PodCondition::default() },
            ]),
            ..PodStatus::default()
        }
    }

    #[test]
    fn only_what_differs() {
        let a = status("Pending", &[], "False");
        assert_eq!(difference(&a, &a), None);
        let b = status("Running", &["10.0.0.1"], "True");
        let patch = difference(&a, &b).unwrap();
        assert_eq!(patch["status"]["phase"], "Running");
        assert_eq!(patch["status"]["podIPs"], json!([{ "ip": "10.0.0.1" }]));
        assert_eq!(patch["status"]["conditions"].as_array().map(Vec::len), Some(1));
        let c = status("Running", &["10.0.0.2"], "True");
        let patch = difference(&b, &c).unwrap();
        assert_eq!(patch["status"]["podIPs"], json!([{ "ip": "10.0.0.2" }, { "$patch": "replace" }]));
        let patch = difference(&b, &status("Running", &[], "True")).unwrap();
        assert_eq!(patch["status"]["podIPs"], Value::Null);
    }

    #[test]
    fn what_the_api_rounds_is_no_difference() {
        let at = |nanos| {
            let mut status = status("Running", &[], "True");
            let time = jiff::Timestamp::new(1_700_000_000, nanos).unwrap();
            for condition in status.conditions.iter_mut().flatten() {
                condition.last_transition_time = Some(Time(time));
            }
            status.start_time = Some(Time(time));
            status
        };
        assert_eq!(difference(&at(0), &at(123_456_789)), None);
    }

    #[test]
    fn what_the_api_fills_in_is_no_difference() {
        let mut ours = status("Running", &[], "True");
        ours.container_statuses =
            Some(vec![ContainerStatus { name: "a".into(), ..ContainerStatus::default() }]);
        let mut theirs = ours.clone();
        theirs
            .container_statuses
            .iter_mut()
            .flatten()
            .for_each(|it| it.last_state = Some(ContainerState::default()));
        assert_eq!(difference(&theirs, &ours), None);
        ours.container_statuses.iter_mut().flatten().for_each(|it| it.restart_count = 1);
        assert!(difference(&theirs, &ours).is_some());
    }

    #[test]
    fn a_reason_that_goes_says_so() {
        let mut before = status("Running", &[], "False");
        before.conditions.iter_mut().flatten().for_each(|it| it.reason = Some("ContainersNotReady".into()));
        let patch = difference(&before, &status("Running", &[], "True")).unwrap();
        let ready = patch["status"]["conditions"][0].as_object().unwrap();
        assert_eq!(ready.get("reason"), Some(&Value::Null));
        assert!(!ready.contains_key("message"));
    }
}
