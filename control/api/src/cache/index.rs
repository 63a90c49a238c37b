//! One folder of the store in memory: objects by key, the recent changes, and who watches.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use coracle_store::{Event, KeyValue, Revision};
use tokio::sync::mpsc;

/// Changes kept for watchers that come back.
const RING_CHANGES: usize = 1024;
/// And at most so many bytes of them.
const RING_BYTES: usize = 2 << 20;
/// Changes a watcher may be behind before it is cut off.
const QUEUE: usize = 1024;

/// One object as it rests.
#[derive(Debug)]
pub struct Object {
    /// Key below the folder: `name` or `namespace/name`.
    pub key: Arc<str>,
    /// Revision of its last change: its resourceVersion.
    pub revision: Revision,
    /// Encoded form.
    pub bytes: Bytes,
}

impl Object {
    /// Its name.
    pub fn name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or(&self.key)
    }

    /// Its namespace, or empty.
    pub fn namespace(&self) -> &str {
        self.key.split_once('/').map_or("", |(namespace, _)| namespace)
    }
}

/// One change of one object.
#[derive(Debug)]
pub struct Change {
    /// Revision of the change.
    pub revision: Revision,
    /// Key below the folder.
    pub key: Arc<str>,
    /// After it; `None`: deleted.
    pub new: Option<Arc<Object>>,
    /// Before it; `None`: created.
    pub old: Option<Arc<Object>>,
}

impl Change {
    /// Namespace (or empty) and name of the object.
    pub fn place(&self) -> (&str, &str) {
        self.key.rsplit_once('/').unwrap_or(("", &self.key))
    }

    fn weight(&self) -> usize {
        128 + self.new.as_ref().map_or(0, |o| o.bytes.len())
    }
}

/// A change on its way to watchers, with its encoded frames shared by all of them.
#[derive(Debug)]
pub struct Live {
    /// The change.
    pub change: Arc<Change>,
    /// JSON frames of ADDED, MODIFIED and DELETED in the stored version, made when first wanted.
    pub frames: [OnceLock<Bytes>; 3],
}

impl Live {
    fn new(change: Arc<Change>) -> Arc<Self> {
        Arc::new(Self { change, frames: Default::default() })
    }
}

/// The revision asked for is no longer in the ring.
#[derive(Debug, Clone, Copy)]
pub struct TooOld {
    /// The oldest revision one can still start from.
    pub oldest: Revision,
}

/// Where a watch starts.
#[derive(Debug, Clone, Copy)]
pub enum Start {
    /// With all objects as they are.
    Now,
    /// After a revision.
    After(Revision),
}

/// Objects of one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// In order of their keys.
    pub objects: Vec<Arc<Object>>,
    /// Everything up to here is in it.
    pub revision: Revision,
}

/// A watcher's end.
#[derive(Debug)]
pub struct Subscription {
    /// What there was, when asked to start with it.
    pub initial: Snapshot,
    /// Past changes to deliver first.
    pub replay: VecDeque<Arc<Live>>,
    /// Changes as they happen. Closed when the watcher fell behind or the cache was reset.
    pub live: mpsc::Receiver<Arc<Live>>,
}

#[derive(Debug)]
struct Slot {
    scope: Box<str>,
    queue: mpsc::Sender<Arc<Live>>,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Cold,
    Loading(Vec<Event>),
    Ready,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    objects: BTreeMap<Arc<str>, Arc<Object>>,
    ring: VecDeque<Arc<Change>>,
    ring_bytes: usize,
    /// Changes after this revision are in the ring.
    oldest: Revision,
    /// Newest revision seen by this cache.
    newest: Revision,
    watchers: Vec<Slot>,
}

/// Called with every change, the first load's objects included, before readers see it.
pub type Hook = Box<dyn Fn(&Change) + Send + Sync>;

/// One folder.
pub struct Cache {
    prefix: String,
    state: RwLock<State>,
    hooks: OnceLock<Hook>,
    pub(super) loaded: tokio::sync::Mutex<()>,
}

impl Cache {
    /// Of the keys under `prefix` (with its trailing slash).
    pub fn new(prefix: String) -> Self {
        Self {
            prefix,
            state: RwLock::default(),
            hooks: OnceLock::new(),
            loaded: tokio::sync::Mutex::default(),
        }
    }

    /// The folder, with its trailing slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The full key of an object.
    pub fn full_key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Sets what follows this folder's changes; only the first one is taken.
    pub fn on_change(&self, hook: Hook) {
        if self.hooks.set(hook).is_err() {
            tracing::error!(folder = self.prefix, "a second hook was refused");
        }
    }

    fn tell(&self, change: &Change) {
        if let Some(hook) = self.hooks.get() {
            hook(change);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether it has been loaded.
    pub fn is_ready(&self) -> bool {
        matches!(self.read().phase, Phase::Ready)
    }

    pub(super) fn begin_loading(&self) {
        let mut state = self.write();
        state.phase = Phase::Loading(Vec::new());
        state.watchers.clear();
    }

    pub(super) fn abort_loading(&self) {
        self.write().phase = Phase::Cold;
    }

    pub(super) fn finish_loading(&self, revision: Revision, kvs: Vec<KeyValue>) {
        let mut state = self.write();
        let before = std::mem::take(&mut state.objects);
        state.objects =
            kvs.into_iter().filter_map(|kv| self.object(kv)).map(|o| (o.key.clone(), o)).collect();
        self.tell_loaded(&state.objects, before, revision);
        state.ring.clear();
        state.ring_bytes = 0;
        state.oldest = revision;
        state.newest = revision;
        let Phase::Loading(held) = std::mem::replace(&mut state.phase, Phase::Ready) else { return };
        for event in held {
            self.apply_one(&mut state, event);
        }
    }

    fn tell_loaded(
        &self,
        objects: &BTreeMap<Arc<str>, Arc<Object>>,
        mut before: BTreeMap<Arc<str>, Arc<Object>>,
        revision: Revision,
    ) {
        for (key, object) in objects {
            let old = before.remove(key);
            self.tell(&Change { revision, key: key.clone(), new: Some(object.clone()), old });
        }
        for (key, old) in before {
            self.tell(&Change { revision, key, new: None, old: Some(old) });
        }
    }

    fn object(&self, kv: KeyValue) -> Option<Arc<Object>> {
        let key = kv.key.strip_prefix(&self.prefix)?;
        Some(Arc::new(Object { key: key.into(), revision: kv.mod_revision, bytes: kv.value }))
    }

    pub(super) fn apply(&self, events: impl Iterator<Item = Event>) {
        let mut state = self.write();
        for event in events {
            self.apply_one(&mut state, event);
        }
    }

    fn apply_one(&self, state: &mut State, event: Event) {
        match &mut state.phase {
            Phase::Cold => return,
            Phase::Loading(held) => {
                held.push(event);
                return;
            }
            Phase::Ready => {}
        }
        let revision = match &event {
            Event::Put { kv, .. } => kv.mod_revision,
            Event::Delete { revision, .. } => *revision,
        };
        if revision <= state.oldest {
            return; // already in what was loaded
        }
        let change = match event {
            Event::Put { kv, .. } => {
                let Some(object) = self.object(kv) else { return };
                let old = state.objects.insert(object.key.clone(), object.clone());
                Change { revision, key: object.key.clone(), new: Some(object), old }
            }
            Event::Delete { key, .. } => {
                let Some(key) = key.strip_prefix(&self.prefix) else { return };
                let Some((key, old)) = state.objects.remove_entry(key) else { return };
                Change { revision, key, new: None, old: Some(old) }
            }
        };
        self.tell(&change);
        state.newest = revision;
        state.publish(Arc::new(change));
    }

    /// One object.
    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.read().objects.get(key).cloned()
    }

    /// How many objects there are under a scope (a key prefix; empty: all).
    pub fn count(&self) -> usize {
        self.read().objects.len()
    }

    /// The newest revision that changed something here.
    pub fn newest(&self) -> Revision {
        self.read().newest
    }

    /// The objects whose keys start with `scope`, from `from` on; `applied`: what the feed has delivered.
    pub fn snapshot(&self, scope: &str, from: &str, applied: Revision) -> Snapshot {
        let state = self.read();
        Snapshot { objects: state.range(scope, from), revision: applied.max(state.newest) }
    }

    /// Starts a watch of the keys under `scope`.
    pub fn subscribe(&self, scope: &str, start: Start, applied: Revision) -> Result<Subscription, TooOld> {
        let mut state = self.write();
        let revision = applied.max(state.newest);
        let (objects, replay) = match start {
            Start::Now => (state.range(scope, ""), VecDeque::new()),
            Start::After(after) => {
                if after < state.oldest {
                    return Err(TooOld { oldest: state.oldest });
                }
                let past = state.ring.iter().filter(|c| c.revision > after && c.key.starts_with(scope));
                (Vec::new(), past.cloned().map(Live::new).collect())
            }
        };
        let (queue, live) = mpsc::channel(QUEUE);
        state.watchers.retain(|slot| !slot.queue.is_closed());
        state.watchers.push(Slot { scope: scope.into(), queue });
        Ok(Subscription { initial: Snapshot { objects, revision }, replay, live })
    }
}

impl State {
    fn range(&self, scope: &str, from: &str) -> Vec<Arc<Object>> {
        let start = if from > scope { from } else { scope };
        self.objects
            .range::<str, _>((Bound::Included(start), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(scope))
            .map(|(_, object)| object.clone())
            .collect()
    }

    fn publish(&mut self, change: Arc<Change>) {
        self.ring_bytes += change.weight();
        self.ring.push_back(change.clone());
        while self.ring.len() > RING_CHANGES || (self.ring_bytes > RING_BYTES && self.ring.len() > 16) {
            if let Some(gone) = self.ring.pop_front() {
                self.ring_bytes -= gone.weight();
                self.oldest = gone.revision;
            }
        }
        if self.watchers.is_empty() {
            return;
        }
        let live = Live::new(change);
        // A full queue cuts its watcher off: it must list again, and nobody waits for it.
        self.watchers.retain(|slot| {
            !live.change.key.starts_with(&*slot.scope) || slot.queue.try_send(live.clone()).is_ok()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, revision: Revision) -> Event {
        let kv = KeyValue {
            key: format!("/registry/x/{key}"),
            value: Bytes::from(revision.to_string()),
            create_revision: revision,
            mod_revision: revision,
            lease: 0,
        };
        Event::Put { kv, prev: None }
    }

    fn delete(key: &str, revision: Revision) -> Event {
        Event::Delete { key: format!("/registry/x/{key}"), revision, prev: None }
    }

    fn ready() -> Cache {
        let cache = Cache::new("/registry/x/".to_owned());
        cache.begin_loading();
        cache.finish_loading(10, Vec::new());
        cache
    }

    fn seen(live: &mut mpsc::Receiver<Arc<Live>>) -> Vec<Revision> {
        std::iter::from_fn(|| live.try_recv().ok()).map(|l| l.change.revision).collect()
    }

    #[test]
    fn a_watch_replays_what_came_after_its_revision_and_then_follows() {
        let cache = ready();
        cache.apply([put("a/1", 11), put("b/1", 12), put("a/2", 13)].into_iter());
        let mut sub = cache.subscribe("a/", Start::After(11), 13).unwrap();
        assert_eq!(sub.replay.iter().map(|l| l.change.revision).collect::<Vec<_>>(), [13]);
        cache.apply([delete("a/1", 14), put("b/2", 15)].into_iter());
        assert_eq!(seen(&mut sub.live), [14]);
    }

    #[test]
    fn a_revision_older_than_the_ring_is_refused() {
        let cache = ready();
        assert!(cache.subscribe("", Start::After(10), 10).is_ok());
        assert_eq!(cache.subscribe("", Start::After(9), 10).unwrap_err().oldest, 10);
        cache.apply((0..RING_CHANGES as i64 + 5).map(|n| put("a/1", 11 + n)));
        assert_eq!(cache.subscribe("", Start::After(14), 10).unwrap_err().oldest, 15);
    }

    #[test]
    fn a_slow_watcher_is_cut_off_and_holds_up_nobody() {
        let cache = ready();
        let mut slow = cache.subscribe("", Start::Now, 10).unwrap();
        cache.apply((0..QUEUE as i64 + 1).map(|n| put("a/1", 11 + n)));
        assert_eq!(seen(&mut slow.live).len(), QUEUE);
        assert!(slow.live.is_closed());
    }

    #[test]
    fn what_happens_while_loading_is_not_lost_nor_seen_twice() {
        let cache = Cache::new("/registry/x/".to_owned());
        cache.begin_loading();
        cache.apply([put("a/1", 9), put("a/2", 12)].into_iter());
        let Event::Put { kv, .. } = put("a/1", 9) else { unreachable!() };
        cache.finish_loading(10, vec![kv]);
        let snapshot = cache.snapshot("", "", 0);
        assert_eq!(snapshot.revision, 12);
        assert_eq!(snapshot.objects.iter().map(|o| o.revision).collect::<Vec<_>>(), [9, 12]);
    }
}
