//! ReplicaSets: as many pods as wanted.

mod plan;

use crate::claim::{Claimer, controller_ref, orphans_of};
use crate::expectations::Expectations;
use crate::pods::{is_active, is_finished};
use crate::shared::{BY_CONTROLLER, Context, PODS, REPLICA_SETS, Shared};
use crate::views::{Pod, ReplicaSet};
use crate::work::{self, Reconcile, Requeue, set_status};
use coracle_apimachinery::names;
use coracle_client::views::{Meta, MetaOnly};
use coracle_client::{CallError, Calls, Change, Deletion, EventRecorder, Key, ObjectRef, Store, WorkQueue};
use futures::future::join_all;
use plan::{Action, Failure};
use std::sync::Arc;

struct ReplicaSets {
    calls: Calls,
    events: EventRecorder,
    sets: Store<ReplicaSet>,
    pods: Store<Pod>,
    expectations: Arc<Expectations>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context, shared: &Shared) {
    let queue = Arc::new(WorkQueue::new());
    let expectations = Arc::new(Expectations::default());
    let controller = ReplicaSets {
        calls: context.calls.clone(),
        events: context.events("replicaset-controller"),
        sets: shared.replica_sets.store(),
        pods: shared.pods.store(),
        expectations: Arc::clone(&expectations),
    };
    let for_sets = Arc::clone(&queue);
    shared.replica_sets.on_change(move |change| {
        if let Some(set) = change.object() {
            for_sets.add(Key::new(&set.metadata.namespace, &set.metadata.name));
        }
    });
    let (for_pods, sets) = (Arc::clone(&queue), shared.replica_sets.store());
    shared.pods.on_change(move |change| pod_changed(change, &sets, &expectations, &for_pods));
    work::start(controller, &queue, 5, &context.tracker, &context.token);
}

/// Keeps the expectations and wakes the ReplicaSets that a pod concerns.
fn pod_changed(
    change: &Change<Pod>,
    sets: &Store<ReplicaSet>,
    expectations: &Expectations,
    queue: &WorkQueue<Key>,
) {
    let Some(pod) = change.object() else { return };
    let owner = owner_of(&pod.metadata, sets);
    if let Some(owner) = &owner {
        let gone = matches!(change, Change::Deleted(_)) || pod.metadata.is_terminating();
        if matches!(change, Change::Added(_)) && !gone {
            expectations.created(owner);
        } else if gone {
            expectations.deleted(owner, &pod.metadata.uid);
        }
        queue.add(owner.clone());
    }
    let before = change.old().and_then(|old| owner_of(&old.metadata, sets));
    if before != owner {
        before.into_iter().for_each(|owner| queue.add(owner));
    }
    if pod.metadata.controller().is_none() && !matches!(change, Change::Deleted(_)) {
        // An orphan may be adopted by whoever selects it.
        for set in sets.in_namespace(&pod.metadata.namespace) {
            if set
                .spec
                .selector
                .compile()
                .is_ok_and(|it| !it.is_empty() && it.matches_map(&pod.metadata.labels))
            {
                queue.add(Key::new(&set.metadata.namespace, &set.metadata.name));
            }
        }
    }
}

fn owner_of(meta: &Meta, sets: &Store<ReplicaSet>) -> Option<Key> {
    let owner = meta.controller().filter(|owner| owner.kind == "ReplicaSet")?;
    let key = Key::new(&meta.namespace, &owner.name);
    sets.get(&key).filter(|set| set.metadata.uid == owner.uid).map(|_| key)
}

impl Reconcile for ReplicaSets {
    const NAME: &'static str = "replicaset";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, CallError> {
        let Some(set) = self.sets.get(key) else {
            self.expectations.forget(key);
            return Ok(Requeue::Done);
        };
        let Some(selector) = set.spec.selector.compile().ok().filter(|it| !it.is_empty()) else {
            return Ok(Requeue::Done);
        };
        // Asked before the pods are read: what is expected may arrive in between, but not the other way round.
        let met = self.expectations.are_met(key);
        let claimer = Claimer {
            reference: controller_ref("apps/v1", "ReplicaSet", &set.metadata),
            selector: &selector,
            terminating: set.metadata.is_terminating(),
        };
        let mut candidates = self.pods.by_index(BY_CONTROLLER, &set.metadata.uid);
        let terminating =
            candidates.iter().filter(|pod| pod.metadata.is_terminating() && !is_finished(pod)).count();
        candidates.extend(self.pods.by_index(BY_CONTROLLER, &orphans_of(&key.namespace)));
        candidates.retain(|pod| is_active(pod));
        let active = claimer.take(&self.calls, &PODS, candidates).await?;
        let now = crate::run::now();
        let step =
            if met { plan::plan(&set, &active, &self.related(&set, &active), now) } else { Action::Nothing };
        let (result, failure) = self.act(key, &set, step).await;
        let (status, wake) = plan::status(&set, &active, terminating, failure.as_ref(), now);
        if status != set.status {
            let path = REPLICA_SETS.object(&key.namespace, &key.name);
            let put_path = REPLICA_SETS.subresource(&key.namespace, &key.name, "status");
            let uid = &set.metadata.uid;
            match self.calls.modify(&path, &put_path, |object| set_status(object, uid, &status)).await {
                Ok(()) => {}
                Err(err) if err.is_not_found() => return Ok(Requeue::Done),
                Err(err) => return Err(err),
            }
        }
        result.map(|()| wake.into())
    }
}

impl ReplicaSets {
    /// The active pods of all ReplicaSets of the same owner.
    fn related(&self, set: &ReplicaSet, own: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        let Some(owner) = set.metadata.controller() else { return own.to_vec() };
        self.sets
            .by_index(BY_CONTROLLER, &owner.uid)
            .iter()
            .flat_map(|set| self.pods.by_index(BY_CONTROLLER, &set.metadata.uid))
            .filter(|pod| is_active(pod))
            .collect()
    }

    async fn act(
        &self,
        key: &Key,
        set: &ReplicaSet,
        step: Action,
    ) -> (Result<(), CallError>, Option<Failure>) {
        let (result, reason) = match step {
            Action::Nothing => return (Ok(()), None),
            Action::Create(count) => (self.create(key, set, count).await, "FailedCreate"),
            Action::Delete(pods) => (self.delete(key, set, pods).await, "FailedDelete"),
        };
        let failure = result.as_ref().err().map(|err| Failure { reason, message: err.message() });
        (result, failure)
    }

    /// Creates pods in growing batches, so that a refusal is met once and not five hundred times.
    async fn create(&self, key: &Key, set: &ReplicaSet, count: usize) -> Result<(), CallError> {
        let about = ObjectRef::of("apps/v1", "ReplicaSet", &set.metadata);
        let owner = controller_ref("apps/v1", "ReplicaSet", &set.metadata);
        let mut prefix = format!("{}-", key.name);
        if !names::as_prefix(&prefix, names::dns1123_subdomain).is_empty() {
            prefix.clone_from(&key.name);
        }
        let pod = set.spec.template.pod(&prefix, &owner);
        let path = PODS.collection(&key.namespace);
        self.expectations.expect_creates(key, count);
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            let size = batch.min(left);
            let results = join_all((0..size).map(|_| self.calls.create::<MetaOnly>(&path, &pod))).await;
            left -= size;
            let mut failed = None;
            for result in results {
                match result {
                    Ok(pod) => {
                        self.events.normal(
                            &about,
                            "SuccessfulCreate",
                            format!("Created pod: {}", pod.metadata.name),
                        );
                    }
                    Err(err) => {
                        self.expectations.created(key);
                        if !err.is_namespace_terminating() {
                            self.events.warning(
                                &about,
                                "FailedCreate",
                                format!("Error creating: {}", err.message()),
                            );
                        }
                        failed = Some(err);
                    }
                }
            }
            if let Some(err) = failed {
                (0..left).for_each(|_| self.expectations.created(key));
                // Nothing can be made in a namespace that ends; its end takes the ReplicaSet too.
                return if err.is_namespace_terminating() { Ok(()) } else { Err(err) };
            }
            batch *= 2;
        }
        Ok(())
    }

    async fn delete(&self, key: &Key, set: &ReplicaSet, pods: Vec<Arc<Pod>>) -> Result<(), CallError> {
        let about = ObjectRef::of("apps/v1", "ReplicaSet", &set.metadata);
        self.expectations.expect_deletes(key, pods.iter().map(|pod| pod.metadata.uid.clone()));
        let calls = pods.iter().map(|pod| async move {
            let path = PODS.object(&pod.metadata.namespace, &pod.metadata.name);
            (pod, self.calls.delete(&path, &Deletion::of_uid(&pod.metadata.uid)).await)
        });
        let mut failed = None;
        for (pod, result) in join_all(calls).await {
            let name = &pod.metadata.name;
            match result {
                Ok(()) => self.events.normal(&about, "SuccessfulDelete", format!("Deleted pod: {name}")),
                Err(err) => {
                    self.expectations.deleted(key, &pod.metadata.uid);
                    if !err.is_not_found() {
                        self.events.warning(
                            &about,
                            "FailedDelete",
                            format!("Error deleting: {}", err.message()),
                        );
                        failed = Some(err);
                    }
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests;
