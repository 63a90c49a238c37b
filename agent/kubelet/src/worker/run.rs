//! The task of one pod.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::act::{Context, Hand, Tools};
use super::action::{Action, Cause, Plan, Stage, Waiting};
use super::api::ApiError;
use super::ending::{active_deadline, ending_of};
use super::facts::{Attempt, Busy, Ending, Facts, Failed, Memory, Subject};
use super::plan::plan;
use super::reason;
use super::report::{News, Problem, Report};
use super::resize::{self, Pending};
use super::roster::{Entry, Published};
use super::statuses::StatusKeeper;
use crate::clock;
use crate::events::Severity;
use crate::image::is_pull_failure;
use crate::observe::{ContainerSeen, ExitWatch, Observed};
use crate::pod;
use crate::probe::{Board, Kind, ProbeDeps, Probing};
use crate::status;
use crate::timeline;
use crate::translate::ImageFacts;

/// Waits between attempts: first and longest.
const QUICK: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
const SANDBOX: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
const IMAGE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
const NO_IMAGE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// Without any event, a pod is looked at this often all the same.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// A plan that wants to be woken at once is not: a lagging runtime must not make us spin.
const SHORTEST_SLEEP: Duration = Duration::from_millis(5);

/// What is the same for all workers of a node.
#[derive(Clone)]
pub struct Common {
    /// What to act with.
    pub tools: Tools,
    /// The node's addresses, primary first.
    pub node_ips: Vec<String>,
    /// The runtime's name, as container ids begin.
    pub runtime_name: String,
    /// The longest wait between restarts.
    pub max_backoff: Duration,
}

/// One pod's worker.
pub(super) struct Worker {
    common: Common,
    entry: Arc<Entry>,
    pod: Arc<Pod>,
    seen: Observed,
    memory: Memory,
    images: BTreeMap<String, ImageFacts>,
    waiting: BTreeMap<String, Waiting>,
    ending: Option<Ending>,
    gone: Option<Duration>,
    failed: Option<Failed>,
    /// Other resources are wanted that are not granted.
    pending: Option<Pending>,
    /// The resources that a container under way was made with, and those that the pod's cgroup was.
    launching: BTreeMap<String, ResourceRequirements>,
    mounting: Option<String>,
    status: StatusKeeper,
    board: Board,
    probing: Probing,
    works: JoinSet<Report>,
    handles: BTreeMap<Subject, AbortHandle>,
    watches: JoinSet<()>,
    watched: BTreeMap<String, AbortHandle>,
    first_seen: Instant,
    pulled_for: Duration,
    ran: bool,
    /// Whether the table can be trusted: Due, a look is wanted; Failed, the runtime did not answer.
    look: Attempt,
    looking: bool,
    /// Whether all that the runtime has of the pod was ever looked at: of what was adopted, the list that we were given
    /// knows neither addresses nor exits, and a status made from it would take them away.
    looked: bool,
    /// How many actions have reported: a look that began before the last one is stale.
    reports: u64,
}

impl Worker {
    pub fn new(common: Common, entry: Arc<Entry>, pod: Arc<Pod>, seen: Observed) -> Self {
        let board = Board::new(entry.inbox.wake());
        adopt_readiness(&board, &pod);
        let deps = ProbeDeps {
            runtime: common.tools.runtime.clone(),
            events: common.tools.events.clone(),
            metrics: common.tools.metrics.clone(),
            node_ip: common.node_ips.first().cloned(),
        };
        let ran = pod::phase(&pod) == "Running" || !seen.is_empty();
        Self {
            probing: Probing::new(deps, board.clone()),
            status: StatusKeeper::new(&pod),
            looked: seen.is_empty(),
            common,
            entry,
            pod,
            seen,
            memory: Memory::default(),
            images: BTreeMap::new(),
            waiting: BTreeMap::new(),
            ending: None,
            gone: None,
            failed: None,
            pending: None,
            launching: BTreeMap::new(),
            mounting: None,
            board,
            works: JoinSet::new(),
            handles: BTreeMap::new(),
            watches: JoinSet::new(),
            watched: BTreeMap::new(),
            first_seen: Instant::now(),
            pulled_for: Duration::ZERO,
            ran,
            look: Attempt::Done,
            looking: false,
            reports: 0,
        }
    }

    /// Works until nothing of the pod is left, or until told to leave it alone.
    pub async fn run(mut self, token: CancellationToken) {
        // The list that we were given has neither addresses nor exits: nothing is done before a look that succeeds.
        if !self.seen.is_empty() {
            self.look = Attempt::Due;
        }
        let wake = self.entry.inbox.wake();
        loop {
            self.read_mail();
            let now = clock::now();
            self.note_given();
            self.look_if_due(now);
            self.decide_ending(now);
            let plan = self.plan(now);
            self.tell_waiting(&plan);
            if self.looked {
                self.compute_status(&plan, now);
            }
            self.follow(&plan, now);
            if self.looked {
                self.send_status(now);
            }
            let wake_at = self.wake_at(&plan, now);
            if plan.stage == Stage::Vanished && self.works.is_empty() {
                self.common.tools.home.forget(&self.pod).await;
                return;
            }
            // Each arm only waits: what is dropped has had no effect yet.
            tokio::select! {
                () = token.cancelled() => return,
                () = wake.notified() => {}
                Some(done) = self.works.join_next() => self.finished(done),
                () = tokio::time::sleep(nap(wake_at, now)) => {}
            }
            while let Some(done) = self.works.try_join_next() {
                self.finished(done);
            }
            while self.watches.try_join_next().is_some() {}
        }
    }

    fn hand(&self) -> Hand {
        Hand {
            tools: self.common.tools.clone(),
            pod: self.pod.clone(),
            timeline: self.entry.timeline.clone(),
        }
    }

    fn read_mail(&mut self) {
        let mail = self.entry.inbox.take();
        if let Some(pod) = mail.pod {
            self.new_version(pod);
        }
        if let Some(mirror) = mail.mirror {
            self.status.observe_mirror(mirror);
        }
        if let Some(grace) = mail.gone {
            self.entry.timeline.add(timeline::Kind::Signal, "gone", None, "no source has this pod any more");
            self.gone = Some(self.gone.map_or(grace, |it| it.min(grace)));
        }
        if let Some(pending) = mail.pending {
            self.note_pending(pending);
        }
        if let Some(failed) = mail.failed {
            self.failed.get_or_insert(failed);
        }
        for id in mail.exited {
            let is_sandbox = self.seen.sandboxes.iter().any(|it| it.id == id && it.ready);
            let running = self.seen.by_id(&id);
            if !is_sandbox && running.is_some_and(|it| !it.is_alive()) {
                continue;
            }
            let name = running.map(|it| it.name.clone());
            self.entry.timeline.add(timeline::Kind::Signal, "exit", name.as_deref(), "its process ended");
            let settling = self.hand().settle(id, is_sandbox);
            self.works.spawn(settling);
        }
        if mail.look {
            self.doubt();
        }
    }

    /// The table is not to be trusted. One that could not be had a moment ago waits for its turn.
    fn doubt(&mut self) {
        if self.look == Attempt::Done {
            self.look = Attempt::Due;
        }
    }

    fn look_if_due(&mut self, now: Timestamp) {
        if !self.looking && self.look.is_due(now) {
            self.looking = true;
            let looking = self.hand().look(self.reports);
            self.works.spawn(looking);
        }
    }

    fn new_version(&mut self, new: Arc<Pod>) {
        self.status.observe(&new);
        let content = |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
        let changed = content(&self.pod) != content(&new) || resize::differs(&self.pod, &new);
        if changed && self.memory.mounted == Attempt::Done && self.ending.is_none() {
            let (home, pod) = (self.common.tools.home.clone(), new.clone());
            self.works.spawn(async move {
                home.refresh(&pod).await;
                Report { subject: None, news: Vec::new() }
            });
        }
        if new.metadata.deletion_timestamp.is_some() && self.pod.metadata.deletion_timestamp.is_none() {
            let grace =
                format!("the API server has a deletionTimestamp, grace {}s", pod::grace(&new).as_secs());
            self.entry.timeline.add(timeline::Kind::Signal, "deleted", None, grace);
        }
        self.pod = new;
    }

    /// That a wish for resources is not granted is news once.
    fn note_pending(&mut self, pending: Option<Pending>) {
        if let Some(now) = pending.as_ref().filter(|it| self.pending.as_ref() != Some(it)) {
            let reason = if now.reason == "Deferred" { "ResizeDeferred" } else { "ResizeInfeasible" };
            self.entry.timeline.add(timeline::Kind::Decision, reason, None, now.message.clone());
            let text = format!("Pod resize {}: {}", now.reason, now.message);
            self.common.tools.events.pod(&self.pod, None, Severity::Warning, reason, text);
        }
        self.pending = pending;
    }

    /// What running containers were given: what they were made with, or what an earlier kubelet said of them.
    fn note_given(&mut self) {
        let (seen, memory) = (&self.seen, &mut self.memory);
        memory.resized.retain(|id| seen.containers.iter().any(|it| it.id == *id));
        memory.probed.retain(|id, _| seen.containers.iter().any(|it| it.id == *id));
        let given = &mut memory.given.containers;
        given.retain(|id, _| seen.containers.iter().any(|it| it.id == *id && it.is_alive()));
        for container in seen.containers.iter().filter(|it| it.is_alive()) {
            if given.contains_key(&container.id) {
                continue;
            }
            let told = || {
                let known = status::of_container(self.status.base(), &container.name)?;
                let same = known.container_id.as_deref().is_some_and(|it| it.ends_with(&container.id));
                known.resources.clone().filter(|_| same)
            };
            let now = || pod::container(&self.pod, &container.name).map(resize::resources);
            let was = self.launching.remove(&container.name).or_else(told).or_else(now);
            given.insert(container.id.clone(), was.unwrap_or_default());
        }
    }

    /// The pod with the resources that were really given, where they are not those that it shows.
    fn given_pod(&self) -> Arc<Pod> {
        let given = |name: &str| {
            let seen = self.seen.latest(name).filter(|it| it.is_alive())?;
            self.memory.given.containers.get(&seen.id).cloned()
        };
        let known = self.seen.containers.iter().any(ContainerSeen::is_alive);
        if known { Arc::new(resize::with(&self.pod, given)) } else { self.pod.clone() }
    }

    fn decide_ending(&mut self, now: Timestamp) {
        let started = self.status.base().start_time.as_ref().map(|it| it.0);
        if self.failed.is_none() && active_deadline(&self.pod, started).is_some_and(|it| it <= now) {
            let message = "Pod was active on the node longer than the specified deadline";
            let reason = "DeadlineExceeded".into();
            self.failed = Some(Failed { reason, message: message.into(), grace: None });
            let events = &self.common.tools.events;
            events.pod(&self.pod, None, Severity::Normal, "DeadlineExceeded", message.into());
        }
        self.ending = ending_of(&self.pod, self.gone, self.failed.as_ref(), self.ending.as_ref(), now);
    }

    fn plan(&mut self, now: Timestamp) -> Plan {
        let probes = self.board.verdicts();
        let plan = plan(&Facts {
            pod: &self.pod,
            seen: &self.seen,
            memory: &self.memory,
            probes: &probes,
            ending: self.ending.as_ref(),
            max_backoff: self.common.max_backoff,
            now,
        });
        for (name, base) in &plan.fresh_backoff {
            self.memory.backoff_base.insert(name.clone(), *base);
        }
        plan
    }

    /// Back-off is news once, when it begins.
    fn tell_waiting(&mut self, plan: &Plan) {
        for (name, waiting) in &plan.waiting {
            if self.waiting.get(name) == Some(waiting) {
                continue;
            }
            let detail = format!("{}: {}", waiting.reason, waiting.message);
            self.entry.timeline.add(timeline::Kind::Decision, "wait", Some(name), detail);
            let events = &self.common.tools.events;
            if waiting.reason == "CrashLoopBackOff" {
                let text = format!(
                    "Back-off restarting failed container {name} in pod {}",
                    pod::full_name(&self.pod)
                );
                events.pod(&self.pod, Some(name), Severity::Warning, "BackOff", text);
            } else if waiting.reason == "ImagePullBackOff" {
                let own = || pod::any_container(&self.pod, name).and_then(|it| it.image);
                let image = self.memory.volume_images.get(name).cloned().or_else(own).unwrap_or_default();
                let text = format!("Back-off pulling image {image:?}");
                events.pod(&self.pod, Some(name), Severity::Normal, "BackOff", text);
                let text = "Error: ImagePullBackOff".to_owned();
                events.pod(&self.pod, Some(name), Severity::Warning, "Failed", text);
            }
        }
        self.waiting.clone_from(&plan.waiting);
    }

    fn follow(&mut self, plan: &Plan, now: Timestamp) {
        if self.look != Attempt::Done {
            return; // a plan from a table that may be wrong is not carried out
        }
        for action in &plan.actions {
            self.begin(action, now);
        }
        let ending = plan.stage != Stage::Living;
        self.probing.reconcile(&self.pod, &self.seen, ending);
        self.watch_exits();
    }

    fn begin(&mut self, action: &Action, now: Timestamp) {
        let subject = action.subject();
        let mut replaces = false;
        let busy = match action {
            Action::Cancel { .. } => {
                if let Some(handle) = self.handles.remove(&subject) {
                    handle.abort();
                }
                self.memory.busy.remove(&subject);
                return self.entry.inbox.wake().notify_one();
            }
            Action::Delete if self.status.is_in_flight() => return,
            Action::Launch { container, .. } => {
                let resources = pod::container(&self.pod, container).map(resize::resources);
                self.launching.insert(container.clone(), resources.unwrap_or_default());
                Busy::Working
            }
            Action::Stop { grace, .. } => {
                // A sooner deadline takes the place of a later one: only waiting is cut short.
                if let Some(handle) = self.handles.remove(&subject) {
                    handle.abort();
                    replaces = true;
                }
                Busy::Stopping(pod::after(now, *grace))
            }
            Action::Pull { .. } => Busy::Pulling,
            Action::Mount
            | Action::RunSandbox { .. }
            | Action::StopSandbox { .. }
            | Action::Resize { .. }
            | Action::RemoveContainer { .. }
            | Action::RemoveSandbox { .. }
            | Action::CleanUp
            | Action::Delete => Busy::Working,
        };
        if matches!(action, Action::RunSandbox { .. }) && !self.seen.sandboxes.is_empty() {
            let text = "Pod sandbox changed, it will be killed and re-created.";
            self.common.tools.events.pod(&self.pod, None, Severity::Normal, "SandboxChanged", text.into());
        }
        if !matches!(action, Action::RemoveContainer { .. } | Action::RemoveSandbox { .. }) {
            let why = reason::of(action, &self.pod, &self.seen, self.ending.as_ref());
            self.entry.timeline.add(timeline::Kind::Decision, action.to_string(), None, why);
        }
        if let Action::Stop { id, cause: Cause::Resized, .. } = action {
            self.memory.resized.insert(id.clone());
        }
        if let Action::Stop { container, id, cause: Cause::Liveness | Cause::Startup, .. } = action {
            let mut before = self.seen.instances(container).filter(|it| it.id != *id);
            let ended = before.find_map(|it| it.exit()?.at);
            self.memory.probed.entry(id.clone()).or_insert(ended);
        }
        let context = Context { hook_done: replaces, ..self.context(action) };
        self.memory.busy.insert(subject.clone(), busy);
        let mut hand = self.hand();
        if *action == Action::Mount {
            // The cgroup begins with what its containers have: from there they are changed together.
            hand.pod = self.given_pod();
            self.mounting = Some(resize::fingerprint(&hand.pod));
        }
        let handle = self.works.spawn(hand.carry_out(action.clone(), context));
        self.handles.insert(subject, handle);
    }

    fn context(&self, action: &Action) -> Context {
        let sandbox = self.seen.sandbox();
        let ips = sandbox.map(|it| it.ips.as_slice()).unwrap_or_default();
        let ips = if pod::host_network(&self.pod) { &self.common.node_ips } else { ips };
        let name = match action {
            Action::Launch { container, .. } | Action::Stop { container, .. } => container.as_str(),
            _ => "",
        };
        let target = pod::ephemerals(&self.pod).iter().find(|it| it.name == name);
        let target = target.and_then(|it| self.seen.latest(it.target_container_name.as_deref()?));
        Context {
            sandbox: sandbox.map(|it| (it.id.clone(), it.attempt)),
            pod_ips: ips.iter().filter_map(|it| it.parse::<IpAddr>().ok()).collect(),
            image: self.images.get(name).cloned().unwrap_or_default(),
            target: target.map(|it| it.id.clone()),
            container: match action {
                Action::RemoveContainer { id } => self.seen.by_id(id).cloned(),
                _ => self.seen.latest(name).cloned(),
            },
            last_status: if *action == Action::Delete { self.status.rest() } else { None },
            given: matches!(action, Action::Resize { .. }).then(|| self.given_pod()),
            hook_done: false,
        }
    }

    /// A pidfd on each running container and on the sandbox.
    fn watch_exits(&mut self) {
        let sandboxes = self.seen.sandboxes.iter().map(|it| (&it.id, it.pid));
        let containers = self.seen.containers.iter().map(|it| (&it.id, it.pid));
        let alive: BTreeMap<String, u32> =
            sandboxes.chain(containers).filter_map(|(id, pid)| Some((id.clone(), pid?))).collect();
        self.watched.retain(|id, watch| {
            alive.contains_key(id) || {
                watch.abort();
                false
            }
        });
        for (id, pid) in alive {
            if self.watched.contains_key(&id) {
                continue;
            }
            let entry = self.entry.clone();
            let name = id.clone();
            let watch = self.watches.spawn(async move {
                match ExitWatch::open(pid) {
                    Ok(watch) => watch.ended().await,
                    Err(err) if err.raw_os_error() == Some(libc::ESRCH) => {}
                    // No pidfd here (another process namespace): the slow look has to do.
                    Err(_) => return,
                }
                entry.inbox.exited(&name);
            });
            self.watched.insert(id, watch);
        }
    }

    fn compute_status(&mut self, plan: &Plan, now: Timestamp) {
        let probes = self.board.verdicts();
        let status = status::status_of(&status::Facts {
            pod: &self.pod,
            seen: &self.seen,
            probes: &probes,
            plan,
            ending: self.ending.as_ref(),
            before: self.status.base(),
            node_ips: &self.common.node_ips,
            runtime: &self.common.runtime_name,
            given: &self.memory.given,
            resizing: self.resizing(now),
            pending: self.pending.as_ref(),
            now,
        });
        self.note_phase(&status);
        self.entry.publish(Published {
            pod: self.pod.clone(),
            status: Arc::new(status.clone()),
            seen: Arc::new(self.seen.clone()),
            stage: plan.stage,
        });
        self.status.want(status);
    }

    /// Whether what was allocated is being given; the message of the last failure, if it failed.
    fn resizing(&self, now: Timestamp) -> Option<&str> {
        let probes = self.board.verdicts();
        let facts = Facts {
            pod: &self.pod,
            seen: &self.seen,
            memory: &self.memory,
            probes: &probes,
            ending: self.ending.as_ref(),
            max_backoff: self.common.max_backoff,
            now,
        };
        let failure = self.memory.resize.failure().map_or("", |it| it.message.as_str());
        resize::in_progress(&facts).then_some(failure)
    }

    /// Sends what differs, unless a write is under way: what differs then goes after it.
    fn send_status(&mut self, now: Timestamp) {
        if self.gone.is_none()
            && self.memory.deleted != Attempt::Done
            && self.memory.is_free(&Subject::Object)
            && self.common.tools.api.is_there()
            && let Some((object, patch)) = self.status.due(&self.pod, now)
        {
            let tools = self.common.tools.clone();
            self.works.spawn(async move {
                let began = Instant::now();
                let written = tools.api.patch_status(&object, patch).await;
                tools.metrics.status_written(began.elapsed());
                let written = written.map(Box::new).map_err(|err| match err {
                    ApiError::Gone(_) => Problem::new("Gone", err),
                    ApiError::Failed { .. } => Problem::new("FailedStatus", err),
                });
                Report { subject: None, news: vec![News::Status(written)] }
            });
        }
    }

    fn wake_at(&self, plan: &Plan, now: Timestamp) -> Option<Timestamp> {
        let deadline = active_deadline(&self.pod, self.status.base().start_time.as_ref().map(|it| it.0));
        let deadline = deadline.filter(|it| *it > now && self.failed.is_none());
        [plan.wake_at, self.status.wake_at(now), self.look.wake_at(now), deadline].into_iter().flatten().min()
    }

    fn note_phase(&mut self, status: &k8s_openapi::api::core::v1::PodStatus) {
        let phase = status.phase.as_deref().unwrap_or_default();
        if self.status.base().phase.as_deref() != Some(phase) {
            self.entry.timeline.add(timeline::Kind::Told, "phase", None, phase);
        }
        if phase == "Running" && !self.ran {
            self.ran = true;
            let since_seen = self.first_seen.elapsed();
            let created = self.pod.metadata.creation_timestamp.as_ref().map(|it| it.0);
            let age = created.map_or(since_seen, |it| pod::since(clock::now(), it));
            self.common.tools.metrics.pod_started(since_seen, age.saturating_sub(self.pulled_for));
        }
    }

    fn finished(&mut self, done: Result<Report, tokio::task::JoinError>) {
        match done {
            Ok(report) => self.apply(report),
            Err(err) if err.is_cancelled() => {}
            Err(err) => {
                // A bug in an action: what it was about is not known any more, so nothing is busy but look anew.
                tracing::error!(pod = %pod::key(&self.pod), error = %err, "an action broke off");
                let alive: Vec<Subject> = self
                    .handles
                    .iter()
                    .filter(|(_, it)| it.is_finished())
                    .map(|(it, _)| it.clone())
                    .collect();
                for subject in alive {
                    self.handles.remove(&subject);
                    self.memory.busy.remove(&subject);
                }
                self.looking = false;
                self.doubt();
            }
        }
    }

    fn apply(&mut self, report: Report) {
        let looked = |it: &News| matches!(it, News::Everything(..) | News::Blind(_) | News::Status(_));
        if !report.news.iter().all(looked) {
            self.reports += 1;
        }
        if let Some(subject) = report.subject {
            // An action that was replaced while it ended leaves the new one's mark alone.
            if self.handles.get(&subject).is_none_or(AbortHandle::is_finished) {
                self.handles.remove(&subject);
                self.memory.busy.remove(&subject);
            }
        }
        for news in report.news {
            self.count_exits(&news);
            self.learn(news);
        }
    }

    /// Counts the containers that were alive and are not any more.
    fn count_exits(&self, news: &News) {
        let now = match news {
            News::Container(seen) => std::slice::from_ref(&**seen),
            News::Everything(seen, reports) if *reports == self.reports => &seen.containers,
            _ => return,
        };
        let ended = now.iter().filter_map(|it| Some((it, it.exit()?)));
        for (container, exit) in ended {
            if self.seen.by_id(&container.id).is_some_and(ContainerSeen::is_alive) {
                let named = |it: &k8s_openapi::api::core::v1::EphemeralContainer| it.name == container.name;
                let kind = if pod::inits(&self.pod).iter().any(|it| it.name == container.name) {
                    "init_container"
                } else if pod::ephemerals(&self.pod).iter().any(named) {
                    "ephemeral_container"
                } else {
                    "container"
                };
                self.common.tools.metrics.container_ended(kind, exit.code);
            }
        }
    }

    fn learn(&mut self, news: News) {
        let now = clock::now();
        let memory = &mut self.memory;
        match news {
            News::Container(seen) => self.seen.put_container(*seen),
            News::ContainerGone(id) => {
                self.seen.containers.retain(|it| it.id != id);
                memory.retry.remove(&id);
            }
            News::Sandbox(seen) => self.seen.put_sandbox(seen),
            News::SandboxGone(id) => {
                self.seen.sandboxes.retain(|it| it.id != id);
                memory.stopped_sandboxes.remove(&id);
                memory.retry.remove(&id);
            }
            News::SandboxStopped(id) => {
                if let Some(it) = self.seen.sandboxes.iter_mut().find(|it| it.id == id) {
                    it.ready = false;
                }
                memory.stopped_sandboxes.insert(id);
            }
            News::Everything(seen, reports) => {
                self.looking = false;
                // Something ended meanwhile: what it found out is newer than this.
                self.look = if reports == self.reports { Attempt::Done } else { Attempt::Due };
                if self.look == Attempt::Done {
                    self.seen = seen;
                    self.looked = true;
                }
            }
            News::Blind(problem) => {
                self.looking = false;
                self.look = self.look.failed(problem.reason, problem.message, now, QUICK);
            }
            News::Doubt => self.doubt(),
            News::Mounted(result) => {
                if result.is_ok() {
                    memory.given.cgroup = self.mounting.take().or(memory.given.cgroup.take());
                }
                settle(&mut memory.mounted, result, now, QUICK);
            }
            News::Resized(done, result) => {
                memory.given.containers.extend(done);
                if let Ok(cgroup) = &result {
                    memory.given.cgroup = Some(cgroup.clone());
                }
                settle(&mut memory.resize, result.map(drop), now, QUICK);
                self.doubt(); // the runtime's own word on its limits
            }
            News::SandboxRun(result) => {
                let ok = result.is_ok();
                settle(&mut memory.sandbox, result, now, SANDBOX);
                if ok {
                    memory.sandbox = Attempt::Due; // the next one, should this one die
                    memory.launches.clear(); // whatever failed, failed in another sandbox
                }
            }
            News::Image(name, result) => self.learn_image(name, result, now),
            News::Launched(name, result) => self.learn_launch(name, result, now),
            News::Tried(id, Ok(())) => {
                memory.retry.remove(&id);
            }
            News::Tried(id, Err(problem)) => {
                let attempt = memory.retry.entry(id).or_default();
                *attempt = attempt.failed(problem.reason, problem.message, now, SANDBOX);
            }
            News::Cleaned(result) => settle(&mut memory.cleaned, result, now, QUICK),
            News::Deleted(result) => settle(&mut memory.deleted, result, now, QUICK),
            News::Status(result) => self.status.written(result, now),
        }
    }

    fn learn_launch(&mut self, name: String, result: Result<(), Problem>, now: Timestamp) {
        let memory = &mut self.memory;
        // What failed before the runtime was asked for a container says nothing of its image.
        if result.as_ref().err().is_none_or(|it| it.reason != "CreateContainerConfigError") {
            memory.images.remove(&name);
        }
        match result {
            Ok(()) => {
                memory.launches.remove(&name);
            }
            Err(problem) => {
                let attempt = memory.launches.entry(name).or_default();
                *attempt = attempt.failed(problem.reason, problem.message, now, SANDBOX);
            }
        }
    }

    fn learn_image(&mut self, name: String, result: Result<ImageFacts, Problem>, now: Timestamp) {
        self.memory.volume_images.remove(&name);
        if let Err(Problem { image: Some(image), .. }) = &result {
            self.memory.volume_images.insert(name.clone(), image.clone());
        }
        let attempt = self.memory.images.entry(name.clone()).or_default();
        match result {
            Ok(facts) => {
                *attempt = Attempt::Done;
                self.images.insert(name, facts);
            }
            Err(problem) => {
                // What no registry has a part in may be put right at any time.
                let waits = if is_pull_failure(&problem.reason) { IMAGE } else { NO_IMAGE };
                *attempt = attempt.failed(&problem.reason, &problem.message, now, waits);
            }
        }
    }
}

fn settle(attempt: &mut Attempt, result: Result<(), Problem>, now: Timestamp, waits: (Duration, Duration)) {
    *attempt = match result {
        Ok(()) => Attempt::Done,
        Err(problem) => attempt.failed(problem.reason, problem.message, now, waits),
    };
}

fn nap(wake_at: Option<Timestamp>, now: Timestamp) -> Duration {
    wake_at.map_or(LONGEST_SLEEP, |it| pod::since(it, now)).clamp(SHORTEST_SLEEP, LONGEST_SLEEP)
}

/// Containers that were ready or started before this kubelet began stay so until a probe says otherwise.
fn adopt_readiness(board: &Board, pod: &Pod) {
    let Some(status) = &pod.status else { return };
    let lists = [&status.container_statuses, &status.init_container_statuses];
    for known in lists.into_iter().flatten().flatten() {
        let Some((_, id)) = known.container_id.as_deref().and_then(|it| it.split_once("://")) else {
            continue;
        };
        if known.started == Some(true) {
            board.settle(id, Kind::Startup, true);
        }
        if known.ready {
            board.settle(id, Kind::Readiness, true);
        }
    }
}
