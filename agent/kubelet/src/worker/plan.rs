//! The plan of one pod: a pure function of the spec, what was observed, and the time.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Container;

use super::action::{Action, Cause, Plan, Stage};
use super::ending;
use super::facts::{Attempt, Busy, Facts, Failure, Subject};
use super::resize;
use super::restart::{self, Backoff};
use crate::image::is_pull_failure;
use crate::observe::{ContainerSeen, SandboxSeen, State};
use crate::pod;

/// How long a failed pull is shown as such, before it is shown as a wait.
const TOLD: Duration = Duration::from_secs(3);

/// The steps, in order, that bring the pod nearer to what it should be. None when it is there.
pub fn plan(f: &Facts<'_>) -> Plan {
    let mut plan = Plan::default();
    match f.ending {
        Some(ending) => ending::end(f, ending, &mut plan),
        None if restart::is_over(f) => ending::wind_up(f, &mut plan),
        None => live(f, &mut plan),
    }
    plan
}

fn live(f: &Facts<'_>, plan: &mut Plan) {
    plan.stage = Stage::Living;
    if f.memory.is_free(&Subject::Volumes) {
        if f.memory.mounted.is_due(f.now) {
            plan.actions.push(Action::Mount);
        }
        plan.wake(f.memory.mounted.wake_at(f.now));
    }
    let sandbox = sandbox(f, plan);
    unwanted(f, plan);
    if old_ones(f, plan) {
        return;
    }
    ephemerals(f, plan, sandbox);
    if inits(f, plan, sandbox) {
        for container in pod::apps(f.pod) {
            app(f, plan, sandbox, container);
        }
    }
    if sandbox.is_some() {
        resize::plan(f, plan);
    }
    remains(f, plan);
}

/// The sandbox to start containers in; plans to get one where there is none.
fn sandbox<'a>(f: &Facts<'a>, plan: &mut Plan) -> Option<&'a SandboxSeen> {
    let newest = f.seen.sandbox();
    if let Some(usable) = newest.filter(|it| is_usable(f, it)) {
        for old in f.seen.sandboxes.iter().skip(1) {
            stop_sandbox(f, plan, old);
        }
        return Some(usable);
    }
    let mut clear = true;
    for container in f.seen.containers.iter().filter(|it| it.is_alive()) {
        clear = false;
        stop(f, plan, container, Cause::SandboxChanged);
    }
    if !clear || !f.memory.is_free(&Subject::Sandbox) {
        return None;
    }
    for old in &f.seen.sandboxes {
        if stop_sandbox(f, plan, old) {
            return None;
        }
    }
    if f.memory.mounted == Attempt::Done && f.memory.sandbox.is_due(f.now) {
        plan.actions.push(Action::RunSandbox { attempt: newest.map_or(0, |it| it.attempt + 1) });
    }
    plan.wake(f.memory.sandbox.wake_at(f.now));
    None
}

fn is_usable(f: &Facts<'_>, sandbox: &SandboxSeen) -> bool {
    let wants_host = pod::host_network(f.pod);
    sandbox.ready && sandbox.host_network == wants_host && (wants_host || !sandbox.ips.is_empty())
}

/// Plans to tear down a sandbox; false when that is known to be done.
pub(super) fn stop_sandbox(f: &Facts<'_>, plan: &mut Plan, sandbox: &SandboxSeen) -> bool {
    if !sandbox.ready && f.memory.stopped_sandboxes.contains(&sandbox.id) {
        return false;
    }
    let retry = f.memory.retry.get(&sandbox.id);
    let planned = plan.actions.iter().any(|it| it.subject() == Subject::Sandbox);
    if !planned && f.memory.is_free(&Subject::Sandbox) && retry.is_none_or(|it| it.is_due(f.now)) {
        plan.actions.push(Action::StopSandbox { id: sandbox.id.clone() });
    }
    plan.wake(retry.and_then(|it| it.wake_at(f.now)));
    true
}

/// Containers that the spec does not have.
fn unwanted(f: &Facts<'_>, plan: &mut Plan) {
    let wanted = |name: &str| {
        pod::container(f.pod, name).is_some() || pod::ephemerals(f.pod).iter().any(|it| it.name == name)
    };
    for container in f.seen.containers.iter().filter(|it| it.is_alive() && !wanted(&it.name)) {
        stop(f, plan, container, Cause::NotWanted);
    }
}

/// When the pod begins anew, everything of before has to end first. True while something of it runs.
fn old_ones(f: &Facts<'_>, plan: &mut Plan) -> bool {
    let since = restart::anew_since(f.pod, f.seen);
    let mut left = false;
    for container in f.seen.containers.iter().filter(|it| it.is_alive() && !restart::counts(it, since)) {
        left = true;
        stop(f, plan, container, Cause::Anew);
    }
    left
}

fn ephemerals(f: &Facts<'_>, plan: &mut Plan, sandbox: Option<&SandboxSeen>) {
    if sandbox.is_none() {
        return;
    }
    for spec in pod::ephemerals(f.pod) {
        let latest = f.seen.latest(&spec.name);
        if latest.is_none_or(|it| it.state == State::Created) {
            start(f, plan, sandbox, &pod::as_container(spec), latest);
        }
    }
}

/// Init containers, one after the other. True when app containers may start.
fn inits(f: &Facts<'_>, plan: &mut Plan, sandbox: Option<&SandboxSeen>) -> bool {
    let since = restart::anew_since(f.pod, f.seen);
    let here = |name: &str| {
        let latest = sandbox.and_then(|it| f.seen.latest_in(name, &it.id));
        latest.filter(|it| restart::counts(it, since))
    };
    let apps_began = pod::apps(f.pod).iter().any(|it| here(&it.name).is_some());
    for container in pod::inits(f.pod) {
        let latest = here(&container.name);
        if pod::is_sidecar(container) {
            app(f, plan, sandbox, container);
            let started = latest.is_some_and(|it| f.probes.is_started(container, it));
            if !apps_began && !started {
                return false;
            }
            continue;
        }
        if apps_began {
            continue;
        }
        match latest.map(|it| &it.state) {
            Some(State::Exited(exit)) if exit.code == 0 => continue,
            Some(State::Exited(exit)) if !restart::is_wanted(f.pod, container, exit) => {}
            Some(State::Running | State::Unknown) => {}
            Some(State::Exited(_) | State::Created) | None => {
                start(f, plan, sandbox, container, f.seen.latest(&container.name));
            }
        }
        return false;
    }
    true
}

/// A container that should run: an app container or a sidecar.
fn app(f: &Facts<'_>, plan: &mut Plan, sandbox: Option<&SandboxSeen>, container: &Container) {
    let latest = f.seen.latest(&container.name);
    match latest {
        Some(seen) if seen.is_alive() => keep(f, plan, container, seen),
        Some(seen) if !restart::counts(seen, restart::anew_since(f.pod, f.seen)) => {
            start(f, plan, sandbox, container, Some(seen));
        }
        Some(seen) if f.memory.resized.contains(&seen.id) => start(f, plan, sandbox, container, Some(seen)),
        Some(seen) if seen.exit().is_some_and(|it| !restart::is_wanted(f.pod, container, it)) => {}
        latest => start(f, plan, sandbox, container, latest),
    }
}

/// A running container: stopped only when its probe or its spec says so.
fn keep(f: &Facts<'_>, plan: &mut Plan, container: &Container, seen: &ContainerSeen) {
    if !seen.hash.is_empty() && !restart::same_spec(container, &seen.hash) {
        stop(f, plan, seen, Cause::SpecChanged);
    } else if let Some(cause) = f.probes.failed(seen) {
        stop(f, plan, seen, cause);
    }
}

/// A container that does not run and should: image, back-off, launch.
fn start(
    f: &Facts<'_>,
    plan: &mut Plan,
    sandbox: Option<&SandboxSeen>,
    container: &Container,
    prior: Option<&ContainerSeen>,
) {
    let name = &container.name;
    if !f.memory.is_free(&Subject::Container(name.clone())) {
        if let Some(failure) = f.memory.images.get(name).and_then(Attempt::failure) {
            no_image(f, plan, container, failure);
        }
        return;
    }
    let resized = prior.is_some_and(|it| f.memory.resized.contains(&it.id));
    match restart::backoff(f, container, prior.filter(|_| !resized)) {
        Backoff::Until { at, message } => {
            plan.wait(name, "CrashLoopBackOff", message);
            return plan.wake(Some(at));
        }
        Backoff::Fresh(base) => {
            plan.fresh_backoff.insert(name.clone(), base);
        }
        Backoff::Over => {}
    }
    if let Some(failure) = f.memory.launches.get(name).and_then(Attempt::failure) {
        plan.wait(name, &failure.reason, failure.message.clone());
        if failure.retry_at > f.now {
            return plan.wake(Some(failure.retry_at));
        }
    }
    match f.memory.images.get(name) {
        Some(Attempt::Done) => {}
        Some(Attempt::Failed(failure)) if failure.retry_at > f.now => {
            return no_image(f, plan, container, failure);
        }
        Some(Attempt::Failed(failure)) => {
            no_image(f, plan, container, failure);
            return plan.actions.push(Action::Pull { container: name.clone() });
        }
        Some(Attempt::Due) | None => return plan.actions.push(Action::Pull { container: name.clone() }),
    }
    if resize::holds_starts(f) {
        return; // the end of the resize wakes us
    }
    let Some(sandbox) = sandbox.filter(|_| f.memory.mounted == Attempt::Done) else { return };
    let created = prior.filter(|it| it.state == State::Created && it.sandbox_id == sandbox.id);
    if created.is_some_and(|it| !it.hash.is_empty() && !restart::same_spec(container, &it.hash)) {
        return; // made from an older spec: `remains` removes it, then it is made anew
    }
    plan.actions.push(Action::Launch {
        container: name.clone(),
        restart: restart::count(f.pod, name, prior),
        created: created.map(|it| it.id.clone()),
    });
}

/// An image that could not be had: the failure itself for a moment, then that we wait.
fn no_image(f: &Facts<'_>, plan: &mut Plan, container: &Container, failure: &Failure) {
    plan.wake(Some(failure.retry_at).filter(|it| *it > f.now));
    let told = pod::after(failure.at, TOLD);
    let of_pull = is_pull_failure(&failure.reason);
    if !of_pull || told > f.now {
        plan.wake(Some(told).filter(|_| of_pull && told > f.now));
        return plan.wait(&container.name, &failure.reason, failure.message.clone());
    }
    let of_volume = f.memory.volume_images.get(&container.name).map(String::as_str);
    let image = of_volume.or(container.image.as_deref()).unwrap_or_default();
    let message = format!("Back-off pulling image {image:?}: {}: {}", failure.reason, failure.message);
    plan.wait(&container.name, "ImagePullBackOff", message);
}

/// Plans to stop a running container, once.
pub(super) fn stop(f: &Facts<'_>, plan: &mut Plan, container: &ContainerSeen, cause: Cause) {
    let grace = f.ending.map_or_else(
        || f.probes.grace(f.pod, container, &cause).unwrap_or_else(|| pod::grace(f.pod)),
        |it| it.grace_left(f.now),
    );
    let subject = Subject::Container(container.name.clone());
    let sooner = |by| pod::after(f.now, grace + restart::SLACK) < by;
    let due = match f.memory.busy.get(&subject) {
        None => true,
        Some(Busy::Stopping(by)) => sooner(*by),
        Some(Busy::Working | Busy::Pulling) => false,
    };
    let retry = f.memory.retry.get(&container.id);
    plan.wake(retry.and_then(|it| it.wake_at(f.now)));
    let planned = plan.actions.iter().any(|it| it.subject() == subject);
    if due && !planned && retry.is_none_or(|it| it.is_due(f.now)) {
        let (container, id) = (container.name.clone(), container.id.clone());
        plan.actions.push(Action::Stop { container, id, grace, cause });
    }
}

/// Dead containers but the newest of each name, and sandboxes that nothing lives in.
pub(super) fn remains(f: &Facts<'_>, plan: &mut Plan) {
    let mut dead: BTreeMap<&str, u32> = BTreeMap::new();
    let mut kept = Vec::new();
    for container in &f.seen.containers {
        let remove = match container.state {
            State::Running | State::Unknown => false,
            State::Created => is_stale(f, container),
            State::Exited(_) => {
                let count = dead.entry(&container.name).or_default();
                *count += 1;
                *count > 1
            }
        };
        let free = f.memory.is_free(&Subject::Container(container.name.clone()));
        if remove && free {
            remove_once(f, plan, &container.id, |id| Action::RemoveContainer { id });
        }
        kept.push(container.sandbox_id.as_str());
    }
    for old in f.seen.sandboxes.iter().skip(1) {
        let stopped = !old.ready && f.memory.stopped_sandboxes.contains(&old.id);
        if stopped && !kept.contains(&old.id.as_str()) {
            remove_once(f, plan, &old.id, |id| Action::RemoveSandbox { id });
        }
    }
}

/// Created but never to be started: in an old sandbox, from an older spec, or not wanted.
fn is_stale(f: &Facts<'_>, container: &ContainerSeen) -> bool {
    let newest = f.seen.latest(&container.name).is_some_and(|it| it.id == container.id);
    let here = f.seen.sandbox().is_some_and(|it| it.id == container.sandbox_id);
    let Some(spec) = pod::any_container(f.pod, &container.name) else { return true };
    !newest || !here || !(container.hash.is_empty() || restart::same_spec(&spec, &container.hash))
}

/// Plans a removal unless it is under way or has to wait. True when something is left to remove.
pub(super) fn remove_once(f: &Facts<'_>, plan: &mut Plan, id: &str, action: impl FnOnce(String) -> Action) {
    let retry = f.memory.retry.get(id);
    plan.wake(retry.and_then(|it| it.wake_at(f.now)));
    if f.memory.is_free(&Subject::Remains(id.to_owned())) && retry.is_none_or(|it| it.is_due(f.now)) {
        plan.actions.push(action(id.to_owned()));
    }
}
