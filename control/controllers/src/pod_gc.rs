//! Pods that nobody else will ever remove: of nodes that are gone, and finished ones beyond a number.

use crate::pods::is_finished;
use crate::shared::{BY_NODE, Context, NODES, PODS, Shared};
use crate::views::{Node, Pod};
use crate::work::{self, Reconcile, Requeue};
use coracle_client::views::MetaOnly;
use coracle_client::{CallError, Calls, Change, Deletion, Key, Store, WorkQueue};
use serde::de::IgnoredAny;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// A node may come back under its name within this time.
const QUARANTINE: Duration = Duration::from_secs(40);
/// More finished pods than this are not kept.
const FINISHED_KEPT: usize = 12_500;
/// The key under which finished pods are counted: no node may have this name.
const FINISHED: &str = "(finished)";

struct PodGc {
    calls: Calls,
    nodes: Store<Node>,
    pods: Store<Pod>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context, shared: &Shared) {
    let queue = Arc::new(WorkQueue::new());
    let for_nodes = Arc::clone(&queue);
    shared.nodes.on_change(move |change| {
        if let Change::Deleted(node) = change {
            for_nodes.add_after(Key::new("", &node.metadata.name), QUARANTINE);
        }
    });
    let (for_pods, nodes, pods) = (Arc::clone(&queue), shared.nodes.store(), shared.pods.store());
    shared.pods.on_change(move |change| {
        let (Change::Added(pod) | Change::Updated { new: pod, .. }) = change else { return };
        let node = &pod.spec.node_name;
        if !node.is_empty() && nodes.find("", node).is_none() {
            for_pods.add_after(Key::new("", node), QUARANTINE);
        }
        if is_finished(pod) && pods.len() > FINISHED_KEPT {
            for_pods.add_after(Key::new("", FINISHED), Duration::from_secs(20));
        }
    });
    let controller =
        PodGc { calls: context.calls.clone(), nodes: shared.nodes.store(), pods: shared.pods.store() };
    work::start(controller, &queue, 1, &context.tracker, &context.token);
}

impl Reconcile for PodGc {
    const NAME: &'static str = "pod-garbage-collector";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, CallError> {
        if key.name == FINISHED {
            for pod in surplus(self.pods.list(), FINISHED_KEPT) {
                self.remove(&pod, None).await?;
            }
            return Ok(Requeue::Done);
        }
        let pods = self.pods.by_index(BY_NODE, &key.name);
        if pods.is_empty() || self.nodes.get(key).is_some() {
            return Ok(Requeue::Done);
        }
        // The cache may lag; pods of a living node must never be removed.
        if self.calls.find::<MetaOnly>(&NODES.object("", &key.name)).await?.is_some() {
            return Ok(Requeue::Done);
        }
        for pod in pods {
            self.remove(&pod, Some("PodGC: node no longer exists")).await?;
        }
        Ok(Requeue::Done)
    }
}

impl PodGc {
    /// Removes a pod at once; one that had not finished is marked as failed first, for those who count.
    async fn remove(&self, pod: &Pod, why: Option<&str>) -> Result<(), CallError> {
        let meta = &pod.metadata;
        if let Some(why) = why.filter(|_| !is_finished(pod)) {
            let patch = json!({"metadata": {"uid": meta.uid}, "status": {"phase": "Failed", "conditions": [
                {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": why,
                    "lastTransitionTime": crate::run::now()}]}});
            let path = PODS.subresource(&meta.namespace, &meta.name, "status");
            match self.calls.strategic::<IgnoredAny>(&path, &patch).await {
                Err(err) if err.is_not_found() || err.is_conflict() => return Ok(()),
                result => result.map(drop)?,
            }
        }
        let options = Deletion { grace_seconds: Some(0), ..Deletion::of_uid(&meta.uid) };
        match self.calls.delete(&PODS.object(&meta.namespace, &meta.name), &options).await {
            Err(err) if !(err.is_not_found() || err.is_conflict()) => Err(err),
            _ => Ok(()),
        }
    }
}

/// The oldest finished pods beyond `kept`.
fn surplus(mut pods: Vec<Arc<Pod>>, kept: usize) -> Vec<Arc<Pod>> {
    pods.retain(|pod| is_finished(pod));
    pods.sort_by_key(|pod| (pod.metadata.creation_timestamp, pod.metadata.name.clone()));
    pods.truncate(pods.len().saturating_sub(kept));
    pods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_finished_pods_are_surplus() {
        let pod = |name: &str, phase: &str, minute: u32| -> Arc<Pod> {
            let created = format!("2026-01-01T00:{minute:02}:00Z");
            let pod =
                json!({"metadata": {"name": name, "creationTimestamp": created}, "status": {"phase": phase}});
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let pods = vec![
            pod("young", "Failed", 9),
            pod("running", "Running", 0),
            pod("old", "Succeeded", 1),
            pod("middle", "Failed", 5),
        ];
        let names = |kept| -> Vec<String> {
            surplus(pods.clone(), kept).iter().map(|pod| pod.metadata.name.clone()).collect()
        };
        assert_eq!(names(1), ["old", "middle"]);
        assert!(names(3).is_empty());
    }
}
