//! What the probes of one pod say.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::Notify;

use super::Kind;
use crate::observe::ContainerSeen;
use crate::pod;
use crate::worker::action::Cause;

/// Settled results, by container id and kind: true for success.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdicts {
    settled: BTreeMap<(String, Kind), bool>,
}

impl Verdicts {
    /// The result of one probe; none before there is one.
    pub fn of(&self, id: &str, kind: Kind) -> Option<bool> {
        self.settled.get(&(id.to_owned(), kind)).copied()
    }

    /// Takes a result; false when it was the same before.
    pub fn set(&mut self, id: &str, kind: Kind, success: bool) -> bool {
        self.settled.insert((id.to_owned(), kind), success) != Some(success)
    }

    /// Drops results of containers that are no more.
    pub fn keep(&mut self, alive: impl Fn(&str) -> bool) {
        self.settled.retain(|(id, _), _| alive(id));
    }

    /// The container runs, and its startup probe (if it has one) succeeded.
    pub fn is_started(&self, container: &Container, seen: &ContainerSeen) -> bool {
        seen.is_alive()
            && (container.startup_probe.is_none() || self.of(&seen.id, Kind::Startup) == Some(true))
    }

    /// The container is started, and its readiness probe (if it has one) succeeds.
    pub fn is_ready(&self, container: &Container, seen: &ContainerSeen) -> bool {
        self.is_started(container, seen)
            && (container.readiness_probe.is_none() || self.of(&seen.id, Kind::Readiness) == Some(true))
    }

    /// Why the container must be restarted, if its probes say so.
    pub fn failed(&self, seen: &ContainerSeen) -> Option<Cause> {
        if self.of(&seen.id, Kind::Startup) == Some(false) {
            Some(Cause::Startup)
        } else if self.of(&seen.id, Kind::Liveness) == Some(false) {
            Some(Cause::Liveness)
        } else {
            None
        }
    }

    /// The grace that the failed probe itself asks for.
    pub fn grace(&self, pod: &Pod, seen: &ContainerSeen, cause: &Cause) -> Option<Duration> {
        let kind = match cause {
            Cause::Liveness => Kind::Liveness,
            Cause::Startup => Kind::Startup,
            Cause::PodEnds
            | Cause::SandboxChanged
            | Cause::SpecChanged
            | Cause::PostStart
            | Cause::NotWanted
            | Cause::Resized
            | Cause::Anew => return None,
        };
        let probe = pod::probe(pod::container(pod, &seen.name)?, kind)?;
        u64::try_from(probe.termination_grace_period_seconds?).ok().map(Duration::from_secs)
    }
}

/// Where the probes of a pod write and its worker reads.
#[derive(Debug, Clone)]
pub struct Board {
    verdicts: Arc<Mutex<Verdicts>>,
    wake: Arc<Notify>,
}

impl Board {
    /// An empty board; `wake` is told of every change.
    pub fn new(wake: Arc<Notify>) -> Self {
        Self { verdicts: Arc::default(), wake }
    }

    /// What is known now.
    pub fn verdicts(&self) -> Verdicts {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes a result, and wakes the worker if it is news.
    pub fn settle(&self, id: &str, kind: Kind, success: bool) {
        if self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).set(id, kind, success) {
            self.wake.notify_one();
        }
    }

    /// Drops results of containers that are no more.
    pub fn keep(&self, alive: impl Fn(&str) -> bool) {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).keep(alive);
    }
}
