//! Which logs there are, and whose turn it is.
//!
//! Guarantees: only logs of running containers are rotated, at most `containerLogMaxWorkers` at a time; a log whose
//! file is missing while its container runs (a crash in the middle of a rotation) is opened again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coracle_client::report;
use coracle_cri::RuntimeHandle;
use futures::StreamExt;
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::growth;
use super::links::{self, Links, Wanted};
use super::rotate::{RotationError, rotate};
use crate::config::{LogSettings, Paths};
use crate::observe::State;
use crate::pod;
use crate::worker::Roster;

/// What the rotator needs.
#[derive(Clone)]
pub struct RotatorDeps {
    /// Who writes the logs.
    pub runtime: RuntimeHandle,
    /// Whose logs there are.
    pub roster: Arc<Roster>,
    /// Sizes and numbers.
    pub settings: LogSettings,
    /// Where logs lie.
    pub paths: Paths,
}

/// One container's log.
struct Log {
    path: PathBuf,
    care: Care,
}

/// How much care a log wants.
enum Care {
    /// None until the kernel says that it was written to. It had this size.
    Asleep(WatchDescriptor, u64),
    /// A look at this time. It had this size at that time, where that is known.
    Awake { due: Instant, last: Option<(u64, Instant)> },
    /// It is being rotated.
    Busy,
}

struct Rotator {
    deps: RotatorDeps,
    /// None: logs are linked, and not rotated.
    max: Option<u64>,
    links: Links,
    logs: BTreeMap<String, Log>,
    events: Option<EventStream<[u8; 4096]>>,
    works: JoinSet<(String, Result<(), RotationError>)>,
    turns: Arc<Semaphore>,
}

/// Links logs, and rotates them unless the kubelet was told not to, until `token` is cancelled.
pub async fn run(deps: RotatorDeps, token: CancellationToken) {
    let max = deps.settings.max_size;
    let links = Links::new(links::folder(&deps.paths.pod_logs));
    let events = Inotify::init().and_then(|it| it.into_event_stream([0; 4096]));
    if let Err(err) = &events {
        tracing::info!(error = %err, "no watches: logs are looked at in turn");
    }
    let changes = deps.roster.container_changes();
    let turns = Arc::new(Semaphore::new(usize::try_from(deps.settings.max_workers).unwrap_or(1).max(1)));
    let (logs, works) = (BTreeMap::new(), JoinSet::new());
    let mut rotator = Rotator { deps, max, links, logs, events: events.ok(), works, turns };
    rotator.reconcile();
    loop {
        rotator.look();
        let next = rotator.next_look();
        // Each arm only waits; what it woke us for is looked up afterwards.
        tokio::select! {
            () = token.cancelled() => return,
            () = changes.notified() => rotator.reconcile(),
            event = next_event(&mut rotator.events) => rotator.written(event),
            Some(done) = rotator.works.join_next() => rotator.finished(done),
            () = sleep_until(next) => {}
        }
    }
}

/// What the kernel says: the watch that fired; none when events were lost.
async fn next_event(events: &mut Option<EventStream<[u8; 4096]>>) -> Option<WatchDescriptor> {
    let Some(stream) = events else { return std::future::pending().await };
    loop {
        match stream.next().await {
            Some(Ok(event)) if event.mask.contains(EventMask::IGNORED) => {}
            Some(Ok(event)) if event.mask.contains(EventMask::Q_OVERFLOW) => return None,
            Some(Ok(event)) => return Some(event.wd),
            Some(Err(_)) | None => {
                *events = None;
                return None;
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Rotator {
    /// The logs of containers that run are ours, no others; links are for all that have ever run.
    fn reconcile(&mut self) {
        let mut wanted: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut linked: BTreeMap<String, Wanted> = BTreeMap::new();
        for entry in self.deps.roster.entries() {
            let published = entry.published();
            if pod::name(&published.pod).is_empty() {
                continue;
            }
            let (namespace, name) = (pod::namespace(&published.pod), pod::name(&published.pod));
            let folder = self.deps.paths.pod_log_dir(namespace, name, &entry.uid);
            for it in published.seen.containers.iter().filter(|it| it.state != State::Created) {
                let log = folder.join(Paths::container_log(&it.name, it.restart_count));
                if it.state == State::Running && self.max.is_some() {
                    wanted.insert(it.id.clone(), log.clone());
                }
                let name = links::link_name(namespace, name, &it.name, &it.id);
                linked.insert(it.id.clone(), Wanted { name, log });
            }
        }
        self.links.reconcile(&linked);
        let gone: Vec<String> = self.logs.keys().filter(|it| !wanted.contains_key(*it)).cloned().collect();
        for id in gone {
            if let Some(Log { care: Care::Asleep(watch, _), .. }) = self.logs.remove(&id) {
                self.forget(watch);
            }
        }
        for (id, path) in wanted {
            let care = Care::Awake { due: Instant::now(), last: None };
            self.logs.entry(id).or_insert(Log { path, care });
        }
    }

    fn forget(&mut self, watch: WatchDescriptor) {
        if let Some(events) = &self.events {
            // The file may be gone, and its watch with it.
            let _ = events.watches().remove(watch);
        }
    }

    fn next_look(&self) -> Option<Instant> {
        let due = |it: &Log| match it.care {
            Care::Awake { due, .. } => Some(due),
            Care::Asleep(..) | Care::Busy => None,
        };
        self.logs.values().filter_map(due).min()
    }

    /// A log that slept was written to; without a name, any of them may have been.
    fn written(&mut self, watch: Option<WatchDescriptor>) {
        let due = Instant::now() + growth::first_look(self.deps.settings.monitor_interval);
        for log in self.logs.values_mut() {
            if let Care::Asleep(of, size) = &log.care
                && watch.as_ref().is_none_or(|it| it == of)
            {
                log.care = Care::Awake { due, last: Some((*size, Instant::now())) };
            }
        }
    }

    /// Looks at every log whose time has come.
    fn look(&mut self) {
        let now = Instant::now();
        let is_due = |it: &Log| matches!(it.care, Care::Awake { due, .. } if due <= now);
        let due: Vec<String> =
            self.logs.iter().filter(|(_, it)| is_due(it)).map(|(id, _)| id.clone()).collect();
        for id in due {
            let Some(log) = self.logs.get(&id) else { continue };
            let Care::Awake { last, .. } = log.care else { continue };
            let path = log.path.clone();
            let care = match size_of(&path) {
                None => self.work(&id, &path, None),
                Some(size) if self.max.is_some_and(|max| size >= max) => {
                    self.work(&id, &path, Some(self.deps.settings.max_files))
                }
                Some(size) => self.rest(&path, size, last, now),
            };
            if let Some(log) = self.logs.get_mut(&id) {
                log.care = care;
            }
        }
    }

    /// A log that is not full: to sleep if it stands still, else looked at again.
    fn rest(&mut self, path: &Path, size: u64, last: Option<(u64, Instant)>, now: Instant) -> Care {
        let interval = self.deps.settings.monitor_interval;
        let awake = |wait: Duration| Care::Awake { due: now + wait, last: Some((size, now)) };
        if let Some((before, at)) = last
            && size != before
        {
            let grown = size.saturating_sub(before);
            let room = self.max.unwrap_or(u64::MAX).saturating_sub(size);
            return awake(growth::look_in(room, grown, now - at, interval));
        }
        let Some(events) = &self.events else { return awake(interval) };
        let Ok(watch) = events.watches().add(path, WatchMask::MODIFY | WatchMask::ONESHOT) else {
            return awake(interval); // the kernel has no more watches to give
        };
        // What was written between the look and the watch must not be missed.
        if size_of(path) == Some(size) {
            return Care::Asleep(watch, size);
        }
        self.forget(watch);
        awake(growth::first_look(interval))
    }

    /// Rotates a log, or has the runtime open it again where its file is missing.
    fn work(&mut self, id: &str, path: &Path, files: Option<u32>) -> Care {
        let (runtime, turns) = (self.deps.runtime.clone(), self.turns.clone());
        let (id, path) = (id.to_owned(), path.to_owned());
        self.works.spawn(async move {
            let Ok(_turn) = turns.acquire().await else { return (id, Ok(())) };
            let outcome = match files {
                Some(files) => rotate(&runtime, &id, &path, files).await,
                None => {
                    let reopened = runtime.reopen_container_log(&id).await;
                    reopened.map_err(|source| RotationError::Reopen { id: id.clone(), source })
                }
            };
            (id, outcome)
        });
        Care::Busy
    }

    fn finished(&mut self, done: Result<(String, Result<(), RotationError>), tokio::task::JoinError>) {
        let Ok((id, outcome)) = done else { return };
        let Some(log) = self.logs.get_mut(&id) else { return };
        let interval = self.deps.settings.monitor_interval;
        let wait = match &outcome {
            Ok(()) if log.path.exists() => growth::first_look(interval),
            Ok(()) => interval,
            Err(err) => {
                tracing::warn!(container = id, log = %log.path.display(), error = %report(err), "log not rotated");
                interval
            }
        };
        // Without a former size: a file that stands still goes to sleep at the next look.
        log.care = Care::Awake { due: Instant::now() + wait, last: None };
    }
}

fn size_of(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|it| it.len())
}
