//! Annotations of a Deployment's ReplicaSets: revision, history, sizes.

use super::sizes::{max_surge, replicas};
use crate::views::Deployment;
use std::collections::BTreeMap;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Never handed down from a Deployment to its ReplicaSets.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
/// The longest history that is kept, in bytes.
const HISTORY_LIMIT: usize = 2000;

type Annotations = BTreeMap<String, String>;

/// A number in an annotation.
pub(super) fn number(annotations: &Annotations, key: &str) -> Option<i64> {
    annotations.get(key)?.parse().ok()
}

/// The revision of a ReplicaSet; 0 when it has none.
pub(super) fn revision_of(annotations: &Annotations) -> i64 {
    number(annotations, REVISION).unwrap_or(0)
}

/// Sets the sizes a ReplicaSet was last scaled by; they tell later how to scale in proportion.
pub(super) fn set_sizes(deployment: &Deployment, annotations: &mut Annotations) {
    let wanted = replicas(deployment);
    annotations.insert(DESIRED.into(), wanted.to_string());
    annotations.insert(MAX.into(), (wanted + max_surge(deployment)).to_string());
}

/// The annotations of the ReplicaSet that is now the newest, as revision `revision`.
pub(super) fn of_newest(
    deployment: &Deployment,
    before: &Annotations,
    revision: i64,
    exists: bool,
) -> Annotations {
    let mut annotations = before.clone();
    for (key, value) in &deployment.metadata.annotations {
        if !OWN.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let old = annotations.get(REVISION).cloned();
    if revision_of(&annotations) < revision {
        annotations.insert(REVISION.into(), revision.to_string());
        if let Some(old) = old {
            let history = match annotations.get(HISTORY) {
                Some(history) => format!("{history},{old}"),
                None => old,
            };
            annotations.insert(HISTORY.into(), trimmed(history));
        }
    }
    if !exists {
        set_sizes(deployment, &mut annotations);
    }
    annotations
}

/// The newest part of a history that is not too long.
fn trimmed(mut history: String) -> String {
    while history.len() > HISTORY_LIMIT {
        match history.find(',') {
            Some(comma) => history.drain(..=comma),
            None => break,
        };
    }
    history
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn annotations_of_the_newest() {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"annotations": {"a": "b", "kubectl.kubernetes.io/last-applied-configuration": "x",
                "deployment.kubernetes.io/revision": "9"}},
            "spec": {"replicas": 4}}))
        .unwrap();
        let text = |annotations: &Annotations| {
            let pairs: Vec<_> =
                annotations.iter().map(|(k, v)| format!("{}={v}", k.rsplit('/').next().unwrap())).collect();
            pairs.join(" ")
        };
        let first = of_newest(&deployment, &Annotations::new(), 1, false);
        assert_eq!(text(&first), "a=b desired-replicas=4 max-replicas=5 revision=1");
        let again = of_newest(&deployment, &first, 3, true);
        assert_eq!(text(&again), "a=b desired-replicas=4 max-replicas=5 revision=3 revision-history=1");
        let later = of_newest(&deployment, &again, 7, true);
        assert_eq!(text(&later), "a=b desired-replicas=4 max-replicas=5 revision=7 revision-history=1,3");
        assert_eq!(of_newest(&deployment, &later, 6, true), later, "a lower revision changes nothing");
        assert!(trimmed("1234,".repeat(1000)).len() <= HISTORY_LIMIT);
    }
}
