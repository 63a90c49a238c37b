//! Deployments: one ReplicaSet per template, moved from one to the next.

mod plan; // the next steps: pure
mod revision; // annotations of the sets
mod sizes; // rollout arithmetic
mod status; // counters and conditions

use crate::claim::{Claimer, controller_ref, orphans_of};
use crate::pods::is_finished;
use crate::shared::{BY_CONTROLLER, Context, DEPLOYMENTS, REPLICA_SETS, Shared};
use crate::views::{Deployment, DeploymentStatus, Pod, ReplicaSet};
use crate::work::{self, Reconcile, Requeue, set_status};
use coracle_client::views::Meta;
use coracle_client::{CallError, Calls, Change, Deletion, EventRecorder, Key, ObjectRef, Store, WorkQueue};
use plan::{Action, plan};
use serde::de::IgnoredAny;
use serde_json::Value;
use std::sync::Arc;

struct Deployments {
    calls: Calls,
    events: EventRecorder,
    deployments: Store<Deployment>,
    sets: Store<ReplicaSet>,
    pods: Store<Pod>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context, shared: &Shared) {
    let queue = Arc::new(WorkQueue::new());
    let controller = Deployments {
        calls: context.calls.clone(),
        events: context.events("deployment-controller"),
        deployments: shared.deployments.store(),
        sets: shared.replica_sets.store(),
        pods: shared.pods.store(),
    };
    let for_deployments = Arc::clone(&queue);
    shared.deployments.on_change(move |change| {
        if let Some(deployment) = change.object() {
            for_deployments.add(Key::new(&deployment.metadata.namespace, &deployment.metadata.name));
        }
    });
    let (for_sets, deployments) = (Arc::clone(&queue), shared.deployments.store());
    shared.replica_sets.on_change(move |change| set_changed(change, &deployments, &for_sets));
    let (for_pods, deployments, sets) =
        (Arc::clone(&queue), shared.deployments.store(), shared.replica_sets.store());
    shared.pods.on_change(move |change| pod_changed(change, &deployments, &sets, &for_pods));
    work::start(controller, &queue, 5, &context.tracker, &context.token);
}

fn set_changed(change: &Change<ReplicaSet>, deployments: &Store<Deployment>, queue: &WorkQueue<Key>) {
    for set in [change.object(), change.old()].into_iter().flatten() {
        if let Some(owner) = owner_of(&set.metadata, deployments) {
            queue.add(Key::new(&owner.metadata.namespace, &owner.metadata.name));
        }
    }
    let Some(set) = change.object().filter(|set| set.metadata.controller().is_none()) else { return };
    if matches!(change, Change::Deleted(_)) {
        return;
    }
    for deployment in deployments.in_namespace(&set.metadata.namespace) {
        let selector = deployment.spec.selector.compile();
        if selector.is_ok_and(|it| !it.is_empty() && it.matches_map(&set.metadata.labels)) {
            queue.add(Key::new(&deployment.metadata.namespace, &deployment.metadata.name));
        }
    }
}

/// Recreate waits for the last old pod to be gone.
fn pod_changed(
    change: &Change<Pod>,
    deployments: &Store<Deployment>,
    sets: &Store<ReplicaSet>,
    queue: &WorkQueue<Key>,
) {
    let Some(pod) = change.object() else { return };
    if !(matches!(change, Change::Deleted(_)) || is_finished(pod)) {
        return;
    }
    let Some(owner) = pod.metadata.controller() else { return };
    let set = sets.find(&pod.metadata.namespace, &owner.name);
    let deployment = set.and_then(|set| owner_of(&set.metadata, deployments));
    if let Some(deployment) = deployment.filter(|it| !sizes::is_rolling(it)) {
        queue.add(Key::new(&deployment.metadata.namespace, &deployment.metadata.name));
    }
}

fn owner_of(meta: &Meta, deployments: &Store<Deployment>) -> Option<Arc<Deployment>> {
    let owner = meta.controller().filter(|owner| owner.kind == "Deployment")?;
    deployments.find(&meta.namespace, &owner.name).filter(|it| it.metadata.uid == owner.uid)
}

impl Reconcile for Deployments {
    const NAME: &'static str = "deployment";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, CallError> {
        let Some(deployment) = self.deployments.get(key) else { return Ok(Requeue::Done) };
        let about = ObjectRef::of("apps/v1", "Deployment", &deployment.metadata);
        let Ok(selector) = deployment.spec.selector.compile() else { return Ok(Requeue::Done) };
        if selector.is_empty() {
            self.events.warning(
                &about,
                "SelectingAll",
                "This deployment is selecting all pods. A non-empty selector is required.",
            );
            return Ok(Requeue::Done);
        }
        let claimer = Claimer {
            reference: controller_ref("apps/v1", "Deployment", &deployment.metadata),
            selector: &selector,
            terminating: deployment.metadata.is_terminating(),
        };
        let mut candidates = self.sets.by_index(BY_CONTROLLER, &deployment.metadata.uid);
        candidates.extend(self.sets.by_index(BY_CONTROLLER, &orphans_of(&key.namespace)));
        let sets = claimer.take(&self.calls, &REPLICA_SETS, candidates).await?;
        let sets: Vec<ReplicaSet> = sets.iter().map(|set| set.as_ref().clone()).collect();
        let running = |uid: &str| {
            let pods = self.pods.by_index(BY_CONTROLLER, uid);
            pods.iter().any(|pod| !is_finished(pod))
        };
        let plan = plan(&deployment, sets.clone(), &running, crate::run::now());
        for (index, action) in plan.actions.iter().enumerate() {
            self.apply(&deployment, &about, &sets, &plan.actions[..index], action).await?;
        }
        self.write_status(&deployment, &plan.status).await?;
        Ok(plan.wake.into())
    }
}

impl Deployments {
    async fn apply(
        &self,
        deployment: &Deployment,
        about: &ObjectRef,
        sets: &[ReplicaSet],
        done: &[Action],
        action: &Action,
    ) -> Result<(), CallError> {
        let namespace = &deployment.metadata.namespace;
        match action {
            Action::Revise(revision) => {
                let path = DEPLOYMENTS.object(namespace, &deployment.metadata.name);
                let change = |object: &mut Value| {
                    object["metadata"]["annotations"][revision::REVISION] = revision.to_string().into();
                };
                self.calls.modify(&path, &path, change).await
            }
            Action::Create { name, body, replicas } => {
                self.create(deployment, about, name, body, *replicas).await
            }
            Action::Update { name, patch } => {
                let path = REPLICA_SETS.object(namespace, name);
                self.calls.merge::<IgnoredAny>(&path, patch).await.map(drop)
            }
            Action::Scale { name, from, to, patch } => {
                let mut patch = patch.clone();
                // The size was decided on this version; only an update of ours just before may have changed it.
                let updated = matches!(done.last(), Some(Action::Update { name: it, .. }) if it == name);
                if let Some(set) = sets.iter().find(|set| set.metadata.name == *name && !updated) {
                    patch["metadata"]["resourceVersion"] = set.metadata.resource_version.as_str().into();
                }
                self.calls.merge::<IgnoredAny>(&REPLICA_SETS.object(namespace, name), &patch).await?;
                let direction = if to > from { "up" } else { "down" };
                if to != from {
                    let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
                    self.events.normal(about, "ScalingReplicaSet", message);
                }
                Ok(())
            }
            Action::Delete { name, uid, version } => {
                let mut options = Deletion::of_uid(uid);
                options.resource_version = Some(version.clone());
                match self.calls.delete(&REPLICA_SETS.object(namespace, name), &options).await {
                    Err(err) if err.is_not_found() || err.is_conflict() => Ok(()),
                    result => result,
                }
            }
        }
    }

    async fn create(
        &self,
        deployment: &Deployment,
        about: &ObjectRef,
        name: &str,
        body: &Value,
        replicas: i32,
    ) -> Result<(), CallError> {
        let namespace = &deployment.metadata.namespace;
        let err = match self.calls.create::<IgnoredAny>(&REPLICA_SETS.collection(namespace), body).await {
            Ok(_) => {
                if replicas > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {replicas}");
                    self.events.normal(about, "ScalingReplicaSet", message);
                }
                return Ok(());
            }
            Err(err) => err,
        };
        if err.is_already_exists() {
            let there: Option<ReplicaSet> = self.calls.find(&REPLICA_SETS.object(namespace, name)).await?;
            let ours = there.is_some_and(|set| {
                set.metadata.controller().is_some_and(|owner| owner.uid == deployment.metadata.uid)
                    && set.spec.template.same_as(&deployment.spec.template)
            });
            if ours {
                // The cache has not shown it yet.
                return Ok(());
            }
            let mut status = deployment.status.clone();
            status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
            self.write_status(deployment, &status).await?;
            return Err(err);
        }
        if err.is_namespace_terminating() {
            return Ok(());
        }
        let message = format!("Failed to create new replica set \"{name}\": {}", err.message());
        self.events.warning(about, "ReplicaSetCreateError", message.clone());
        if deployment.spec.progress_deadline_seconds.is_some_and(|it| it != i32::MAX) {
            let mut next = deployment.status.clone();
            let now = crate::run::now();
            let reason = "ReplicaSetCreateError";
            status::set_condition(&mut next.conditions, "Progressing", "False", reason, message, now);
            self.write_status(deployment, &next).await?;
        }
        Err(err)
    }

    async fn write_status(
        &self,
        deployment: &Deployment,
        status: &DeploymentStatus,
    ) -> Result<(), CallError> {
        if *status == deployment.status {
            return Ok(());
        }
        let meta = &deployment.metadata;
        let (path, put_path) = (
            DEPLOYMENTS.object(&meta.namespace, &meta.name),
            DEPLOYMENTS.subresource(&meta.namespace, &meta.name, "status"),
        );
        match self.calls.modify(&path, &put_path, |object| set_status(object, &meta.uid, status)).await {
            Err(err) if err.is_not_found() => Ok(()),
            result => result,
        }
    }
}
