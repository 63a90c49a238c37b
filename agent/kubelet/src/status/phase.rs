//! Upstream's phase rules.

use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus};

use super::Facts;
use super::containers::Statuses;
use crate::pod;
use crate::worker::action::Stage;
use crate::worker::facts::Why;

/// How many containers stand where.
#[derive(Debug, Default)]
struct Tally {
    waiting: usize,
    running: usize,
    stopped: usize,
    succeeded: usize,
}

/// The pod's phase. Succeeded and Failed are never left.
pub(super) fn of(f: &Facts<'_>, statuses: &Statuses) -> &'static str {
    match f.before.phase.as_deref() {
        Some("Succeeded") if !pod::is_static(f.pod) => return "Succeeded",
        Some("Failed") if !pod::is_static(f.pod) => return "Failed",
        _ => {}
    }
    let mut phase = by_containers(f, statuses);
    if phase == "Pending" && crate::worker::is_beginning_anew(f.pod, f.seen) {
        phase = "Running"; // it ran before, and a pod does not go back
    }
    if matches!(phase, "Succeeded" | "Failed") && f.plan.stage == Stage::Ending {
        return "Running"; // said only when nothing runs any more, sidecars included
    }
    match f.ending.map(|it| &it.why) {
        Some(Why::Failed { .. }) if f.plan.stage != Stage::Ending => "Failed",
        Some(Why::Deleted)
            if matches!(f.plan.stage, Stage::Ended | Stage::Vanished) && !pod::is_static(f.pod) =>
        {
            match phase {
                "Succeeded" | "Failed" => phase,
                _ => ended(statuses),
            }
        }
        _ => phase,
    }
}

/// All containers of the pod are down: did all of them do well?
fn ended(statuses: &Statuses) -> &'static str {
    let code = |it: &ContainerStatus| terminated(it).map(|(code, _)| code);
    let well = !statuses.apps.is_empty() && statuses.apps.iter().all(|it| code(it) == Some(0));
    if well { "Succeeded" } else { "Failed" }
}

fn by_containers(f: &Facts<'_>, statuses: &Statuses) -> &'static str {
    let (mut pending_init, mut failed_init) = (false, false);
    for (spec, status) in pod::inits(f.pod).iter().zip(&statuses.inits) {
        if pod::is_sidecar(spec) {
            pending_init |= status.started != Some(true) && terminated(status).is_none();
            continue;
        }
        match terminated(status) {
            Some((0, _)) => {}
            Some((_, true)) if never(f, spec) => failed_init = true,
            _ => pending_init = true,
        }
    }
    let mut tally = Tally::default();
    for status in &statuses.apps {
        tally.add(status);
    }
    let apps_began = tally.running + tally.stopped > 0;
    if failed_init && !apps_began {
        return "Failed";
    }
    if pending_init && !apps_began {
        return "Pending";
    }
    if tally.waiting > 0 {
        return "Pending";
    }
    if tally.running > 0 || tally.stopped == 0 {
        return if tally.running > 0 { "Running" } else { "Pending" };
    }
    let over = pod::apps(f.pod).iter().zip(&statuses.apps).all(|(spec, status)| is_over(f, spec, status));
    match (over, tally.succeeded == tally.stopped) {
        (false, _) => "Running",
        (true, true) => "Succeeded",
        (true, false) => "Failed",
    }
}

/// Exit code of a container that does not run, and whether that is its present state.
fn terminated(status: &ContainerStatus) -> Option<(i32, bool)> {
    let code = |it: &Option<ContainerState>| {
        it.as_ref().and_then(|it| it.terminated.as_ref()).map(|it| it.exit_code)
    };
    if let Some(now) = code(&status.state) {
        return Some((now, true));
    }
    let waiting = status.state.as_ref().is_some_and(|it| it.waiting.is_some());
    code(&status.last_state).filter(|_| waiting).map(|it| (it, false))
}

fn never(f: &Facts<'_>, spec: &Container) -> bool {
    let of_pod = f.pod.spec.as_ref().and_then(|it| it.restart_policy.as_deref());
    spec.restart_policy.as_deref().or(of_pod) == Some("Never")
}

fn is_over(f: &Facts<'_>, spec: &Container, status: &ContainerStatus) -> bool {
    let Some((code, true)) = terminated(status) else { return false };
    let exit = crate::observe::Exit { code, ..Default::default() };
    !crate::worker::restart_is_wanted(f.pod, spec, &exit)
}

impl Tally {
    fn add(&mut self, status: &ContainerStatus) {
        if status.state.as_ref().is_some_and(|it| it.running.is_some()) {
            self.running += 1;
        } else if let Some((code, _)) = terminated(status) {
            self.stopped += 1;
            self.succeeded += usize::from(code == 0);
        } else {
            self.waiting += 1;
        }
    }
}
