//! Pods leave nodes with NoExecute taints: at once, after as long as they tolerate it, or never.

use crate::shared::{BY_NODE, Context, PODS, Shared};
use crate::views::{Node, Pod, Taint, Toleration};
use crate::work::{self, Reconcile, Requeue};
use coracle_client::{CallError, Calls, Deletion, EventRecorder, Key, ObjectRef, Store, WorkQueue};
use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

struct Eviction {
    calls: Calls,
    events: EventRecorder,
    nodes: Store<Node>,
    pods: Store<Pod>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context, shared: &Shared) {
    let queue = Arc::new(WorkQueue::new());
    let for_nodes = Arc::clone(&queue);
    shared.nodes.on_change(move |change| {
        let Some(node) = change.object() else { return };
        if change.old().is_none_or(|old| old.spec.taints != node.spec.taints) {
            for_nodes.add(Key::new("", &node.metadata.name));
        }
    });
    let (for_pods, nodes) = (Arc::clone(&queue), shared.nodes.store());
    shared.pods.on_change(move |change| {
        let Some(pod) = change.object().filter(|pod| !pod.spec.node_name.is_empty()) else { return };
        let news = change.old().is_none_or(|old| {
            old.spec.node_name != pod.spec.node_name || old.spec.tolerations != pod.spec.tolerations
        });
        let tainted =
            nodes.find("", &pod.spec.node_name).is_some_and(|node| no_execute(&node).next().is_some());
        if news && tainted {
            for_pods.add(Key::new("", &pod.spec.node_name));
        }
    });
    let controller = Eviction {
        calls: context.calls.clone(),
        events: context.events("taint-eviction-controller"),
        nodes: shared.nodes.store(),
        pods: shared.pods.store(),
    };
    work::start(controller, &queue, 2, &context.tracker, &context.token);
}

fn no_execute(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.taints.iter().filter(|taint| taint.effect == "NoExecute")
}

impl Reconcile for Eviction {
    const NAME: &'static str = "taint-eviction";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, CallError> {
        let Some(node) = self.nodes.get(key) else { return Ok(Requeue::Done) };
        let taints: Vec<_> = no_execute(&node).cloned().collect();
        if taints.is_empty() {
            return Ok(Requeue::Done);
        }
        let (now, mut next) = (crate::run::now(), None);
        for pod in self.pods.by_index(BY_NODE, &key.name) {
            if pod.metadata.is_terminating() {
                continue;
            }
            match leaves_in(&taints, &pod.spec.tolerations, now) {
                None => {}
                Some(0) => self.evict(&pod).await?,
                Some(seconds) => next = Some(next.map_or(seconds, |it: u64| it.min(seconds))),
            }
        }
        Ok(next.map(Duration::from_secs).into())
    }
}

impl Eviction {
    async fn evict(&self, pod: &Pod) -> Result<(), CallError> {
        let meta = &pod.metadata;
        let message = format!("Marking for deletion Pod {}/{}", meta.namespace, meta.name);
        self.events.normal(&ObjectRef::of("v1", "Pod", meta), "TaintManagerEviction", message);
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": crate::run::now()});
        let patch = json!({"metadata": {"uid": meta.uid}, "status": {"conditions": [condition]}});
        let status = PODS.subresource(&meta.namespace, &meta.name, "status");
        match self.calls.strategic::<IgnoredAny>(&status, &patch).await {
            Err(err) if err.is_not_found() || err.is_conflict() => return Ok(()),
            result => result.map(drop)?,
        }
        let path = PODS.object(&meta.namespace, &meta.name);
        match self.calls.delete(&path, &Deletion::of_uid(&meta.uid)).await {
            Err(err) if !(err.is_not_found() || err.is_conflict()) => Err(err),
            _ => Ok(()),
        }
    }
}

/// Seconds until a pod with these tolerations must leave; `None` for never.
fn leaves_in(taints: &[Taint], tolerations: &[Toleration], now: Timestamp) -> Option<u64> {
    let mut earliest: Option<u64> = None;
    for taint in taints {
        let matching: Vec<_> = tolerations.iter().filter(|it| tolerates(it, taint)).collect();
        if matching.is_empty() {
            return Some(0);
        }
        // Of several that match, the shortest counts.
        let Some(seconds) = matching.iter().filter_map(|it| it.toleration_seconds).min() else { continue };
        let since = taint.time_added.unwrap_or(now);
        let left = (since.as_second() + seconds.max(0) - now.as_second()).max(0);
        let left = u64::try_from(left).unwrap_or(0);
        earliest = Some(earliest.map_or(left, |it| it.min(left)));
    }
    earliest
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    (toleration.effect.is_empty() || toleration.effect == taint.effect)
        && match toleration.operator.as_str() {
            "" | "Equal" => toleration.key == taint.key && toleration.value == taint.value,
            "Exists" => toleration.key.is_empty() || toleration.key == taint.key,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Taints as `key@second`, tolerations as `key[=seconds]`; it is second 100.
    fn check(taints: &str, tolerations: &str, want: Option<u64>) {
        let taint = |text: &str| {
            let (key, at) = text.split_once('@').unwrap();
            let time_added = Some(Timestamp::from_second(at.parse().unwrap()).unwrap());
            Taint { key: key.into(), effect: "NoExecute".into(), value: String::new(), time_added }
        };
        let toleration = |text: &str| {
            let (key, seconds) =
                text.split_once('=').map_or((text, None), |(k, s)| (k, Some(s.parse().unwrap())));
            let key = key.trim_start_matches('*').to_owned();
            Toleration {
                key,
                operator: "Exists".into(),
                toleration_seconds: seconds,
                ..Toleration::default()
            }
        };
        let taint_list: Vec<_> = taints.split_whitespace().map(taint).collect();
        let toleration_list: Vec<_> = tolerations.split_whitespace().map(toleration).collect();
        let now = Timestamp::from_second(100).unwrap();
        assert_eq!(leaves_in(&taint_list, &toleration_list, now), want, "{taints} | {tolerations}");
    }

    #[test]
    fn when_pods_leave() {
        check("a@90", "", Some(0));
        check("a@90", "b", Some(0));
        check("a@90", "a", None);
        check("a@90", "*", None);
        check("a@90", "a=300", Some(290));
        check("a@90", "a=300 *=20", Some(10));
        check("a@90", "a=5", Some(0));
        check("a@90 b@50", "a=300 b=60", Some(10));
        check("a@90 b@50", "a=300", Some(0));
        check("a@90 b@50", "a=300 b", Some(290));
    }
}
