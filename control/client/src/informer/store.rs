//! The objects of an informer, their indexes, and the changes told to handlers.

use super::machine::Effect;
use crate::{Key, Object};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::broadcast;

/// One change of the store.
#[derive(Debug)]
pub enum Change<K> {
    /// A new object.
    Added(Arc<K>),
    /// Another version of an object.
    Updated {
        /// As it was in the store.
        old: Arc<K>,
        /// As it is.
        new: Arc<K>,
    },
    /// An object that is no more, as last seen.
    Deleted(Arc<K>),
    /// Only in a [`Subscription`](super::Subscription): changes may have been missed, look at the whole store.
    Resync,
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Added(object) => Self::Added(Arc::clone(object)),
            Self::Updated { old, new } => Self::Updated { old: Arc::clone(old), new: Arc::clone(new) },
            Self::Deleted(object) => Self::Deleted(Arc::clone(object)),
            Self::Resync => Self::Resync,
        }
    }
}

impl<K> Change<K> {
    /// The object as it is now, or was last; none for a resync.
    #[must_use]
    pub const fn object(&self) -> Option<&Arc<K>> {
        match self {
            Self::Added(object) | Self::Deleted(object) | Self::Updated { new: object, .. } => Some(object),
            Self::Resync => None,
        }
    }

    /// The object as it was before an update.
    #[must_use]
    pub const fn old(&self) -> Option<&Arc<K>> {
        match self {
            Self::Updated { old, .. } => Some(old),
            Self::Added(_) | Self::Deleted(_) | Self::Resync => None,
        }
    }
}

/// A further way to find objects: all those for which `values` gives a certain text.
pub struct Index<K> {
    /// What [`Store::by_index`] calls it.
    pub name: &'static str,
    /// The texts an object is found under.
    pub values: fn(&K) -> Vec<String>,
}

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// How many changes a subscription may lag behind before it is told to look at everything.
const LAG: usize = 256;

pub(super) struct Shared<K> {
    objects: RwLock<Objects<K>>,
    /// Held while a change is told, so that a new handler neither misses nor repeats one.
    handlers: Mutex<Vec<Handler<K>>>,
    changes: OnceLock<broadcast::Sender<Change<K>>>,
}

/// The keys an index finds, by text.
type Found = HashMap<String, BTreeSet<Key>>;

struct Objects<K> {
    by_key: BTreeMap<Key, Arc<K>>,
    indexes: Vec<(Index<K>, Found)>,
}

impl<K: Object> Shared<K> {
    pub(super) fn new(indexes: Vec<Index<K>>) -> Self {
        let indexes = indexes.into_iter().map(|index| (index, HashMap::new())).collect();
        Self {
            objects: RwLock::new(Objects { by_key: BTreeMap::new(), indexes }),
            handlers: Mutex::new(Vec::new()),
            changes: OnceLock::new(),
        }
    }

    /// Applies an effect and tells the handlers; true when this was a whole list.
    pub(super) fn apply(&self, effect: Effect<K>) -> bool {
        let handlers = self.handlers();
        let mut changes = Vec::new();
        let mut listed = false;
        match effect {
            Effect::Nothing => return false,
            Effect::Upsert(object) => changes.extend(self.write().upsert(object)),
            Effect::Remove(object) => changes.extend(self.write().remove(object)),
            Effect::Replace(list) => {
                listed = true;
                changes = self.write().replace(list);
            }
        }
        for change in &changes {
            for handler in handlers.iter() {
                handler(change);
            }
        }
        if let Some(sender) = self.changes.get() {
            for change in changes {
                // No receiver is no error: nobody listens right now.
                let _ = sender.send(change);
            }
        }
        listed
    }

    pub(super) fn add_handler(&self, handler: Handler<K>) {
        let mut handlers = self.handlers();
        let present: Vec<_> = self.read().by_key.values().map(Arc::clone).collect();
        for object in present {
            handler(&Change::Added(object));
        }
        handlers.push(handler);
    }

    pub(super) fn changes(&self) -> broadcast::Receiver<Change<K>> {
        self.changes.get_or_init(|| broadcast::channel(LAG).0).subscribe()
    }

    fn handlers(&self) -> MutexGuard<'_, Vec<Handler<K>>> {
        self.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Objects<K>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Object> Objects<K> {
    fn upsert(&mut self, object: K) -> Option<Change<K>> {
        let key = object.key();
        let new = Arc::new(object);
        if let Some(old) = self.by_key.get(&key) {
            // A watch that was resumed may repeat what the list had.
            if !old.resource_version().is_empty() && old.resource_version() == new.resource_version() {
                return None;
            }
        }
        let old = self.by_key.insert(key.clone(), Arc::clone(&new));
        self.index(&key, old.as_deref(), Some(&new));
        Some(match old {
            Some(old) => Change::Updated { old, new },
            None => Change::Added(new),
        })
    }

    fn remove(&mut self, object: K) -> Option<Change<K>> {
        let key = object.key();
        let old = self.by_key.remove(&key)?;
        self.index(&key, Some(&old), None);
        Some(Change::Deleted(Arc::new(object)))
    }

    fn replace(&mut self, list: Vec<K>) -> Vec<Change<K>> {
        let mut gone: BTreeSet<Key> = self.by_key.keys().cloned().collect();
        let mut changes = Vec::new();
        for object in list {
            gone.remove(&object.key());
            changes.extend(self.upsert(object));
        }
        for key in gone {
            if let Some(old) = self.by_key.remove(&key) {
                self.index(&key, Some(&old), None);
                changes.push(Change::Deleted(old));
            }
        }
        changes
    }

    fn index(&mut self, key: &Key, old: Option<&K>, new: Option<&K>) {
        for (index, entries) in &mut self.indexes {
            let before = old.map(index.values).unwrap_or_default();
            let after = new.map(index.values).unwrap_or_default();
            if before == after {
                continue;
            }
            for value in before {
                if let Some(keys) = entries.get_mut(&value) {
                    keys.remove(key);
                    if keys.is_empty() {
                        entries.remove(&value);
                    }
                }
            }
            for value in after {
                entries.entry(value).or_default().insert(key.clone());
            }
        }
    }
}

/// Reads of an informer's objects; each sees the newest state.
pub struct Store<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K: Object> Store<K> {
    pub(super) const fn new(shared: Arc<Shared<K>>) -> Self {
        Self { shared }
    }

    /// One object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.shared.read().by_key.get(key).map(Arc::clone)
    }

    /// One object by namespace (empty: cluster-scoped) and name.
    #[must_use]
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.get(&Key::new(namespace, name))
    }

    /// All objects, sorted by namespace and name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.read().by_key.values().map(Arc::clone).collect()
    }

    /// The objects of one namespace, sorted by name.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let start = Key::new(namespace, "");
        self.shared
            .read()
            .by_key
            .range((Bound::Included(start), Bound::Unbounded))
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// The objects an index finds under `value`; none when there is no such index.
    #[must_use]
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        let objects = self.shared.read();
        let keys =
            objects.indexes.iter().find(|(it, _)| it.name == index).and_then(|(_, map)| map.get(value));
        keys.into_iter().flatten().filter_map(|key| objects.by_key.get(key).map(Arc::clone)).collect()
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.read().by_key.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::{Meta, MetaOnly};

    fn object(text: &str) -> MetaOnly {
        let (key, version) = text.split_once('@').unwrap();
        let (namespace, name) = key.split_once('/').unwrap();
        let labels = BTreeMap::from([("v".to_owned(), version.to_owned())]);
        MetaOnly {
            metadata: Meta {
                name: name.into(),
                namespace: namespace.into(),
                resource_version: version.into(),
                labels,
                ..Meta::default()
            },
        }
    }

    fn told(shared: &Arc<Shared<MetaOnly>>) -> Arc<Mutex<Vec<String>>> {
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&log);
        shared.add_handler(Box::new(move |change| {
            let object = change.object().unwrap();
            let kind = match change {
                Change::Added(_) => "+",
                Change::Updated { .. } => "~",
                Change::Deleted(_) => "-",
                Change::Resync => "?",
            };
            sink.lock().unwrap().push(format!("{kind}{}@{}", object.key(), object.metadata.resource_version));
        }));
        log
    }

    #[test]
    fn a_new_list_is_told_as_the_difference() {
        let shared = Arc::new(Shared::new(vec![]));
        let log = told(&shared);
        assert!(shared.apply(Effect::Replace(vec![object("a/x@1"), object("a/y@1"), object("b/z@1")])));
        shared.apply(Effect::Upsert(object("a/x@2")));
        log.lock().unwrap().clear();
        shared.apply(Effect::Replace(vec![object("a/x@2"), object("a/y@5"), object("c/n@6")]));
        assert_eq!(*log.lock().unwrap(), ["~a/y@5", "+c/n@6", "-b/z@1"]);
    }

    #[test]
    fn repeats_are_silent_and_late_handlers_hear_of_everything() {
        let shared = Arc::new(Shared::new(vec![]));
        shared.apply(Effect::Upsert(object("a/x@1")));
        let log = told(&shared);
        shared.apply(Effect::Upsert(object("a/x@1")));
        shared.apply(Effect::Remove(object("a/x@3")));
        shared.apply(Effect::Remove(object("a/x@3")));
        assert_eq!(*log.lock().unwrap(), ["+a/x@1", "-a/x@3"]);
    }

    #[test]
    fn indexes_and_namespaces_follow() {
        let index =
            Index { name: "v", values: |it: &MetaOnly| it.metadata.labels.values().cloned().collect() };
        let shared = Arc::new(Shared::new(vec![index]));
        let store = Store::new(Arc::clone(&shared));
        shared.apply(Effect::Replace(vec![object("a/x@1"), object("ab/y@1"), object("b/z@2")]));
        let names = |list: Vec<Arc<MetaOnly>>| list.iter().map(|it| it.key().to_string()).collect::<Vec<_>>();
        assert_eq!(names(store.in_namespace("a")), ["a/x"]);
        assert_eq!(names(store.by_index("v", "1")), ["a/x", "ab/y"]);
        shared.apply(Effect::Upsert(object("a/x@2")));
        assert_eq!(names(store.by_index("v", "2")), ["a/x", "b/z"]);
        shared.apply(Effect::Remove(object("b/z@3")));
        assert_eq!(names(store.by_index("v", "2")), ["a/x"]);
        assert!(store.by_index("none", "2").is_empty());
    }
}
