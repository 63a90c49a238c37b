//! All workers of this node.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::action::Stage;
use super::inbox::Inbox;
use super::resize::Pending;
pub use super::run::Common;
use super::run::Worker;
use crate::observe::Observed;
use crate::pod;
use crate::timeline::Timeline;

/// What a pod that nobody wants gets: upstream's one second.
const ORPHAN_GRACE: Duration = Duration::from_secs(1);

/// One pod's place in the roster.
pub struct Entry {
    /// The pod's uid.
    pub uid: String,
    /// Wakes its worker.
    pub inbox: Inbox,
    /// What happened to it.
    pub timeline: Arc<Timeline>,
    published: RwLock<Published>,
    /// Told when containers begin or end.
    changes: Arc<tokio::sync::Notify>,
    /// Its source does not have it any more.
    gone: AtomicBool,
}

/// What a worker shows of its pod.
#[derive(Debug, Clone)]
pub struct Published {
    /// The pod as its source has it.
    pub pod: Arc<Pod>,
    /// Its status as it should be.
    pub status: Arc<PodStatus>,
    /// What the runtime has of it.
    pub seen: Arc<Observed>,
    /// How it stands.
    pub stage: Stage,
}

/// All workers of this node. Starts one for each pod, and forgets it when nothing of the pod is left.
pub struct Roster {
    common: Common,
    tracker: TaskTracker,
    token: CancellationToken,
    state: Mutex<State>,
    ended: tokio::sync::Notify,
    changes: Arc<tokio::sync::Notify>,
}

#[derive(Default)]
struct State {
    entries: HashMap<String, Arc<Entry>>,
    /// Pods whose worker is done while their object is still there (a finalizer holds it).
    done: HashSet<String>,
    /// What the runtime had at start, for those that have no worker yet.
    found: BTreeMap<String, Observed>,
    /// Static pods that wait for an older one of the same name to end.
    waiting: Vec<Arc<Pod>>,
    /// Mirrors of static pods, whether or not their worker has begun.
    mirrors: HashMap<String, Arc<Pod>>,
    /// All sources have told what they have: who is not known now is an orphan.
    synced: bool,
}

impl Entry {
    fn new(uid: &str, pod: Arc<Pod>, seen: Observed, changes: Arc<tokio::sync::Notify>) -> Arc<Self> {
        let status = Arc::new(pod.status.clone().unwrap_or_default());
        let published = Published { pod, status, seen: Arc::new(seen), stage: Stage::Living };
        Arc::new(Self {
            uid: uid.to_owned(),
            inbox: Inbox::default(),
            timeline: Arc::default(),
            published: RwLock::new(published),
            changes,
            gone: AtomicBool::new(false),
        })
    }

    /// What the worker shows.
    pub fn published(&self) -> Published {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn publish(&self, published: Published) {
        let mut now = self.published.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&now.seen, &published.seen) && now.seen.outline() != published.seen.outline() {
            self.changes.notify_one();
        }
        *now = published;
    }
}

impl Roster {
    /// No workers yet; `found` is what the runtime had at start.
    pub fn new(common: Common, found: BTreeMap<String, Observed>, token: CancellationToken) -> Arc<Self> {
        let state = Mutex::new(State { found, ..State::default() });
        Arc::new(Self {
            common,
            tracker: TaskTracker::new(),
            token,
            state,
            ended: tokio::sync::Notify::new(),
            changes: Arc::default(),
        })
    }

    /// A pod is new, or changed. Starts its worker, or tells it.
    pub fn put(self: &Arc<Self>, new: Arc<Pod>) {
        self.take(new, |_| {});
    }

    /// The same for a pod that shows other resources than it wants, and why.
    pub fn put_pending(self: &Arc<Self>, new: Arc<Pod>, pending: Option<Pending>) {
        self.take(new, |inbox| inbox.pending(pending));
    }

    /// `first` is put into its inbox beside the pod.
    fn take(self: &Arc<Self>, new: Arc<Pod>, first: impl FnOnce(&Inbox)) {
        let mut state = self.lock();
        let uid = pod::uid(&new).to_owned();
        if let Some(entry) = state.entries.get(&uid) {
            entry.gone.store(false, Ordering::Relaxed);
            first(&entry.inbox);
            return entry.inbox.update(new);
        }
        if state.done.contains(&uid) {
            return;
        }
        let held = pod::is_static(&new)
            && state.entries.values().any(|it| pod::key(&it.published().pod) == pod::key(&new));
        if held {
            return state.waiting.push(new);
        }
        self.start(&mut state, new, first);
    }

    /// A pod that the node refuses: it fails before anything is begun for it.
    pub fn refuse(self: &Arc<Self>, new: Arc<Pod>, reason: &str, message: &str) {
        self.take(new, |inbox| inbox.fail(reason, message));
    }

    /// The source does not have the pod any more.
    pub fn remove(&self, uid: &str, grace: Duration) {
        let mut state = self.lock();
        state.waiting.retain(|it| pod::uid(it) != uid);
        state.done.remove(uid);
        state.mirrors.remove(uid);
        if let Some(entry) = state.entries.get(uid) {
            entry.gone.store(true, Ordering::Relaxed);
            entry.inbox.gone(grace);
        }
    }

    /// The API has told all that it has: who ended here and is not among them will not be told of again.
    pub fn forget_done(&self, is_known: impl Fn(&str) -> bool) {
        self.lock().done.retain(|uid| is_known(uid));
    }

    /// All sources have told what they have. Who is in the runtime and not known is torn down.
    pub fn sources_synced(self: &Arc<Self>) {
        let found = {
            let mut state = self.lock();
            state.synced = true;
            std::mem::take(&mut state.found)
        };
        self.adopt_orphans(found);
    }

    /// Tears down what no source knows; only once the sources have told what they have.
    pub fn adopt_orphans(self: &Arc<Self>, found: BTreeMap<String, Observed>) {
        let mut state = self.lock();
        if !state.synced {
            return;
        }
        for (uid, seen) in found {
            if seen.is_empty() || state.entries.contains_key(&uid) {
                continue;
            }
            tracing::info!(uid, "a pod of the runtime has no source: tearing it down");
            self.common.tools.metrics.orphan();
            state.found.insert(uid.clone(), seen);
            let metadata = ObjectMeta { uid: Some(uid.clone()), ..ObjectMeta::default() };
            let orphan = Arc::new(Pod { metadata, ..Pod::default() });
            self.start(&mut state, orphan, |inbox| inbox.gone(ORPHAN_GRACE));
        }
    }

    /// Starts a worker; `first` is what it finds in its inbox.
    fn start(self: &Arc<Self>, state: &mut State, pod: Arc<Pod>, first: impl FnOnce(&Inbox)) {
        let uid = pod::uid(&pod).to_owned();
        let seen = state.found.remove(&uid).unwrap_or_default();
        let entry = Entry::new(&uid, pod.clone(), seen.clone(), self.changes.clone());
        first(&entry.inbox);
        if let Some(mirror) = state.mirrors.get(&uid) {
            entry.inbox.mirror(Some(mirror.clone()));
        }
        state.entries.insert(uid, entry.clone());
        let worker = Worker::new(self.common.clone(), entry.clone(), pod, seen);
        let (roster, token) = (self.clone(), self.token.clone());
        self.tracker.spawn(async move {
            worker.run(token.clone()).await;
            if !token.is_cancelled() {
                roster.finished(&entry);
            }
        });
    }

    fn finished(self: &Arc<Self>, entry: &Entry) {
        let mut state = self.lock();
        state.entries.remove(&entry.uid);
        let pod = entry.published().pod;
        // The source may have said already that it is gone: nobody would ever take it out again.
        if pod.metadata.deletion_timestamp.is_some() && !entry.gone.load(Ordering::Relaxed) {
            state.done.insert(entry.uid.clone());
        }
        let key = pod::key(&pod);
        if let Some(next) = state.waiting.iter().position(|it| pod::key(it) == key) {
            let next = state.waiting.remove(next);
            self.start(&mut state, next, |_| {});
        }
        self.changes.notify_one();
        self.ended.notify_waiters();
    }

    /// A static pod's mirror changed, or went.
    pub fn mirror(&self, uid: &str, mirror: Option<Arc<Pod>>) {
        let mut state = self.lock();
        match mirror.clone() {
            Some(mirror) => state.mirrors.insert(uid.to_owned(), mirror),
            None => state.mirrors.remove(uid),
        };
        if let Some(entry) = state.entries.get(uid) {
            entry.inbox.mirror(mirror);
        }
    }

    /// Told (one waiter at a time) when containers of any pod begin or end, as seen from [`Roster::entries`].
    pub fn container_changes(&self) -> Arc<tokio::sync::Notify> {
        self.changes.clone()
    }

    /// The pod of this uid.
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Entry>> {
        self.lock().entries.get(uid).cloned()
    }

    /// The pod of this name; of several the newest.
    pub fn by_name(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        let named = |it: &Arc<Entry>| {
            let pod = it.published().pod;
            pod::namespace(&pod) == namespace && pod::name(&pod) == name
        };
        let entries = self.entries();
        entries
            .into_iter()
            .filter(named)
            .max_by_key(|it| it.published().pod.metadata.creation_timestamp.clone())
    }

    /// All of them.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.lock().entries.values().cloned().collect()
    }

    pub(crate) fn metrics(&self) -> &crate::metrics::Metrics {
        &self.common.tools.metrics
    }

    /// Whether the runtime has, or may have, something of this pod: its folders are not to be touched.
    pub fn knows(&self, uid: &str) -> bool {
        let state = self.lock();
        state.entries.contains_key(uid) || state.found.contains_key(uid)
    }

    /// Tells every worker to leave its pod alone; containers go on.
    pub fn stop(&self) {
        self.token.cancel();
    }

    /// Waits until every worker has let go.
    pub async fn drain(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
