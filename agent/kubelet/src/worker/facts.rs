//! What a plan is made from: the pod, what was observed, and the little that cannot be observed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::resize::Given;
use crate::observe::Observed;
use crate::probe::Verdicts;

/// Everything that [`plan`](super::plan::plan) looks at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The pod as its source has it.
    pub pod: &'a Pod,
    /// What the runtime has of it.
    pub seen: &'a Observed,
    /// What the worker remembers.
    pub memory: &'a Memory,
    /// What the probes say.
    pub probes: &'a Verdicts,
    /// Why the pod must end; none: it should run.
    pub ending: Option<&'a Ending>,
    /// The longest wait between restarts.
    pub max_backoff: Duration,
    /// The time.
    pub now: Timestamp,
}

/// Why a pod ends, and how long its containers have.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// Why.
    pub why: Why,
    /// When the containers must be gone.
    pub deadline: Timestamp,
    /// The time that they were given.
    pub grace: Duration,
}

/// That a pod is over, whatever its containers do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// `Evicted`, `OutOfcpu`, ...
    pub reason: String,
    /// For people.
    pub message: String,
    /// The time that its containers have; none: the pod's own.
    pub grace: Option<Duration>,
}

/// Why a pod ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The API server has a deletionTimestamp.
    Deleted,
    /// No source has it (any more).
    Gone,
    /// It stays as an object, but is over: phase Failed with this reason and message.
    Failed {
        /// `DeadlineExceeded`, `Evicted`, `OutOfcpu`, ...
        reason: String,
        /// For people.
        message: String,
    },
}

/// What cannot be observed. Losing it costs a repeated attempt, never a wrong one.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// The pod's cgroup and volumes.
    pub mounted: Attempt,
    /// The pod's sandbox.
    pub sandbox: Attempt,
    /// The image for the next start of a container.
    pub images: BTreeMap<String, Attempt>,
    /// The image of a volume that a container waits for.
    pub volume_images: BTreeMap<String, String>,
    /// The next start of a container.
    pub launches: BTreeMap<String, Attempt>,
    /// The restart count at which a container's back-off began anew.
    pub backoff_base: BTreeMap<String, u32>,
    /// What is being done now.
    pub busy: BTreeMap<Subject, Busy>,
    /// Sandboxes whose network is known to be torn down.
    pub stopped_sandboxes: BTreeSet<String>,
    /// Containers that we told to stop and that ended.
    pub cleaned: Attempt,
    /// The final DELETE.
    pub deleted: Attempt,
    /// What the runtime and the kernel were told of resources.
    pub given: Given,
    /// The last change of them.
    pub resize: Attempt,
    /// Containers that were stopped for a failed probe, and when the instance before each had ended.
    pub probed: BTreeMap<String, Option<Timestamp>>,
    /// Containers that were stopped to be started with other resources.
    pub resized: BTreeSet<String>,
    /// When stop or removal of this id may be tried again.
    pub retry: BTreeMap<String, Attempt>,
}

/// How far one thing got.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Attempt {
    /// Not tried yet.
    #[default]
    Due,
    /// Done.
    Done,
    /// Failed; try again later.
    Failed(Failure),
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// What a waiting state shows: `ErrImagePull`, `CreateContainerConfigError`, ...
    pub reason: String,
    /// The whole story.
    pub message: String,
    /// How often in a row.
    pub tries: u32,
    /// When it failed.
    pub at: Timestamp,
    /// Not before.
    pub retry_at: Timestamp,
}

impl Attempt {
    /// Whether it may be tried now.
    pub fn is_due(&self, now: Timestamp) -> bool {
        match self {
            Self::Due => true,
            Self::Done => false,
            Self::Failed(failure) => failure.retry_at <= now,
        }
    }

    /// When it may be tried, if it has to wait.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.failure().map(|it| it.retry_at).filter(|it| *it > now)
    }

    /// How it failed.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) => Some(failure),
            Self::Due | Self::Done => None,
        }
    }

    /// The same after one more failure: the next wait is twice as long, from `first` to `longest`.
    pub fn failed(
        &self,
        reason: impl Into<String>,
        message: impl Into<String>,
        now: Timestamp,
        waits: (Duration, Duration),
    ) -> Self {
        let tries = self.failure().map_or(1, |it| it.tries.saturating_add(1));
        let wait = waits.0.saturating_mul(1 << (tries - 1).min(16)).min(waits.1);
        let retry_at = crate::pod::after(now, wait);
        Self::Failed(Failure { reason: reason.into(), message: message.into(), tries, at: now, retry_at })
    }
}

/// What an action is about: one thing is done to one subject at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// cgroup, folders, volumes.
    Volumes,
    /// The sandbox.
    Sandbox,
    /// What the pod's cgroup and running containers are held to.
    Resources,
    /// A container by name.
    Container(String),
    /// A dead thing by id.
    Remains(String),
    /// The object in the API.
    Object,
}

/// What is being done to a subject.
#[derive(Debug, Clone, PartialEq)]
pub enum Busy {
    /// Something that ends by itself soon.
    Working,
    /// An image is being pulled: may be let go.
    Pulling,
    /// A container is being stopped, by this time at the latest.
    Stopping(Timestamp),
}

impl Memory {
    /// Whether nothing is being done to it.
    pub fn is_free(&self, subject: &Subject) -> bool {
        !self.busy.contains_key(subject)
    }
}
