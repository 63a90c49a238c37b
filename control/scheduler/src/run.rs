//! Events in, decisions out.

use crate::bind::Binder;
use crate::framework::Event;
use crate::pod::Pod;
use crate::queue::Queue;
use crate::schedule::{Decision, schedule};
use crate::snapshot::{Node, Snapshot};
use coracle_client::{Calls, Change, Endpoint, EventRecorder, Informer, Params, Resource, report};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the scheduler must be told.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    /// Pods that name this scheduler are its own.
    pub scheduler_name: String,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self { scheduler_name: "default-scheduler".into() }
    }
}

/// Schedules pods until `token` is cancelled; bindings on their way may take two seconds more.
pub async fn run(config: SchedulerConfig, client: kube::Client, token: CancellationToken) {
    let tracker = TaskTracker::new();
    let nodes = Endpoint::new(client.clone(), &Resource::core("nodes"), "");
    let nodes = Informer::<Node>::start(nodes, Params::all(), &tracker, token.clone());
    let pods = Endpoint::new(client.clone(), &Resource::core("pods"), "");
    let pods = Informer::<Pod>::start(pods, Params::all(), &tracker, token.clone());
    // Without both nothing can be decided: a pod would fit nowhere, or onto a full node.
    nodes.synced().await;
    pods.synced().await;
    let world = Arc::new(World::default());
    let (for_nodes, for_pods, ours) = (Arc::clone(&world), Arc::clone(&world), config.scheduler_name);
    nodes.on_change(move |change| for_nodes.node_changed(change));
    pods.on_change(move |change| for_pods.pod_changed(change, &ours));
    let events = EventRecorder::start(client.clone(), "default-scheduler", "", &tracker, token.clone());
    let binder = Binder { calls: Calls::new(client, "kube-scheduler"), events };
    token.run_until_cancelled(decide(&world, &binder, &tracker, &token)).await;
    tracker.close();
    tracker.wait().await;
}

/// Takes pod after pod; waits only when none is ready.
async fn decide(world: &Arc<World>, binder: &Binder, tracker: &TaskTracker, token: &CancellationToken) {
    loop {
        let woken = world.wake.notified();
        while let Some((pod, decision)) = world.decide_one() {
            let (world, binder, token) = (Arc::clone(world), binder.clone(), token.clone());
            tracker.spawn(async move {
                tokio::select! {
                    () = follow(&world, &binder, pod, decision) => {}
                    // Cut in the middle, as a crash would: what was bound is seen at the next start.
                    () = too_late(&token) => {}
                }
            });
            // Others have work too, the API server above all: a thousand pods must not starve it.
            tokio::task::yield_now().await;
        }
        let next = world.lock().queue.next_wake();
        match next {
            // Losing either arm loses only a wake-up: the queue is looked at again.
            Some(at) => tokio::select! { () = woken => {}, () = tokio::time::sleep_until(at) => {} },
            None => woken.await,
        }
    }
}

/// Bindings on their way when all ends may finish, but not for ever: the server they go to ends too.
const LAST_WORDS: Duration = Duration::from_secs(2);

async fn too_late(token: &CancellationToken) {
    token.cancelled().await;
    tokio::time::sleep(LAST_WORDS).await;
}

async fn follow(world: &World, binder: &Binder, pod: Arc<Pod>, decision: Decision) {
    match decision {
        Decision::Unschedulable(diagnosis) => {
            binder.tell(&pod, "Unschedulable", &diagnosis.to_string()).await
        }
        Decision::Assign(node) => {
            let Err(err) = binder.bind(&pod, &node).await else { return world.bound(&pod) };
            world.not_bound(&pod);
            if err.is_not_found() || err.is_conflict() {
                tracing::debug!(pod = %pod.metadata.name, error = %report(&err), "pod changed before its binding");
            } else {
                tracing::warn!(pod = %pod.metadata.name, node, error = %report(&err), "binding failed, will retry");
                binder.tell(&pod, "SchedulerError", &err.message()).await;
            }
        }
    }
}

/// What the scheduler knows, and the bell that rings when there may be something to do.
#[derive(Default)]
struct World {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    snapshot: Snapshot,
    queue: Queue,
}

impl World {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides about the next pod and assumes the decision.
    fn decide_one(&self) -> Option<(Arc<Pod>, Decision)> {
        let mut state = self.lock();
        let now = Instant::now();
        let pod = state.queue.pop(now)?;
        let decision = schedule(&pod, &state.snapshot, RandomState::new().hash_one(0_u8));
        match &decision {
            Decision::Assign(node) => {
                let mut assumed = (*pod).clone();
                assumed.node_name.clone_from(node);
                state.snapshot.set_pod(Arc::new(assumed));
            }
            Decision::Unschedulable(diagnosis) => {
                state.queue.unschedulable(&pod.metadata.uid, diagnosis.plugins().clone(), now);
            }
        }
        Some((pod, decision))
    }

    /// The server has taken the binding; the informer will show the pod on its node.
    fn bound(&self, pod: &Pod) {
        self.lock().queue.remove(&pod.metadata.uid);
    }

    /// Takes an assumed pod back, unless it was bound by others or is gone.
    fn not_bound(&self, pod: &Pod) {
        let mut state = self.lock();
        let uid = &pod.metadata.uid;
        if state.queue.is_in_flight(uid) {
            state.snapshot.remove_pod(uid);
            state.queue.failed(uid, Instant::now());
            state.queue.happened(Event::PodGone, Instant::now());
            self.wake.notify_one();
        }
    }

    fn pod_changed(&self, change: &Change<Pod>, ours: &str) {
        let Some(pod) = change.object() else { return };
        let uid = &pod.metadata.uid;
        let mut state = self.lock();
        let now = Instant::now();
        let gone = matches!(change, Change::Deleted(_)) || pod.finished;
        // A pod of the same name but another uid took its place while the watch was cut.
        let replaced = change.old().filter(|old| old.metadata.uid != *uid);
        if let Some(old) = replaced {
            state.drop_pod(&old.metadata.uid, now);
        }
        if gone {
            state.drop_pod(uid, now);
        } else if !pod.node_name.is_empty() {
            state.queue.remove(uid);
            state.snapshot.set_pod(Arc::clone(pod));
        } else if pod.metadata.is_terminating() {
            if !state.queue.is_in_flight(uid) {
                state.queue.remove(uid);
            }
        } else if pod.scheduler_name == ours || (pod.scheduler_name.is_empty() && ours == "default-scheduler")
        {
            state.queue.upsert(Arc::clone(pod), now);
        }
        self.wake.notify_one();
    }

    fn node_changed(&self, change: &Change<Node>) {
        let mut state = self.lock();
        let now = Instant::now();
        let mut events = Vec::new();
        match change {
            Change::Added(node) => {
                state.snapshot.set_node(Arc::clone(node));
                events.push(Event::NodeAdded);
            }
            Change::Updated { old, new } => {
                state.snapshot.set_node(Arc::clone(new));
                if old.allocatable != new.allocatable {
                    events.push(Event::NodeAllocatable);
                }
                if old.metadata.labels != new.metadata.labels {
                    events.push(Event::NodeLabels);
                }
                if old.taints != new.taints || old.unschedulable != new.unschedulable {
                    events.push(Event::NodeTaints);
                }
            }
            Change::Deleted(node) => state.snapshot.remove_node(&node.metadata.name),
            Change::Resync => {}
        }
        let mut helped = false;
        for event in events {
            helped |= state.queue.happened(event, now);
        }
        if helped {
            self.wake.notify_one();
        }
    }
}

impl State {
    fn drop_pod(&mut self, uid: &str, now: Instant) {
        self.queue.remove(uid);
        if self.snapshot.remove_pod(uid) {
            self.queue.happened(Event::PodGone, now);
        }
    }
}

#[cfg(test)]
mod tests;
