//! Puts the sources together: what the API server and the folder say becomes workers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Change, Informer, Params, Store, Subscription};
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::{admit, admit_sysctls};
use super::files::{self, Found};
use super::manifest::Origin;
use super::{mirror, resize, web};
use crate::config::KubeletConfig;
use crate::metrics::Metrics;
use crate::pod;
use crate::worker::resize as allocation;
use crate::worker::{Pending, Roster};

/// Between attempts to write mirror pods.
const RETRY: Duration = Duration::from_secs(10);

/// What the sources need.
#[derive(Clone)]
pub struct SourceDeps {
    /// The configuration.
    pub config: Arc<KubeletConfig>,
    /// The API server; none: only the folder.
    pub client: Option<kube::Client>,
    /// The workers.
    pub roster: Arc<Roster>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Whether the machine is going down: no pod is taken then.
    pub shutting_down: watch::Receiver<bool>,
}

/// The sources of one kubelet.
pub struct Sources {
    deps: SourceDeps,
    pods: Option<Informer<Pod>>,
    node: Option<Informer<Node>>,
    changes: Option<Subscription<Pod>>,
    statics: Found,
    /// What each source of static pods has told last; none: it has not told yet.
    told: BTreeMap<Origin, Option<Found>>,
    api_read: bool,
    /// Pods that have other resources than they want, or had for a time: what they were allocated.
    resizes: BTreeMap<String, Resize>,
    synced: watch::Sender<bool>,
}

/// What a pod that is resized was allocated.
struct Resize {
    /// The pod with its allocated resources.
    allocated: Arc<Pod>,
    /// Why it has not what it wants.
    pending: Option<Pending>,
}

impl Sources {
    /// Begins to watch. Tasks belong to `tracker` and end with `token`.
    pub fn start(deps: SourceDeps, tracker: &TaskTracker, token: &CancellationToken) -> Self {
        let name = &deps.config.node.name;
        let pods = deps.client.clone().map(|client| {
            let params = Params::<Pod>::all().fields(format!("spec.nodeName={name}"));
            Informer::start(kube::Api::<Pod>::all(client), params, tracker, token.clone())
        });
        let node = deps.client.clone().map(|client| {
            let params = Params::<Node>::all().fields(format!("metadata.name={name}"));
            Informer::start(kube::Api::<Node>::all(client), params, tracker, token.clone())
        });
        let changes = pods.as_ref().map(Informer::subscribe);
        let sources = &deps.config.sources;
        let file = sources.static_pod_path.is_some().then_some(Origin::File);
        let web = sources.static_pod_url.is_some().then_some(Origin::Web);
        Self {
            told: file.into_iter().chain(web).map(|it| (it, None)).collect(),
            api_read: pods.is_none(),
            deps,
            pods,
            node,
            changes,
            statics: Found::new(),
            resizes: BTreeMap::new(),
            synced: watch::Sender::new(false),
        }
    }

    /// Becomes true when every source has told what it has.
    pub fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// Passes on what the sources say until `token` is cancelled.
    pub async fn run(mut self, tracker: &TaskTracker, token: CancellationToken) {
        let (sender, mut found) = mpsc::channel(1);
        let (sources, node) = (&self.deps.config.sources, &self.deps.config.node.name);
        if let Some(path) = sources.static_pod_path.clone() {
            let period = sources.file_check.max(Duration::from_secs(1));
            tracker.spawn(files::watch(path, node.clone(), period, sender.clone(), token.clone()));
        }
        if let Some(url) = sources.static_pod_url.clone() {
            let headers = sources.static_pod_url_headers.clone();
            let page = web::Page { url, headers, node: node.clone() };
            let period = sources.http_check.max(Duration::from_secs(1));
            tracker.spawn(web::watch(page, period, sender.clone(), token.clone()));
        }
        drop(sender);
        let mut mirrors_due = false;
        let mut changes = self.changes.take();
        self.check_synced();
        loop {
            // Each arm only waits: what is dropped has had no effect yet.
            tokio::select! {
                () = token.cancelled() => return,
                Some((origin, now)) = found.recv() => {
                    self.told.insert(origin, Some(now));
                    self.statics_now();
                    mirrors_due = true;
                }
                change = next(&mut changes) => match change {
                    Some(change) => mirrors_due |= self.api(&change),
                    None => changes = None,
                },
                () = tokio::time::sleep(RETRY), if mirrors_due && self.api_read => {}
            }
            self.check_synced();
            if mirrors_due && self.api_read && self.statics_read() {
                mirrors_due = !self.mirrors().await;
            }
        }
    }

    fn statics_read(&self) -> bool {
        self.told.values().all(Option::is_some)
    }

    fn check_synced(&mut self) {
        if self.api_read && self.statics_read() && !*self.synced.borrow() {
            self.deps.roster.sources_synced();
            self.synced.send_replace(true);
        }
    }

    fn store(&self) -> Option<Store<Pod>> {
        self.pods.as_ref().map(Informer::store)
    }

    /// A change in the API. True when mirrors are to be looked at.
    fn api(&mut self, change: &Change<Pod>) -> bool {
        let mirrors_due = self.take(change);
        self.retry_deferred();
        mirrors_due
    }

    fn take(&mut self, change: &Change<Pod>) -> bool {
        match change {
            Change::Added(pod) => self.put(pod),
            Change::Updated { old, new } => {
                if pod::uid(old) != pod::uid(new) {
                    self.gone(old);
                }
                self.put(new)
            }
            Change::Deleted(pod) => self.gone(pod),
            Change::Resync => {
                let all = self.store().map(|it| it.list()).unwrap_or_default();
                let known: BTreeMap<&str, &Arc<Pod>> = all.iter().map(|it| (pod::uid(it), it)).collect();
                for entry in self.deps.roster.entries() {
                    let pod = entry.published().pod;
                    if !pod::is_static(&pod)
                        && !pod::name(&pod).is_empty()
                        && !known.contains_key(pod::uid(&pod))
                    {
                        self.deps.roster.remove(pod::uid(&pod), pod::grace(&pod));
                    }
                }
                self.deps.roster.forget_done(|uid| known.contains_key(uid));
                self.resizes.retain(|uid, _| known.contains_key(uid.as_str()));
                let mut sorted: Vec<&Arc<Pod>> = all.iter().collect();
                // Older ones first: they were here first.
                sorted.sort_by_key(|it| it.metadata.creation_timestamp.clone());
                for pod in sorted {
                    self.put(pod);
                }
                self.api_read = true;
                true
            }
        }
    }

    fn gone(&mut self, pod: &Arc<Pod>) -> bool {
        if pod::is_mirror(pod) {
            self.tell_mirror(pod, None);
            return true;
        }
        self.resizes.remove(pod::uid(pod));
        self.deps.roster.remove(pod::uid(pod), pod::grace(pod));
        false
    }

    fn put(&mut self, new: &Arc<Pod>) -> bool {
        if pod::is_mirror(new) {
            self.tell_mirror(new, Some(new.clone()));
            return true;
        }
        self.admit(new.clone());
        false
    }

    fn tell_mirror(&self, named: &Pod, mirror: Option<Arc<Pod>>) {
        let of = self.statics.values().find(|it| pod::key(it) == pod::key(named));
        if let Some(of) = of {
            let mirror = mirror.filter(|it| mirror::shows(it, of));
            self.deps.roster.mirror(pod::uid(of), mirror);
        }
    }

    /// The static pods as all their sources have them now.
    fn statics_now(&mut self) {
        let now: Found = self.told.values().flatten().flat_map(Found::clone).collect();
        for (uid, pod) in &self.statics {
            if !now.contains_key(uid) {
                self.deps.roster.remove(uid, pod::grace(pod));
            }
        }
        for (uid, pod) in &now {
            if !self.statics.contains_key(uid) {
                self.admit(Arc::new(pod.clone()));
            }
        }
        self.statics = now;
    }

    /// A pod for this node: taken or refused once, then only kept up to date.
    fn admit(&mut self, new: Arc<Pod>) {
        let roster = self.deps.roster.clone();
        if roster.by_uid(pod::uid(&new)).is_some() || !is_fresh(&new) {
            let (allocated, pending) = self.allocate(new);
            return roster.put_pending(allocated, pending);
        }
        let others = self.others(pod::uid(&new));
        let node = self.node();
        let max_pods = i64::from(self.deps.config.node.max_pods);
        let answer = match &node {
            Some(node) => admit(&new, others.iter().map(AsRef::as_ref), node, max_pods),
            None => admit(&new, others.iter().map(AsRef::as_ref), &Node::default(), max_pods),
        };
        let answer =
            if *self.deps.shutting_down.borrow() { Err(super::admission::shutting_down()) } else { answer };
        let answer = answer.and_then(|()| admit_sysctls(&new, &self.deps.config.pods.allowed_unsafe_sysctls));
        match answer {
            Ok(()) => roster.put(new),
            // Without the node's labels there is nothing to compare with: the scheduler's word stands.
            Err(refusal) if node.is_none() && refusal.reason == "NodeAffinity" => roster.put(new),
            Err(refusal) => {
                let key = pod::key(&new);
                tracing::info!(pod = key, reason = refusal.reason, "this node does not take the pod");
                self.deps.metrics.refused(&refusal.reason);
                roster.refuse(new, &refusal.reason, &refusal.message);
            }
        }
    }

    /// The pods that count on this node, but for one.
    fn others(&self, uid: &str) -> Vec<Arc<Pod>> {
        let entries = self.deps.roster.entries();
        let others = entries.iter().filter(|it| it.uid != uid).map(|it| it.published());
        others
            .filter(|it| !matches!(it.status.phase.as_deref(), Some("Succeeded" | "Failed")))
            .filter(|it| !pod::name(&it.pod).is_empty())
            .map(|it| self.resizes.get(pod::uid(&it.pod)).map_or(it.pod, |resize| resize.allocated.clone()))
            .collect()
    }

    /// What a pod that is here may have of the resources that it wants: the pod as its worker is to see it.
    fn allocate(&mut self, wanted: Arc<Pod>) -> (Arc<Pod>, Option<Pending>) {
        let uid = pod::uid(&wanted).to_owned();
        let before = match (self.resizes.get(&uid), self.deps.roster.by_uid(&uid)) {
            (Some(resize), _) => resize.allocated.clone(),
            (None, Some(entry)) => entry.published().pod,
            // Of a pod that an earlier kubelet ran, its status says what it was allocated.
            (None, None) => Arc::new(allocation::with(&wanted, |name| allocation::remembered(&wanted, name))),
        };
        if !allocation::differs(&before, &wanted) {
            self.resizes.remove(&uid);
            return (wanted, None);
        }
        let over = wanted.metadata.deletion_timestamp.is_some() || pod::is_terminal(&wanted);
        let others = self.others(&uid);
        let node = self.node();
        let pending = match resize::decide(&wanted, others.iter().map(AsRef::as_ref), node.as_deref()) {
            _ if over => self.resizes.get(&uid).and_then(|it| it.pending.clone()),
            Ok(()) => {
                tracing::info!(pod = %pod::key(&wanted), "other resources allocated");
                self.resizes.insert(uid, Resize { allocated: wanted.clone(), pending: None });
                return (wanted, None);
            }
            Err(pending) => Some(pending),
        };
        let own = |name: &str| pod::container(&before, name).map(allocation::resources);
        let mut allocated = allocation::with(&wanted, own);
        if let (Some(spec), Some(before)) = (&mut allocated.spec, &before.spec) {
            spec.resources.clone_from(&before.resources);
        }
        let allocated = Arc::new(allocated);
        self.resizes.insert(uid, Resize { allocated: allocated.clone(), pending: pending.clone() });
        (allocated, pending)
    }

    /// Something has changed on the node: perhaps there is room now for those that wait for it.
    fn retry_deferred(&mut self) {
        let deferred = |it: &Resize| it.pending.as_ref().is_some_and(|it| it.reason == "Deferred");
        let waiting: Vec<Arc<Pod>> =
            self.resizes.values().filter(|it| deferred(it)).map(|it| it.allocated.clone()).collect();
        if waiting.is_empty() {
            return;
        }
        let Some(store) = self.store() else { return };
        for pod in waiting {
            let now = store.find(pod::namespace(&pod), pod::name(&pod));
            if let Some(now) = now.filter(|it| pod::uid(it) == pod::uid(&pod)) {
                self.admit(now);
            }
        }
    }

    fn node(&self) -> Option<Arc<Node>> {
        self.node.as_ref()?.store().list().into_iter().next()
    }

    /// Mirrors that are missing are made, those that show nothing are removed. True when all are as they should be.
    async fn mirrors(&self) -> bool {
        let (Some(client), Some(store)) = (&self.deps.client, self.store()) else { return true };
        let mirrors: Vec<Arc<Pod>> = store.list().into_iter().filter(|it| pod::is_mirror(it)).collect();
        let node = self.node();
        let mut done = true;
        for mirror in &mirrors {
            let of = self.statics.values().find(|it| pod::key(it) == pod::key(mirror));
            if of.is_some_and(|it| mirror::shows(mirror, it)) {
                continue;
            }
            if let Err(err) = mirror::delete(client, mirror).await {
                done = false;
                tracing::warn!(pod = %pod::key(mirror), error = err, "an old mirror pod is still there");
            }
        }
        for of in self.statics.values() {
            if mirrors.iter().any(|it| pod::key(it) == pod::key(of)) {
                continue; // of an older content: its end is told to us, then it is made anew
            }
            if let Err(err) = mirror::create(client, &Arc::new(of.clone()), node.as_deref()).await {
                done = false;
                tracing::warn!(pod = %pod::key(of), error = err, "no mirror of a static pod");
            }
        }
        done
    }
}

/// The node has not answered for this pod yet: nothing of it ever ran, and it is not on its way out.
fn is_fresh(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let ran = status.is_some_and(|it| it.container_statuses.is_some() || it.start_time.is_some());
    !ran && !pod::is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

async fn next(changes: &mut Option<Subscription<Pod>>) -> Option<Change<Pod>> {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}
