//! Objects whose owners are gone, and owners that wait for their objects.
//!
//! There is no graph besides the informers: an index by owner uid finds dependants, references find owners. Whatever
//! the caches do not show is asked of the server before anything is deleted.

mod lean; // all that is kept of an object
mod monitors; // one informer per resource
mod plan; // what becomes of an object: pure

use crate::shared::Context;
use crate::work::{self, Reconcile, Requeue};
use coracle_client::views::{MetaOnly, OwnerRef};
use coracle_client::{CallError, Calls, Deletion, Key, Resource, WorkQueue};
use lean::Lean;
use monitors::Monitors;
use plan::{Next, Owner, next};
use serde::de::IgnoredAny;
use serde_json::json;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// An object of whatever resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Subject {
    resource: Resource,
    key: Key,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource.plural, self.key)
    }
}

struct Collector {
    calls: Calls,
    monitors: Arc<Monitors>,
    queue: Arc<WorkQueue<Subject>>,
    absent: Mutex<Absent>,
}

/// Owners the server said it does not have; a uid never comes back.
#[derive(Default)]
struct Absent {
    uids: VecDeque<String>,
}

impl Absent {
    const KEPT: usize = 500;

    fn add(&mut self, uid: &str) {
        if self.uids.len() >= Self::KEPT {
            self.uids.pop_front();
        }
        self.uids.push_back(uid.to_owned());
    }
}

/// Starts the controller; it watches every resource that can be listed, watched and deleted.
pub(crate) fn start(context: &Context) {
    let queue = Arc::new(WorkQueue::new());
    let monitors = Monitors::new(context, Arc::clone(&queue));
    let collector = Collector {
        calls: context.calls.clone(),
        monitors: Arc::clone(&monitors),
        queue: Arc::clone(&queue),
        absent: Mutex::new(Absent::default()),
    };
    work::start(collector, &queue, 5, &context.tracker, &context.token);
    let token = context.token.clone();
    context.tracker.spawn(async move {
        // Stopping between two looks at the server loses nothing.
        token.run_until_cancelled(monitors.follow()).await;
    });
}

impl Reconcile<Subject> for Collector {
    const NAME: &'static str = "garbage-collector";

    async fn reconcile(&self, subject: &Subject) -> Result<Requeue, CallError> {
        let Some(object) = self.monitors.get(subject) else { return Ok(Requeue::Done) };
        let owners = if object.deleting { Vec::new() } else { self.owners(&object).await? };
        let dependants = self.monitors.dependants(&object.uid);
        let path = subject.resource.object(&object.namespace, &object.name);
        let result = match next(&object, &owners, &dependants) {
            Next::Nothing => return Ok(Requeue::Done),
            Next::Wake(dependants) => {
                dependants.into_iter().for_each(|it| self.queue.add(it));
                return Ok(Requeue::Done);
            }
            Next::Orphan(dependants) => {
                for dependant in dependants {
                    self.release(&dependant, &[object.uid.as_str()]).await?;
                }
                self.drop_finalizer(&path, &object, "orphan").await
            }
            Next::Finish => self.drop_finalizer(&path, &object, "foregroundDeletion").await,
            Next::Release(uids) => {
                let uids: Vec<_> = uids.iter().map(String::as_str).collect();
                self.release(subject, &uids).await
            }
            Next::Delete(propagation) => {
                let options = Deletion {
                    resource_version: Some(object.version.clone()),
                    propagation: Some(propagation),
                    ..Deletion::of_uid(&object.uid)
                };
                tracing::debug!(%subject, ?propagation, "deleting what nobody owns any more");
                self.calls.delete(&path, &options).await
            }
        };
        match result {
            Err(err) if err.is_not_found() => Ok(Requeue::Done),
            result => result.map(|()| Requeue::Done),
        }
    }
}

impl Collector {
    /// What is known of each owner, asking the server where the cache shows none.
    async fn owners(&self, object: &Lean) -> Result<Vec<Owner>, CallError> {
        let mut owners = Vec::new();
        for reference in &object.owners {
            owners.push(self.owner(object, reference).await?);
        }
        Ok(owners)
    }

    async fn owner(&self, object: &Lean, reference: &OwnerRef) -> Result<Owner, CallError> {
        let Some((resource, namespaced)) = self.monitors.resource_of(&reference.api_version, &reference.kind)
        else {
            // A kind nobody serves (now): keep what it owns.
            return Ok(Owner::Solid);
        };
        if namespaced && object.namespace.is_empty() {
            // Such a reference can't be resolved: it says nothing.
            return Ok(Owner::Solid);
        }
        let namespace = if namespaced { object.namespace.as_str() } else { "" };
        let subject = Subject { resource: resource.clone(), key: Key::new(namespace, &reference.name) };
        if let Some(there) = self.monitors.get(&subject).filter(|it| it.uid == reference.uid) {
            return Ok(if there.deleting && there.foreground { Owner::Waiting } else { Owner::Solid });
        }
        let known = |absent: &Mutex<Absent>| {
            absent.lock().unwrap_or_else(PoisonError::into_inner).uids.contains(&reference.uid)
        };
        if known(&self.absent) {
            return Ok(Owner::Absent);
        }
        let live: Option<MetaOnly> = self.calls.find(&resource.object(namespace, &reference.name)).await?;
        match live.filter(|it| it.metadata.uid == reference.uid) {
            None => {
                self.absent.lock().unwrap_or_else(PoisonError::into_inner).add(&reference.uid);
                Ok(Owner::Absent)
            }
            Some(live) => {
                let waits = live.metadata.finalizers.iter().any(|it| it == "foregroundDeletion");
                Ok(if live.metadata.is_terminating() && waits { Owner::Waiting } else { Owner::Solid })
            }
        }
    }

    /// Removes references to these owners.
    async fn release(&self, subject: &Subject, uids: &[&str]) -> Result<(), CallError> {
        let path = subject.resource.object(&subject.key.namespace, &subject.key.name);
        let Some(live) = self.calls.find::<MetaOnly>(&path).await? else { return Ok(()) };
        let left: Vec<_> =
            live.metadata.owner_references.iter().filter(|it| !uids.contains(&it.uid.as_str())).collect();
        if left.len() == live.metadata.owner_references.len() {
            return Ok(());
        }
        let patch = json!({"metadata": {"uid": live.metadata.uid,
            "resourceVersion": live.metadata.resource_version, "ownerReferences": left}});
        match self.calls.merge::<IgnoredAny>(&path, &patch).await {
            Err(err) if err.is_not_found() => Ok(()),
            result => result.map(drop),
        }
    }

    async fn drop_finalizer(&self, path: &str, object: &Lean, finalizer: &str) -> Result<(), CallError> {
        let Some(live) = self.calls.find::<MetaOnly>(path).await? else { return Ok(()) };
        if live.metadata.uid != object.uid || !live.metadata.finalizers.iter().any(|it| it == finalizer) {
            return Ok(());
        }
        let left: Vec<_> = live.metadata.finalizers.iter().filter(|it| *it != finalizer).collect();
        let patch = json!({"metadata": {"uid": object.uid,
            "resourceVersion": live.metadata.resource_version, "finalizers": left}});
        self.calls.merge::<IgnoredAny>(path, &patch).await.map(drop)
    }
}

#[cfg(test)]
mod tests;
