//! The way out: a pod that is deleted, refused, over its deadline, or done.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::action::{Action, Cause, Plan, Stage};
use super::facts::{Attempt, Busy, Ending, Facts, Failed, Subject, Why};
use super::plan;
use crate::observe::ContainerSeen;
use crate::pod;

/// Once asked to end, a container gets at least this long: upstream's minimum.
const MINIMUM: Duration = Duration::from_secs(2);

impl Ending {
    /// What is left of the time given; a pod with a grace of zero gets none at all.
    pub fn grace_left(&self, now: Timestamp) -> Duration {
        pod::since(self.deadline, now).max(MINIMUM.min(self.grace))
    }
}

/// Whether the pod must end, and by when. `before` is the answer of the last time: a deadline never moves out.
pub fn ending_of(
    pod: &Pod,
    gone: Option<Duration>,
    failed: Option<&Failed>,
    before: Option<&Ending>,
    now: Timestamp,
) -> Option<Ending> {
    let deleted = pod.metadata.deletion_timestamp.is_some();
    let (why, grace) = match (gone, deleted, failed) {
        (Some(grace), _, _) => (Why::Gone, grace),
        (None, true, _) => (Why::Deleted, pod::grace(pod)),
        (None, false, Some(Failed { reason, message, grace })) => {
            let why = Why::Failed { reason: reason.clone(), message: message.clone() };
            (why, grace.unwrap_or_else(|| pod::grace(pod)))
        }
        (None, false, None) => return before.cloned(),
    };
    let deadline = pod::after(now, grace);
    Some(match before {
        Some(before) if before.grace <= grace => Ending { why, ..before.clone() },
        Some(before) => Ending { why, grace, deadline: deadline.min(before.deadline) },
        None => Ending { why, grace, deadline },
    })
}

/// When `spec.activeDeadlineSeconds` is over, counted from `started`.
pub fn active_deadline(pod: &Pod, started: Option<Timestamp>) -> Option<Timestamp> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    Some(pod::after(started?, Duration::from_secs(u64::try_from(seconds).ok()?)))
}

/// The steps of a pod that must end.
pub(super) fn end(f: &Facts<'_>, ending: &Ending, plan: &mut Plan) {
    if !tear_down(f, plan) {
        plan.stage = Stage::Ending;
        return;
    }
    plan.stage = Stage::Ended;
    match ending.why {
        Why::Failed { .. } => plan::remains(f, plan),
        Why::Deleted if f.memory.deleted == Attempt::Done => vanish(f, plan),
        Why::Deleted => {
            if f.memory.is_free(&Subject::Object) && f.memory.deleted.is_due(f.now) {
                plan.actions.push(Action::Delete);
            }
            plan.wake(f.memory.deleted.wake_at(f.now));
        }
        Why::Gone => vanish(f, plan),
    }
}

/// The steps of a pod whose containers have all done their work.
pub(super) fn wind_up(f: &Facts<'_>, plan: &mut Plan) {
    let down = tear_down(f, plan);
    plan.stage = if down { Stage::Ended } else { Stage::Ending };
    if down {
        plan::remains(f, plan);
    }
}

/// Stops containers, then the sandbox, then takes down volumes and cgroup. True when all that is done.
fn tear_down(f: &Facts<'_>, plan: &mut Plan) -> bool {
    let mut clear = stop_containers(f, plan);
    for (subject, busy) in &f.memory.busy {
        if let Subject::Container(name) = subject {
            clear = false;
            if *busy == Busy::Pulling {
                plan.actions.push(Action::Cancel { container: name.clone() });
            }
        }
    }
    if !clear || !f.memory.is_free(&Subject::Sandbox) {
        return false;
    }
    for sandbox in &f.seen.sandboxes {
        clear &= !plan::stop_sandbox(f, plan, sandbox);
    }
    if !clear || !f.memory.is_free(&Subject::Volumes) {
        return false;
    }
    if f.memory.cleaned.is_due(f.now) {
        plan.actions.push(Action::CleanUp);
    }
    plan.wake(f.memory.cleaned.wake_at(f.now));
    f.memory.cleaned == Attempt::Done
}

/// Apps at once, then sidecars from the last to the first. True when none is left.
fn stop_containers(f: &Facts<'_>, plan: &mut Plan) -> bool {
    let sidecars: Vec<&str> =
        pod::inits(f.pod).iter().filter(|it| pod::is_sidecar(it)).map(|it| it.name.as_str()).collect();
    let alive: Vec<&ContainerSeen> = f.seen.containers.iter().filter(|it| it.is_alive()).collect();
    let (last, first): (Vec<_>, Vec<_>) =
        alive.iter().partition::<Vec<&ContainerSeen>, _>(|it| sidecars.contains(&it.name.as_str()));
    if !first.is_empty() {
        for container in first {
            plan::stop(f, plan, container, Cause::PodEnds);
        }
        plan.wake(f.ending.map(|it| it.deadline).filter(|it| !last.is_empty() && *it > f.now));
        return false;
    }
    let overdue = f.ending.is_some_and(|it| it.deadline <= f.now);
    for name in sidecars.iter().rev() {
        for container in last.iter().filter(|it| it.name == *name) {
            plan::stop(f, plan, container, Cause::PodEnds);
        }
        if !overdue && last.iter().any(|it| it.name == *name) {
            return false;
        }
    }
    last.is_empty()
}

/// Removes what the runtime still has, then says that the pod is no more.
fn vanish(f: &Facts<'_>, plan: &mut Plan) {
    for container in &f.seen.containers {
        plan::remove_once(f, plan, &container.id, |id| Action::RemoveContainer { id });
    }
    if f.seen.containers.is_empty() {
        for sandbox in &f.seen.sandboxes {
            plan::remove_once(f, plan, &sandbox.id, |id| Action::RemoveSandbox { id });
        }
    }
    if f.seen.is_empty() && f.memory.busy.is_empty() {
        plan.stage = Stage::Vanished;
    }
}
