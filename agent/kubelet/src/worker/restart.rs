//! When a container that ended runs again: policy, rules, back-off, counts.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod};

use super::facts::{Facts, Subject};
use crate::observe::{ContainerSeen, Exit, Observed, State};
use crate::pod;

/// The first wait; it doubles with every restart.
const FIRST: Duration = Duration::from_secs(10);
/// A container that ran this long starts over with the first wait.
const RECOVERED: Duration = Duration::from_secs(600);
/// Two deadlines this near to each other are one.
pub(super) const SLACK: Duration = Duration::from_secs(1);

/// Whether a restart has to wait.
#[derive(Debug, Clone, PartialEq)]
pub enum Backoff {
    /// It does not.
    Over,
    /// It does not, and later ones are counted from this restart count.
    Fresh(u32),
    /// It does.
    Until {
        /// Until then.
        at: Timestamp,
        /// Upstream's sentence.
        message: String,
    },
}

/// What the first of the container's rules that meets this exit says.
fn by_rule<'a>(container: &'a Container, exit: &Exit) -> Option<&'a str> {
    let meets = |rule: &&ContainerRestartRule| {
        let Some(codes) = &rule.exit_codes else { return false };
        codes.values.iter().flatten().any(|it| *it == exit.code) == (codes.operator == "In")
    };
    container.restart_policy_rules.iter().flatten().find(meets).map(|it| it.action.as_str())
}

/// When a container ended in a way that starts the whole pod anew: what began before that does not count any more.
///
/// Read from what the runtime has, dead instances included, so that a kubelet that starts in the middle goes on.
pub fn anew_since(pod: &Pod, seen: &Observed) -> Option<Timestamp> {
    let ends = seen.containers.iter().filter_map(|it| {
        let (spec, exit) = (pod::container(pod, &it.name)?, it.exit()?);
        exit.at.filter(|_| by_rule(spec, exit) == Some("RestartAllContainers"))
    });
    ends.max()
}

/// Whether an instance counts, when the pod was begun anew at `since`.
pub fn counts(seen: &ContainerSeen, since: Option<Timestamp>) -> bool {
    since.is_none_or(|since| i128::from(seen.created_at) > since.as_nanosecond())
}

/// Whether something is left to stop or to start of a pod that was begun anew.
pub fn is_beginning_anew(pod: &Pod, seen: &Observed) -> bool {
    let Some(since) = anew_since(pod, seen) else { return false };
    let all = pod::apps(pod).iter().chain(pod::inits(pod));
    all.filter_map(|it| seen.latest(&it.name)).any(|it| !counts(it, Some(since)))
}

/// Whether a container that ended like this should run again.
pub fn is_wanted(pod: &Pod, container: &Container, exit: &Exit) -> bool {
    if matches!(by_rule(container, exit), Some("Restart" | "RestartAllContainers")) {
        return true;
    }
    let of_pod = pod.spec.as_ref().and_then(|it| it.restart_policy.as_deref());
    match container.restart_policy.as_deref().or(of_pod).unwrap_or("Always") {
        "Never" => false,
        "OnFailure" => exit.code != 0,
        _ => true,
    }
}

/// Whether an init container that ended like this ends the pod.
pub fn init_failed(pod: &Pod, container: &Container, exit: &Exit) -> bool {
    exit.code != 0 && !pod::is_sidecar(container) && !is_wanted(pod, container, exit)
}

/// Whether everything that the pod has to do is done, for good or ill.
pub(super) fn is_over(f: &Facts<'_>) -> bool {
    if pod::is_terminal(f.pod) && !pod::is_static(f.pod) {
        return true;
    }
    let idle = |name: &str| f.memory.is_free(&Subject::Container(name.to_owned()));
    let since = anew_since(f.pod, f.seen);
    let exit = |name: &str| f.seen.latest(name).filter(|it| counts(it, since)).and_then(ContainerSeen::exit);
    let init_failed = pod::inits(f.pod)
        .iter()
        .any(|it| idle(&it.name) && exit(&it.name).is_some_and(|exit| init_failed(f.pod, it, exit)));
    let apps = pod::apps(f.pod);
    let apps_done = !apps.is_empty()
        && apps.iter().all(|it| {
            let resized = f.seen.latest(&it.name).is_some_and(|it| f.memory.resized.contains(&it.id));
            !resized && idle(&it.name) && exit(&it.name).is_some_and(|exit| !is_wanted(f.pod, it, exit))
        });
    init_failed || apps_done
}

/// Whether the next start of this container has to wait.
pub(super) fn backoff(f: &Facts<'_>, container: &Container, prior: Option<&ContainerSeen>) -> Backoff {
    let Some((seen, exit)) = prior.and_then(|it| Some((it, it.exit()?))) else { return Backoff::Over };
    let Some(ended) = exit.at else { return Backoff::Over };
    let lasted = seen.started_at.map_or(Duration::ZERO, |it| pod::since(ended, it));
    if lasted >= RECOVERED {
        return Backoff::Fresh(seen.restart_count);
    }
    let base = f.memory.backoff_base.get(&container.name).copied().unwrap_or(0);
    let mut step = seen.restart_count.saturating_sub(base);
    if let Some(previous) = f.memory.probed.get(&seen.id) {
        // A failed probe stops a container that runs, and upstream then counts from the end of the one before it: a
        // container that lived longer than its wait is started again at once, and only the next wait grows.
        step = step.saturating_sub(1);
        let due = |it: &Timestamp| pod::since(ended, *it) >= wait(step, f.max_backoff);
        if previous.as_ref().is_none_or(due) {
            return Backoff::Over;
        }
    }
    let wait = wait(step, f.max_backoff);
    let at = pod::after(ended, wait);
    if at <= f.now {
        return Backoff::Over;
    }
    let message = format!(
        "back-off {} restarting failed container={} pod={}",
        go_duration(wait),
        container.name,
        pod::full_name(f.pod)
    );
    Backoff::Until { at, message }
}

/// The wait before the restart that follows the `step`-th one.
fn wait(step: u32, longest: Duration) -> Duration {
    match step {
        0 => Duration::ZERO,
        step => FIRST.saturating_mul(1 << (step - 1).min(16)).min(longest),
    }
}

/// Go's way to write whole seconds: `10s`, `2m40s`.
fn go_duration(it: Duration) -> String {
    match (it.as_secs() / 60, it.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

/// The restart count of the next instance. Where the runtime has forgotten all, the API still knows.
pub(super) fn count(pod: &Pod, name: &str, prior: Option<&ContainerSeen>) -> u32 {
    match prior {
        Some(seen) if seen.state == State::Created => seen.restart_count,
        Some(seen) => seen.restart_count + 1,
        None => known_count(pod, name).map_or(0, |it| it + 1),
    }
}

fn known_count(pod: &Pod, name: &str) -> Option<u32> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses];
    let known = lists.into_iter().flatten().flatten().find(|it| it.name == name)?;
    known.container_id.as_ref().filter(|it| !it.is_empty())?;
    u32::try_from(known.restart_count).ok()
}

/// Whether a container made from a spec with this hash is still what `container` wants.
pub(super) fn same_spec(container: &Container, hash: &str) -> bool {
    crate::translate::container_hash(container) == hash
}
