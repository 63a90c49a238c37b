//! The worker's side of the status: what the API has, what it should have.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::facts::Attempt;
use super::report::Problem;
use crate::pod;
use crate::status;

/// Waits between failed writes.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What the API has and what it should have.
#[derive(Debug, Default)]
pub(super) struct StatusKeeper {
    /// As the API server last said, by answer or by watch.
    before: PodStatus,
    /// Of which version of the object.
    version: u64,
    /// As it should be.
    wanted: PodStatus,
    /// The mirror pod, where the pod is static.
    mirror: Option<Arc<Pod>>,
    /// The uid of the object that is being written to.
    in_flight: Option<String>,
    attempt: Attempt,
    object_gone: bool,
}

impl StatusKeeper {
    pub fn new(pod: &Pod) -> Self {
        let before = pod.status.clone().unwrap_or_default();
        Self { wanted: before.clone(), before, version: version(pod), ..Self::default() }
    }

    /// The object as its source has it now.
    pub fn observe(&mut self, pod: &Pod) {
        // The source has it: whatever said that it is gone was wrong, or is over.
        self.object_gone &= pod::is_static(pod);
        if version(pod) >= self.version && !pod::is_static(pod) {
            self.before = pod.status.clone().unwrap_or_default();
            self.version = version(pod);
        }
    }

    /// The mirror of a static pod came, changed or went.
    pub fn observe_mirror(&mut self, mirror: Option<Arc<Pod>>) {
        self.object_gone = false;
        if let Some(mirror) = &mirror
            && (self.mirror.as_ref().map(|it| pod::uid(it)) != Some(pod::uid(mirror))
                || version(mirror) >= self.version)
        {
            self.before = mirror.status.clone().unwrap_or_default();
            self.version = version(mirror);
        }
        self.mirror = mirror;
    }

    /// The status to go on from: what was said last, sent or not.
    pub fn base(&self) -> &PodStatus {
        &self.wanted
    }

    /// As it should be from now on. Conditions of others come from the API.
    pub fn want(&mut self, wanted: PodStatus) {
        self.wanted = wanted;
    }

    /// What to write, and to which object; none when nothing is to be written now.
    pub fn due(&mut self, pod: &Arc<Pod>, now: Timestamp) -> Option<(Arc<Pod>, serde_json::Value)> {
        if self.in_flight.is_some()
            || self.object_gone
            || !(self.attempt.is_due(now) || self.attempt == Attempt::Done)
        {
            return None;
        }
        let object = if pod::is_static(pod) { self.mirror.clone()? } else { pod.clone() };
        let patch = status::difference(&self.before, &self.wanted)?;
        self.in_flight = Some(pod::uid(&object).to_owned());
        Some((object, patch))
    }

    /// What the object lacks, whether or not something is under way: for the last write before the DELETE.
    pub fn rest(&self) -> Option<serde_json::Value> {
        status::difference(&self.before, &self.wanted)
    }

    pub fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.attempt.wake_at(now)
    }

    /// A write ended. What it says of a mirror that another has taken the place of is no news.
    pub fn written(&mut self, result: Result<Box<Pod>, Problem>, now: Timestamp) {
        let wrote_to = self.in_flight.take();
        if self.mirror.as_ref().is_some_and(|it| Some(pod::uid(it)) != wrote_to.as_deref()) {
            return;
        }
        match result {
            Ok(pod) => {
                self.attempt = Attempt::Done;
                if version(&pod) >= self.version {
                    self.version = version(&pod);
                    self.before = pod.status.unwrap_or_default();
                }
            }
            Err(problem) if problem.reason == "Gone" => self.object_gone = true,
            Err(problem) => self.attempt = self.attempt.failed(problem.reason, problem.message, now, WAITS),
        }
    }
}

fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|it| it.parse().ok()).unwrap_or(0)
}
