//! One informer per resource, started and stopped as resources come and go.

use super::Subject;
use super::lean::Lean;
use super::plan::Dependant;
use crate::discovery::{Found, discover};
use crate::shared::Context;
use coracle_client::{Backoff, Calls, Change, Endpoint, Informer, Key, Params, Resource, WorkQueue, report};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const BY_OWNER: &str = "owner";
/// Events are many, short-lived and own nothing.
const IGNORED: [&str; 2] = ["events", "componentstatuses"];
/// Where new resources come from.
const DEFINITIONS: [&str; 2] = ["customresourcedefinitions", "apiservices"];
/// A new definition is served a moment after it is written.
const SETTLE: Duration = Duration::from_secs(1);

pub(super) struct Monitors {
    /// For handlers, which the informers keep and which must not keep the informers.
    me: Weak<Self>,
    reader: kube::Client,
    discovery: Calls,
    tracker: TaskTracker,
    token: CancellationToken,
    queue: Arc<WorkQueue<Subject>>,
    watched: RwLock<HashMap<Resource, Monitor>>,
    /// Rung when definitions of resources change.
    changed: Notify,
}

struct Monitor {
    found: Found,
    informer: Informer<Lean>,
    token: CancellationToken,
}

impl Monitors {
    pub(super) fn new(context: &Context, queue: Arc<WorkQueue<Subject>>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            reader: context.reader.clone(),
            discovery: context.calls.clone(),
            tracker: context.tracker.clone(),
            token: context.token.clone(),
            queue,
            watched: RwLock::new(HashMap::new()),
            changed: Notify::new(),
        })
    }

    /// Keeps the informers in step with the resources there are.
    pub(super) async fn follow(&self) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        loop {
            let changed = self.changed.notified();
            let pause = match discover(&self.discovery).await {
                Ok(discovered) => {
                    self.adjust(discovered.resources, discovered.failed.is_empty()).await;
                    if discovered.failed.is_empty() {
                        backoff.reset();
                        changed.await;
                        SETTLE
                    } else {
                        tracing::warn!(groups = ?discovered.failed, "some resources can't be discovered, will retry");
                        backoff.next_jittered()
                    }
                }
                Err(err) => {
                    tracing::warn!(error = %report(&err), "resources can't be discovered, will retry");
                    backoff.next_jittered()
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn adjust(&self, resources: Vec<Found>, complete: bool) {
        let wanted: HashMap<_, _> = resources
            .into_iter()
            .filter(|it| {
                it.can(&["list", "watch", "delete"]) && !IGNORED.contains(&it.resource.plural.as_ref())
            })
            .map(|it| (it.resource.clone(), it))
            .collect();
        let mut started = Vec::new();
        {
            let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
            // A group that did not answer is not a group that is gone.
            if complete {
                watched.retain(|resource, monitor| {
                    let stays = wanted.contains_key(resource);
                    if !stays {
                        monitor.token.cancel();
                    }
                    stays
                });
            }
            for (resource, found) in wanted {
                if watched.contains_key(&resource) {
                    continue;
                }
                let token = self.token.child_token();
                let endpoint = Endpoint::new(self.reader.clone(), &resource, "");
                let by_owner = |it: &Lean| it.owners.iter().map(|owner| owner.uid.clone()).collect();
                let params = Params::all().metadata_only().index(BY_OWNER, by_owner);
                let informer = Informer::start(endpoint, params, &self.tracker, token.clone());
                started.push((resource.clone(), informer.clone()));
                watched.insert(resource, Monitor { found, informer, token });
            }
        }
        // All of them first: an owner must not look absent only because its list is on its way.
        for (_, informer) in &started {
            informer.synced().await;
        }
        for (resource, informer) in started {
            self.wake_by(resource, &informer);
        }
    }

    fn wake_by(&self, resource: Resource, informer: &Informer<Lean>) {
        let (me, defines) = (self.me.clone(), DEFINITIONS.contains(&resource.plural.as_ref()));
        informer.on_change(move |change| {
            let Some(me) = me.upgrade() else { return };
            me.object_changed(&resource, change);
            // A definition that only changed its status brings no resource.
            if defines && !matches!(change, Change::Updated { old, new } if old.generation == new.generation)
            {
                me.changed.notify_one();
            }
        });
    }

    fn object_changed(&self, resource: &Resource, change: &Change<Lean>) {
        let Some(object) = change.object() else { return };
        let deleted = matches!(change, Change::Deleted(_));
        let replaced = change.old().filter(|old| old.uid != object.uid);
        if let Some(gone) = replaced.or_else(|| deleted.then_some(object)) {
            self.dependants(&gone.uid).into_iter().for_each(|it| self.queue.add(it.subject));
            self.wake_owners(gone);
        }
        if deleted {
            return;
        }
        let moved = change.old().filter(|old| old.owners != object.owners);
        if let Some(old) = moved {
            // It may have been what an owner waited for.
            self.wake_owners(old);
        }
        let news = moved.is_some() || change.old().is_none() || replaced.is_some();
        let finalizing = object.deleting && (object.foreground || object.orphaning);
        if (news && !object.owners.is_empty()) || finalizing {
            let key = Key::new(&object.namespace, &object.name);
            self.queue.add(Subject { resource: resource.clone(), key });
        }
    }

    /// Looks at the owners that may be waiting for this object to go.
    fn wake_owners(&self, object: &Lean) {
        for owner in object.owners.iter().filter(|owner| owner.block_owner_deletion == Some(true)) {
            if let Some((resource, namespaced)) = self.resource_of(&owner.api_version, &owner.kind) {
                let namespace = if namespaced { object.namespace.as_str() } else { "" };
                self.queue.add(Subject { resource, key: Key::new(namespace, &owner.name) });
            }
        }
    }

    /// The object as the cache has it.
    pub(super) fn get(&self, subject: &Subject) -> Option<Arc<Lean>> {
        self.read().get(&subject.resource)?.informer.store().get(&subject.key)
    }

    /// All objects that name this uid as an owner.
    pub(super) fn dependants(&self, uid: &str) -> Vec<Dependant> {
        let watched = self.read();
        let mut dependants = Vec::new();
        for (resource, monitor) in watched.iter() {
            for object in monitor.informer.store().by_index(BY_OWNER, uid) {
                let reference = object.owners.iter().find(|it| it.uid == uid);
                dependants.push(Dependant {
                    subject: Subject {
                        resource: resource.clone(),
                        key: Key::new(&object.namespace, &object.name),
                    },
                    blocks: reference.is_some_and(|it| it.block_owner_deletion == Some(true)),
                    waits: object.deleting && object.foreground,
                });
            }
        }
        dependants
    }

    /// Where objects of this kind are, and whether they have a namespace.
    pub(super) fn resource_of(&self, api_version: &str, kind: &str) -> Option<(Resource, bool)> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let watched = self.read();
        let mut all = watched.values().map(|monitor| &monitor.found);
        let found = all.find(|it| it.kind == kind && it.resource.group == group)?;
        Some((found.resource.clone(), found.namespaced))
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Resource, Monitor>> {
        self.watched.read().unwrap_or_else(PoisonError::into_inner)
    }
}
