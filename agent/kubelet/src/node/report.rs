//! The reporter's loops: register, renew, observe, send what differs.

use std::path::PathBuf;
use std::time::Duration;

use coracle_client::{Backoff, CallError, Calls, EventRecorder, EventType, ObjectRef, Resource};
use coracle_cri::{RuntimeHandle, proto as v1};
use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::conditions::{Condition, RuntimeState, conditions, event_reason, listed};
use super::object::{self, RuntimeFacts};
use super::pressure::{Left, pressure};
use super::{NodeReporter, cni, lease};

const NODES: Resource = Resource::core("nodes");
/// How often a node that is not ready looks again.
const NOT_READY: Duration = Duration::from_secs(1);
/// How old the list of images may be.
const IMAGES: Duration = Duration::from_secs(60);

/// What was sent last.
#[derive(Default)]
pub(super) struct Sent {
    status: Map<String, Value>,
    conditions: Vec<Condition>,
    listed: Value,
    at: Option<Instant>,
}

/// What changes slowly and is asked for seldom.
#[derive(Default)]
pub(super) struct Slow {
    runtime: RuntimeFacts,
    images: Vec<v1::Image>,
    image_fs: Option<PathBuf>,
    at: Option<Instant>,
}

/// A look at the node.
struct Seen {
    status: Map<String, Value>,
    conditions: Vec<Condition>,
    ready: bool,
}

impl NodeReporter {
    /// Registers until it is done; the node's conditions as they were, if it was there.
    pub(super) async fn register(&self, calls: &Calls) -> Value {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(7));
        loop {
            match self.try_register(calls).await {
                Ok(conditions) => return conditions,
                Err(err) => {
                    tracing::warn!(node = self.facts.name, error = %coracle_client::report(&err), "registration failed");
                    tokio::time::sleep(backoff.next_jittered()).await;
                }
            }
        }
    }

    async fn try_register(&self, calls: &Calls) -> Result<Value, CallError> {
        let wanted = object::node(&self.deps.config, &self.facts);
        let path = NODES.object("", &self.facts.name);
        let found: Option<Value> = calls.find(&path).await?;
        let Some(existing) = found else {
            let made = calls.create::<IgnoredAny>(&NODES.collection(""), &wanted).await;
            return match made {
                Ok(_) => {
                    tracing::info!(node = self.facts.name, "node registered");
                    Ok(Value::Null)
                }
                Err(err) => Err(err),
            };
        };
        if let Some(patch) = object::adoption(&existing, &wanted) {
            calls.merge::<IgnoredAny>(&path, &patch).await?;
        }
        Ok(existing["status"]["conditions"].clone())
    }

    /// Renews the Lease for ever.
    pub(super) async fn renew_lease(&self, calls: &Calls) {
        let seconds = self.deps.config.node.lease_seconds;
        let period = Duration::from_secs(u64::try_from(seconds).unwrap_or(40)) / 4;
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(7).min(period));
        loop {
            let pause = match lease::renew(calls, &self.facts.name, seconds).await {
                Ok(()) => {
                    backoff.reset();
                    period
                }
                Err(err) => {
                    tracing::warn!(node = self.facts.name, error = %coracle_client::report(&err), "lease not renewed");
                    backoff.next_jittered()
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Observes and reports for ever; without an API server it only observes.
    pub(super) async fn report_status(
        &self,
        calls: Option<&Calls>,
        events: Option<&EventRecorder>,
        known: Value,
    ) {
        let mut sent = Sent { listed: known, ..Sent::default() };
        let mut slow = Slow::default();
        let mut shutting_down = self.shutting_down.subscribe();
        loop {
            let seen = self.observe(&mut slow).await;
            self.ready.send_if_modified(|now| std::mem::replace(now, seen.ready) != seen.ready);
            let mut pause = if seen.ready { self.deps.config.node.status_update } else { NOT_READY };
            if let Some(calls) = calls
                && let Err(err) = self.send(calls, events, &mut sent, seen).await
            {
                tracing::warn!(node = self.facts.name, error = %coracle_client::report(&err), "node status not sent");
                pause = pause.min(Duration::from_secs(2));
            }
            // Each arm only waits; the sender lives as long as we do.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = shutting_down.changed() => {}
            }
        }
    }

    async fn send(
        &self,
        calls: &Calls,
        events: Option<&EventRecorder>,
        sent: &mut Sent,
        seen: Seen,
    ) -> Result<(), CallError> {
        let is_due = sent.at.is_none_or(|it| it.elapsed() >= self.deps.config.node.status_report);
        if !is_due && sent.status == seen.status && sent.conditions == seen.conditions {
            return Ok(());
        }
        let list = listed(&seen.conditions, &sent.listed, Timestamp::now());
        let patch = object::status_patch(&sent.status, &seen.status, &list);
        calls.strategic::<IgnoredAny>(&NODES.subresource("", &self.facts.name, "status"), &patch).await?;
        for condition in &seen.conditions {
            let before = sent.listed.as_array().into_iter().flatten().find(|it| it["type"] == condition.kind);
            let was = before.map(|it| it["status"] == "True");
            if was != Some(condition.status) {
                self.tell(events, condition);
            }
        }
        *sent =
            Sent { status: seen.status, conditions: seen.conditions, listed: list, at: Some(Instant::now()) };
        Ok(())
    }

    fn tell(&self, events: Option<&EventRecorder>, condition: &Condition) {
        let reason = event_reason(condition);
        if condition.kind == "Ready" {
            tracing::info!(
                node = self.facts.name,
                reason,
                message = condition.message,
                "node status changed"
            );
        }
        let Some(events) = events else { return };
        let name = &self.facts.name;
        events.event(
            &self.about(),
            EventType::Normal,
            reason,
            format!("Node {name} status is now: {reason}"),
        );
    }

    /// Events about a node name it as its own uid, as upstream's do.
    pub(super) fn about(&self) -> ObjectRef {
        ObjectRef {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            namespace: String::new(),
            name: self.facts.name.clone(),
            uid: self.facts.name.clone(),
            resource_version: String::new(),
            field_path: String::new(),
        }
    }

    async fn observe(&self, slow: &mut Slow) -> Seen {
        let config = &self.deps.config;
        let runtime = match self.deps.runtime.status(false).await {
            Ok(status) => {
                slow.refresh(&self.deps.runtime, &status).await;
                RuntimeState::Up(self.problems(&status).await)
            }
            Err(err) => RuntimeState::Down(coracle_client::report(&err)),
        };
        let (root, image_fs, pids) =
            (config.paths.root.clone(), slow.image_fs.clone(), self.facts.machine.pids);
        let left = tokio::task::spawn_blocking(move || Left::read(&root, image_fs.as_ref(), pids)).await;
        let pressure = pressure(&left.unwrap_or_default(), &config.resources.eviction_hard);
        let conditions = conditions(pressure, &runtime);
        Seen {
            status: object::status(config, &self.facts, &slow.runtime, &slow.images),
            ready: conditions.iter().any(|it| it.kind == "Ready" && it.status),
            conditions,
        }
    }

    /// What the runtime's own conditions complain about, in upstream's sentences.
    async fn problems(&self, status: &v1::StatusResponse) -> Vec<String> {
        let conditions = status.status.iter().flat_map(|it| &it.conditions);
        let mut problems = Vec::new();
        for it in conditions.filter(|it| !it.status) {
            let said = format!("{}=false reason:{} message:{}", it.r#type, it.reason, it.message);
            match it.r#type.as_str() {
                "RuntimeReady" => problems.push(format!("container runtime not ready: {said}")),
                "NetworkReady" => {
                    let file = self.cni_problem().await.map(|it| format!(" ({it})")).unwrap_or_default();
                    problems.push(format!("container runtime network not ready: {said}{file}"));
                }
                _ => {}
            }
        }
        if *self.shutting_down.borrow() {
            problems.push("node is shutting down".to_owned());
        }
        problems
    }

    async fn cni_problem(&self) -> Option<String> {
        let verbose = self.deps.runtime.status(true).await.ok()?;
        let dir = cni::conf_dir(&verbose.info);
        tokio::task::spawn_blocking(move || cni::problem(&dir)).await.ok()?
    }
}

impl Slow {
    async fn refresh(&mut self, runtime: &RuntimeHandle, status: &v1::StatusResponse) {
        self.runtime.handlers.clone_from(&status.runtime_handlers);
        self.runtime.features = status.features;
        if self.at.is_some_and(|it| it.elapsed() < IMAGES) {
            return;
        }
        // Each keeps its last value when the runtime does not tell.
        if let Ok(version) = runtime.version().await {
            self.runtime.version = format!("{}://{}", version.runtime_name, version.runtime_version);
        }
        if let Ok(images) = runtime.list_images().await {
            self.images = images;
        }
        if let Ok(info) = runtime.image_fs_info().await {
            let mount = info.image_filesystems.into_iter().find_map(|it| it.fs_id);
            self.image_fs = mount.map(|it| PathBuf::from(it.mountpoint));
        }
        self.at = Some(Instant::now());
    }
}
