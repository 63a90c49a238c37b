//! Why a step was chosen, for the timeline. Said after the plan, from the same facts; nothing is decided here.

use k8s_openapi::api::core::v1::Pod;

use super::action::{Action, Cause};
use super::facts::{Ending, Why};
use crate::observe::{ContainerSeen, Observed, State};
use crate::pod;

/// Why this step, in a few words.
pub(super) fn of(action: &Action, pod: &Pod, seen: &Observed, ending: Option<&Ending>) -> String {
    match action {
        Action::Mount => "cgroup and volumes come first".into(),
        Action::RunSandbox { .. } if seen.sandboxes.is_empty() => "the pod has no sandbox".into(),
        Action::RunSandbox { .. } => "the last sandbox is not usable any more".into(),
        Action::Pull { container } | Action::Launch { container, .. } => {
            due(pod, container, seen.latest(container))
        }
        Action::Stop { cause, .. } => cause_text(cause, ending),
        Action::StopSandbox { .. } | Action::CleanUp | Action::Cancel { .. } => match ending {
            Some(ending) => ending_text(&ending.why),
            None if pod::is_terminal(pod) => "the pod is over".into(),
            None => "nothing of it is needed any more".into(),
        },
        Action::Resize { .. } => "its resources were changed".into(),
        Action::Delete => "nothing runs any more: the object may go".into(),
        Action::RemoveContainer { .. } | Action::RemoveSandbox { .. } => "dead, and not the newest".into(),
    }
}

fn due(pod: &Pod, name: &str, latest: Option<&ContainerSeen>) -> String {
    let Some(latest) = latest else { return format!("{name} has not run yet") };
    match &latest.state {
        State::Created => format!("{name} was created and not started"),
        State::Exited(exit) => {
            let policy = pod.spec.as_ref().and_then(|it| it.restart_policy.as_deref()).unwrap_or("Always");
            format!("{name} exited with {} ({}), restart policy {policy}", exit.code, exit.reason)
        }
        State::Running | State::Unknown => format!("{name} belongs to an older sandbox"),
    }
}

fn cause_text(cause: &Cause, ending: Option<&Ending>) -> String {
    match cause {
        Cause::PodEnds => ending.map_or_else(|| "all others are done".into(), |it| ending_text(&it.why)),
        Cause::SandboxChanged => "its sandbox is gone or changed".into(),
        Cause::SpecChanged => "its image changed".into(),
        Cause::Liveness => "its liveness probe failed".into(),
        Cause::Startup => "its startup probe failed".into(),
        Cause::PostStart => "its postStart hook failed".into(),
        Cause::NotWanted => "the spec has no such container".into(),
        Cause::Anew => "another container ended in a way that starts all of them anew".into(),
        Cause::Resized => "its resources changed, and it wants to be started anew for that".into(),
    }
}

fn ending_text(why: &Why) -> String {
    match why {
        Why::Deleted => "the pod is being deleted".into(),
        Why::Gone => "no source has this pod".into(),
        Why::Failed { reason, message } => format!("{reason}: {message}"),
    }
}
