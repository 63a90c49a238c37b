//! Nodes that fall silent: their conditions become Unknown, their taints say so, their pods stop counting as ready.

mod plan; // conditions and taints: pure

use crate::shared::{BY_NODE, Context, NODES, PODS, Shared};
use crate::views::{Lease, Node, Pod, find_condition};
use crate::work::{self, Reconcile, Requeue};
use coracle_client::{
    CallError, Calls, Change, EventRecorder, Key, ObjectRef, Params, Resource, Store, WorkQueue,
};
use plan::{GRACE, ready_status};
use serde::de::IgnoredAny;
use serde_json::json;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

const LEASES: Resource = Resource::new("coordination.k8s.io", "v1", "leases");
const LEASE_NAMESPACE: &str = "kube-node-lease";

struct Lifecycle {
    calls: Calls,
    events: EventRecorder,
    nodes: Store<Node>,
    pods: Store<Pod>,
    heard: Arc<Heard>,
    queue: Arc<WorkQueue<Key>>,
    all_silent: AtomicBool,
}

/// When each node last gave a sign of life, by our own clock: clocks of nodes may be wrong.
#[derive(Default)]
struct Heard {
    at: Mutex<HashMap<String, Instant>>,
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, node: &str) {
        self.lock().insert(node.to_owned(), Instant::now());
    }

    fn forget(&self, node: &str) {
        self.lock().remove(node);
    }

    /// When it last gave a sign; a node never heard of starts now.
    fn since(&self, node: &str) -> Instant {
        *self.lock().entry(node.to_owned()).or_insert_with(Instant::now)
    }
}

/// Starts the controller.
pub(crate) async fn start(context: &Context, shared: &Shared) {
    let params = Params::<Lease>::all();
    let leases = coracle_client::Informer::start(
        coracle_client::Endpoint::new(context.reader.clone(), &LEASES, LEASE_NAMESPACE),
        params,
        &context.tracker,
        context.token.clone(),
    );
    leases.synced().await;
    let queue = Arc::new(WorkQueue::new());
    let heard = Arc::new(Heard::default());
    let (nodes, for_leases, waker) = (shared.nodes.store(), Arc::clone(&heard), Arc::clone(&queue));
    leases.on_change(move |change| {
        let Some(lease) = change.object() else { return };
        if change.old().is_some_and(|old| old.spec.renew_time == lease.spec.renew_time) {
            return;
        }
        for_leases.note(&lease.metadata.name);
        // A silent node that speaks again needs a look; any other only pushes its deadline away.
        let silent =
            nodes.find("", &lease.metadata.name).is_some_and(|node| ready_status(&node) == "Unknown");
        if silent {
            waker.add(Key::new("", &lease.metadata.name));
        }
    });
    let events = context.events("node-controller");
    let (for_nodes, waker, recorder) = (Arc::clone(&heard), Arc::clone(&queue), events.clone());
    shared.nodes.on_change(move |change| node_changed(change, &for_nodes, &waker, &recorder));
    let controller = Lifecycle {
        calls: context.calls.clone(),
        events,
        nodes: shared.nodes.store(),
        pods: shared.pods.store(),
        heard,
        queue: Arc::clone(&queue),
        all_silent: AtomicBool::new(false),
    };
    work::start(controller, &queue, 2, &context.tracker, &context.token);
}

fn node_changed(change: &Change<Node>, heard: &Heard, queue: &WorkQueue<Key>, events: &EventRecorder) {
    let Some(node) = change.object() else { return };
    let name = &node.metadata.name;
    let about = ObjectRef::of("v1", "Node", &node.metadata);
    match change {
        Change::Added(_) => {
            heard.note(name);
            events.normal(
                &about,
                "RegisteredNode",
                format!("Node {name} event: Registered Node {name} in Controller"),
            );
        }
        Change::Updated { old, new } => {
            if plan::spoke(old, new) {
                heard.note(name);
            }
        }
        Change::Deleted(_) => {
            heard.forget(name);
            events.normal(
                &about,
                "RemovingNode",
                format!("Node {name} event: Removing Node {name} from Controller"),
            );
        }
        Change::Resync => {}
    }
    queue.add(Key::new("", name));
}

impl Reconcile for Lifecycle {
    const NAME: &'static str = "node-lifecycle";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, CallError> {
        let Some(node) = self.nodes.get(key) else {
            self.heard.forget(&key.name);
            // It may have been the last one that was ready.
            self.watch_for_full_silence();
            return Ok(Requeue::Done);
        };
        let now = crate::run::now();
        let silence = self.heard.since(&key.name).elapsed();
        if silence >= GRACE
            && let Some(conditions) = plan::silenced(&node, now)
        {
            let path = NODES.subresource("", &key.name, "status");
            let patch = json!({"metadata": {"uid": node.metadata.uid}, "status": {"conditions": conditions}});
            self.calls.strategic::<IgnoredAny>(&path, &patch).await?;
            tracing::info!(node = %key.name, ?silence, "node fell silent");
            // Its taints follow when the informer shows the new conditions.
            return Ok(Requeue::Done);
        }
        self.watch_for_full_silence();
        let quiet_cluster = self.all_silent.load(Ordering::Relaxed);
        if let Some(taints) = plan::taints(&node, quiet_cluster, now) {
            let patch = json!({"metadata": {"uid": node.metadata.uid,
                "resourceVersion": node.metadata.resource_version}, "spec": {"taints": taints}});
            self.calls.merge::<IgnoredAny>(&NODES.object("", &key.name), &patch).await?;
        }
        if matches!(ready_status(&node), "False" | "Unknown") {
            self.mark_pods(&node).await?;
        }
        if silence >= GRACE {
            // Silent, and marked so: its first sign of life puts it into the queue, so this is only a safety net.
            return Ok(Requeue::After(GRACE));
        }
        // At the deadline as it is now; each lease in between only moves the next look.
        Ok(Requeue::After(GRACE.saturating_sub(silence).max(std::time::Duration::from_secs(1))))
    }
}

impl Lifecycle {
    /// When not one node is ready, it is we who are cut off: nothing is evicted then.
    fn watch_for_full_silence(&self) {
        let nodes = self.nodes.list();
        let all_silent = !nodes.is_empty() && nodes.iter().all(|node| ready_status(node) != "True");
        if self.all_silent.swap(all_silent, Ordering::Relaxed) != all_silent {
            nodes.iter().for_each(|node| self.queue.add(Key::new("", &node.metadata.name)));
        }
    }

    /// Pods of a node that is not ready are not ready either: Services must not send to them.
    async fn mark_pods(&self, node: &Node) -> Result<(), CallError> {
        let mut marked = false;
        for pod in self.pods.by_index(BY_NODE, &node.metadata.name) {
            let ready = find_condition(&pod.status.conditions, "Ready");
            if ready.is_none_or(|condition| condition.status != "True") {
                continue;
            }
            let path = PODS.subresource(&pod.metadata.namespace, &pod.metadata.name, "status");
            let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [
                {"type": "Ready", "status": "False", "lastTransitionTime": crate::run::now()}]}});
            match self.calls.strategic::<IgnoredAny>(&path, &patch).await {
                Err(err) if !(err.is_not_found() || err.is_conflict()) => return Err(err),
                _ => marked = true,
            }
            self.events.warning(
                &ObjectRef::of("v1", "Pod", &pod.metadata),
                "NodeNotReady",
                "Node is not ready",
            );
        }
        if marked {
            let name = &node.metadata.name;
            let about = ObjectRef::of("v1", "Node", &node.metadata);
            self.events.normal(&about, "NodeNotReady", format!("Node {name} status is now: NodeNotReady"));
        }
        Ok(())
    }
}
