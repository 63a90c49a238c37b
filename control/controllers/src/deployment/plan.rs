//! What a Deployment does next with its ReplicaSets: pure.
//!
//! The plan works on a copy of the sets, changing sizes as the actions will, so that later steps and the status see
//! what earlier steps decided.

use super::revision::{self, DESIRED, MAX, REVISION, number, revision_of};
use super::sizes::{is_rolling, max_surge, max_unavailable, proportion, replicas};
use super::status;
use crate::claim::controller_ref;
use crate::template::HASH_LABEL;
use crate::views::{Condition, Deployment, DeploymentStatus, ReplicaSet, ReplicaSetStatus};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Sets the revision annotation of the Deployment itself.
    Revise(i64),
    /// Creates the ReplicaSet of the newest template.
    Create { name: String, body: Value, replicas: i32 },
    /// Changes annotations and minReadySeconds of the newest set.
    Update { name: String, patch: Value },
    /// Changes the size of a set.
    Scale { name: String, from: i32, to: i32, patch: Value },
    /// Removes an old, empty set.
    Delete { name: String, uid: String, version: String },
}

/// Writes in order, the status after them, and when time alone will change it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) status: DeploymentStatus,
    pub(super) wake: Option<Duration>,
}

/// What is seen of the pods, for Recreate: whether a pod of an old set still runs, by set uid.
pub(super) type Running<'a> = &'a dyn Fn(&str) -> bool;

pub(super) fn plan(
    deployment: &Deployment,
    sets: Vec<ReplicaSet>,
    running: Running<'_>,
    now: Timestamp,
) -> Plan {
    let mut work = Work::new(deployment, sets, now);
    if deployment.metadata.is_terminating() {
        return work.finish(false);
    }
    work.note_pause();
    if deployment.spec.paused || work.is_scaling() {
        work.find_newest();
        work.scale();
        if deployment.spec.paused {
            work.clean_up();
        }
        return work.finish(false);
    }
    work.find_newest();
    if is_rolling(deployment) {
        work.ensure_newest();
        if !(work.grow_newest() || work.shrink_old()) && status::is_complete(deployment, &deployment.status) {
            work.clean_up();
        }
    } else {
        work.recreate(running);
    }
    work.finish(true)
}

struct Work<'a> {
    deployment: &'a Deployment,
    /// Sorted by age, oldest first.
    sets: Vec<ReplicaSet>,
    newest: Option<usize>,
    actions: Vec<Action>,
    conditions: Vec<Condition>,
    now: Timestamp,
}

impl<'a> Work<'a> {
    fn new(deployment: &'a Deployment, mut sets: Vec<ReplicaSet>, now: Timestamp) -> Self {
        sets.sort_by(|a, b| {
            let age = |set: &ReplicaSet| (set.metadata.creation_timestamp, set.metadata.name.clone());
            age(a).cmp(&age(b))
        });
        let newest = sets.iter().position(|set| set.spec.template.same_as(&deployment.spec.template));
        let conditions = deployment.status.conditions.clone();
        Self { deployment, sets, newest, actions: Vec::new(), conditions, now }
    }

    fn old(&self) -> impl Iterator<Item = usize> + use<> {
        let newest = self.newest;
        (0..self.sets.len()).filter(move |index| Some(*index) != newest)
    }

    fn total(&self) -> i32 {
        self.sets.iter().map(ReplicaSet::replicas).sum()
    }

    fn available(&self) -> i32 {
        self.sets.iter().map(|set| set.status.available_replicas).sum()
    }

    fn has_deadline(&self) -> bool {
        self.deployment.spec.progress_deadline_seconds.is_some_and(|seconds| seconds != i32::MAX)
    }

    fn set_condition(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        status::set_condition(&mut self.conditions, kind, status, reason, message, self.now);
    }

    /// A pause stops the progress deadline and its end starts it anew.
    fn note_pause(&mut self) {
        if !self.has_deadline() {
            return;
        }
        let progressing = crate::views::find_condition(&self.conditions, "Progressing");
        if progressing.is_some_and(|it| it.reason == "ProgressDeadlineExceeded") {
            return;
        }
        let known = progressing.is_some_and(|it| it.reason == "DeploymentPaused");
        if self.deployment.spec.paused && !known {
            self.set_condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused".into());
        } else if !self.deployment.spec.paused && known {
            self.set_condition("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed".into());
        }
    }

    /// Whether the wanted size changed since the sets were last sized.
    fn is_scaling(&self) -> bool {
        let wanted = i64::from(replicas(self.deployment));
        self.sets
            .iter()
            .filter(|set| set.replicas() > 0)
            .any(|set| number(&set.metadata.annotations, DESIRED).is_some_and(|it| it != wanted))
    }

    fn next_revision(&self) -> i64 {
        self.old().map(|index| revision_of(&self.sets[index].metadata.annotations)).max().unwrap_or(0) + 1
    }

    /// Brings the annotations of the set of the current template up to date, if there is one.
    fn find_newest(&mut self) {
        let Some(index) = self.newest else { return };
        let next = self.next_revision();
        let set = &self.sets[index];
        let annotations = revision::of_newest(self.deployment, &set.metadata.annotations, next, true);
        let min_ready = self.deployment.spec.min_ready_seconds;
        let name = set.metadata.name.clone();
        if annotations != set.metadata.annotations || min_ready != set.spec.min_ready_seconds {
            let patch = json!({"metadata": {"annotations": changed(&set.metadata.annotations, &annotations)},
                "spec": {"minReadySeconds": min_ready}});
            self.sets[index].metadata.annotations = annotations;
            self.sets[index].spec.min_ready_seconds = min_ready;
            self.actions.push(Action::Update { name: name.clone(), patch });
        }
        self.revise(revision_of(&self.sets[index].metadata.annotations));
        if self.has_deadline() && crate::views::find_condition(&self.conditions, "Progressing").is_none() {
            let message = format!("Found new replica set \"{name}\"");
            self.set_condition("Progressing", "True", "FoundNewReplicaSet", message);
        }
    }

    fn revise(&mut self, revision: i64) {
        if number(&self.deployment.metadata.annotations, REVISION) != Some(revision) {
            self.actions.push(Action::Revise(revision));
        }
    }

    /// Creates the set of the current template unless there is one.
    fn ensure_newest(&mut self) {
        if self.newest.is_some() {
            return;
        }
        let deployment = self.deployment;
        let revision = self.next_revision();
        let hash = deployment.spec.template.hash(deployment.status.collision_count);
        let name = format!("{}-{hash}", deployment.metadata.name);
        let size = self.room_for_newest(0);
        let annotations = revision::of_newest(deployment, &BTreeMap::new(), revision, false);
        let template = deployment.spec.template.with_hash(&hash);
        let mut selector = deployment.spec.selector.clone();
        selector.match_labels.insert(HASH_LABEL.into(), hash);
        let owner = controller_ref("apps/v1", "Deployment", &deployment.metadata);
        let body = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": name, "namespace": deployment.metadata.namespace,
                "labels": template["metadata"]["labels"], "annotations": annotations, "ownerReferences": [owner]},
            "spec": {"replicas": size, "minReadySeconds": deployment.spec.min_ready_seconds,
                "selector": selector, "template": template},
        });
        let mut set = ReplicaSet::default();
        set.metadata.name.clone_from(&name);
        set.metadata.annotations = annotations;
        set.spec.replicas = Some(size);
        set.status = ReplicaSetStatus { terminating_replicas: Some(0), ..ReplicaSetStatus::default() };
        self.sets.push(set);
        self.newest = Some(self.sets.len() - 1);
        let message = format!("Created new replica set \"{name}\"");
        self.actions.push(Action::Create { name, body, replicas: size });
        self.revise(revision);
        if self.has_deadline() {
            self.set_condition("Progressing", "True", "NewReplicaSetCreated", message);
        }
    }

    /// How many pods the newest set, now of `size`, may have.
    fn room_for_newest(&self, size: i32) -> i32 {
        let wanted = replicas(self.deployment);
        if !is_rolling(self.deployment) {
            return wanted;
        }
        let most = wanted + max_surge(self.deployment);
        let total = self.total();
        if total >= most { size } else { size + (most - total).min(wanted - size) }
    }

    fn grow_newest(&mut self) -> bool {
        let Some(index) = self.newest else { return false };
        let (size, wanted) = (self.sets[index].replicas(), replicas(self.deployment));
        let to = if size > wanted { wanted } else { self.room_for_newest(size) };
        self.resize(index, to)
    }

    fn shrink_old(&mut self) -> bool {
        let old_total: i32 = self.old().map(|index| self.sets[index].replicas()).sum();
        let Some(newest) = self.newest.filter(|_| old_total > 0) else { return false };
        let least = replicas(self.deployment) - max_unavailable(self.deployment);
        let newest = &self.sets[newest];
        let newest_unavailable = newest.replicas() - newest.status.available_replicas;
        let most = self.total() - least - newest_unavailable;
        if most <= 0 {
            return false;
        }
        // Pods that don't work go first: they count for nothing.
        let mut removed = 0;
        for index in self.old() {
            let (size, available) = (self.sets[index].replicas(), self.sets[index].status.available_replicas);
            let broken = (size - available).clamp(0, (most - removed).max(0));
            removed += broken;
            self.resize(index, size - broken);
        }
        let mut spare = (self.available() - least).max(0);
        for index in self.old() {
            let size = self.sets[index].replicas();
            let fewer = size.min(spare);
            spare -= fewer;
            removed += fewer;
            self.resize(index, size - fewer);
        }
        removed > 0
    }

    /// Old pods end before new ones start.
    fn recreate(&mut self, running: Running<'_>) {
        let mut shrunk = false;
        for index in self.old() {
            shrunk |= self.resize(index, 0);
        }
        let left = |set: &ReplicaSet| set.status.replicas > 0 || running(&set.metadata.uid);
        if shrunk || self.old().any(|index| left(&self.sets[index])) {
            return;
        }
        self.ensure_newest();
        self.grow_newest();
        if status::is_complete(self.deployment, &self.deployment.status) {
            self.clean_up();
        }
    }

    /// Brings all sets to the wanted size without a rollout.
    fn scale(&mut self) {
        let wanted = replicas(self.deployment);
        let active: Vec<_> = (0..self.sets.len()).filter(|index| self.sets[*index].replicas() > 0).collect();
        let only = match active[..] {
            [] => self.newest.or_else(|| self.old().last()),
            [one] => Some(one),
            _ => None,
        };
        if let Some(only) = only {
            self.resize(only, wanted);
            return;
        }
        if self.is_saturated() {
            for index in self.old() {
                self.resize(index, 0);
            }
        } else if is_rolling(self.deployment) {
            self.scale_in_proportion(active);
        }
    }

    fn is_saturated(&self) -> bool {
        let wanted = replicas(self.deployment);
        self.newest.is_some_and(|index| {
            let set = &self.sets[index];
            number(&set.metadata.annotations, DESIRED) == Some(i64::from(wanted))
                && set.replicas() == wanted
                && set.status.available_replicas == wanted
        })
    }

    /// In the middle of a rollout each set grows or shrinks by its share, the biggest first.
    fn scale_in_proportion(&mut self, mut active: Vec<usize>) {
        let wanted = replicas(self.deployment);
        let allowed = if wanted > 0 { wanted + max_surge(self.deployment) } else { 0 };
        let to_add = allowed - self.total();
        // Of equal ones the newer grows first and the older shrinks first.
        active.sort_by_key(|index| {
            let age = i64::try_from(*index).unwrap_or(0);
            (-self.sets[*index].replicas(), if to_add > 0 { -age } else { age })
        });
        let mut added = 0;
        let mut sizes = Vec::new();
        for &index in &active {
            let set = &self.sets[index];
            let annotated = number(&set.metadata.annotations, MAX).and_then(|it| i32::try_from(it).ok());
            let share = proportion(self.deployment, set.replicas(), annotated.unwrap_or(0), to_add, added);
            added += share;
            sizes.push(set.replicas() + share);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (index, size) in active.into_iter().zip(sizes) {
            self.resize_annotated(index, size, true);
        }
    }

    /// Removes the oldest empty sets beyond the history limit.
    fn clean_up(&mut self) {
        let Some(limit) = self.deployment.spec.revision_history_limit.filter(|limit| *limit != i32::MAX)
        else {
            return;
        };
        let mut old: Vec<_> =
            self.old().filter(|index| !self.sets[*index].metadata.is_terminating()).collect();
        let excess = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|index| revision_of(&self.sets[*index].metadata.annotations));
        for index in old.into_iter().take(excess) {
            let set = &self.sets[index];
            let seen = set.metadata.generation <= set.status.observed_generation;
            if set.status.replicas == 0 && set.replicas() == 0 && seen {
                self.actions.push(Action::Delete {
                    name: set.metadata.name.clone(),
                    uid: set.metadata.uid.clone(),
                    version: set.metadata.resource_version.clone(),
                });
            }
        }
    }

    fn resize(&mut self, index: usize, to: i32) -> bool {
        if self.sets[index].replicas() == to {
            return false;
        }
        self.resize_annotated(index, to, false)
    }

    /// Changes size and size annotations; with `always` the annotations even if the size stays.
    fn resize_annotated(&mut self, index: usize, to: i32, always: bool) -> bool {
        let set = &mut self.sets[index];
        let from = set.replicas();
        let mut annotations = set.metadata.annotations.clone();
        revision::set_sizes(self.deployment, &mut annotations);
        if from == to && !(always && annotations != set.metadata.annotations) {
            return false;
        }
        let patch = json!({"metadata": {"annotations": changed(&set.metadata.annotations, &annotations)},
            "spec": {"replicas": to}});
        set.metadata.annotations = annotations;
        set.spec.replicas = Some(to);
        self.actions.push(Action::Scale { name: set.metadata.name.clone(), from, to, patch });
        from != to
    }

    fn finish(self, rolling_out: bool) -> Plan {
        let newest = self.newest.map(|index| &self.sets[index]);
        let (status, wake) =
            status::next(self.deployment, &self.sets, newest, self.conditions, rolling_out, self.now);
        Plan { actions: self.actions, status, wake }
    }
}

/// The entries of `after` that `before` does not have.
fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Value {
    let news = after.iter().filter(|(key, value)| before.get(*key) != Some(value));
    news.map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[cfg(test)]
mod tests;
