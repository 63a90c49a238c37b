//! The conditions that the kubelet owns, in upstream's order, with the times of their last change.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::containers::Statuses;
use super::{Facts, whole};
use crate::pod;
use crate::worker::facts::Why;
use crate::worker::{self, action::Stage};

/// A condition's worth: status, reason, message.
struct Worth {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Worth {
    fn yes() -> Self {
        Self { holds: true, reason: None, message: None }
    }

    fn no(reason: &'static str, message: Option<String>) -> Self {
        Self { holds: false, reason: Some(reason), message }
    }
}

pub(super) fn all(f: &Facts<'_>, phase: &str, statuses: &Statuses) -> Vec<PodCondition> {
    let sandbox = f.seen.sandbox().filter(|it| it.ready && (it.host_network || !it.ips.is_empty()));
    let prepared = if sandbox.is_some() && f.plan.stage != Stage::Ended {
        Worth::yes()
    } else {
        Worth { holds: false, reason: None, message: None }
    };
    let containers = containers_ready(f, phase, statuses);
    let ready = ready(f, &containers);
    let mut list = vec![
        condition(f, "PodReadyToStartContainers", prepared),
        condition(f, "Initialized", is_initialized(f, phase, statuses)),
        condition(f, "Ready", ready),
        condition(f, "ContainersReady", containers),
        condition(f, "PodScheduled", Worth::yes()),
    ];
    // Upstream marks what the kubelet itself ended for the node's sake, so that a Job can tell it from a failure.
    if let Some(Why::Failed { reason, message }) = f.ending.map(|it| &it.why)
        && reason == "Terminated"
    {
        let worth =
            Worth { holds: true, reason: Some(super::writer::BY_KUBELET), message: Some(message.clone()) };
        list.push(condition(f, "DisruptionTarget", worth));
    }
    if f.plan.stage == Stage::Living && worker::is_beginning_anew(f.pod, f.seen) {
        list.push(condition(f, "AllContainersRestarting", Worth::yes()));
    }
    if let Some(pending) = f.pending {
        let worth =
            Worth { holds: true, reason: Some(pending.reason), message: Some(pending.message.clone()) };
        list.push(condition(f, "PodResizePending", worth));
    }
    if let Some(failure) = f.resizing {
        let failed = !failure.is_empty();
        let message = failed.then(|| failure.to_owned());
        let worth = Worth { holds: true, reason: failed.then_some("Error"), message };
        list.push(condition(f, "PodResizeInProgress", worth));
    }
    let theirs = f.pod.status.iter().flat_map(|it| it.conditions.iter().flatten());
    for other in theirs {
        let known = list.iter().any(|it| it.type_ == other.type_);
        if !known && !super::writer::OWNED_CONDITIONS.contains(&other.type_.as_str()) {
            list.push(other.clone());
        }
    }
    list
}

fn condition(f: &Facts<'_>, kind: &str, worth: Worth) -> PodCondition {
    let status = if worth.holds { "True" } else { "False" };
    let before = f.before.conditions.iter().flatten().find(|it| it.type_ == kind);
    let kept = before.filter(|it| it.status == status).and_then(|it| it.last_transition_time.clone());
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: worth.reason.map(str::to_owned),
        message: worth.message,
        last_transition_time: kept.or_else(|| Some(Time(whole(f.now)))),
        last_probe_time: None,
        observed_generation: f.pod.metadata.generation,
    }
}

/// The init containers that have not done their part.
pub(super) fn initialized<'a>(f: &Facts<'_>, inits: &'a [ContainerStatus]) -> Vec<&'a str> {
    let since = worker::anew_since(f.pod, f.seen);
    let began = |name: &str| f.seen.latest(name).is_some_and(|it| worker::counts(it, since));
    let apps_began = pod::apps(f.pod).iter().any(|it| began(&it.name));
    if apps_began {
        return Vec::new();
    }
    let specs = pod::inits(f.pod).iter();
    specs
        .zip(inits)
        .filter(
            |(spec, status)| {
                if pod::is_sidecar(spec) { status.started != Some(true) } else { !status.ready }
            },
        )
        .map(|(_, status)| status.name.as_str())
        .collect()
}

fn is_initialized(f: &Facts<'_>, phase: &str, statuses: &Statuses) -> Worth {
    let missing = initialized(f, &statuses.inits);
    if phase == "Succeeded" {
        return Worth { holds: true, reason: Some("PodCompleted"), message: None };
    }
    if missing.is_empty() {
        return Worth::yes();
    }
    let message = format!("containers with incomplete status: [{}]", missing.join(" "));
    Worth::no("ContainersNotInitialized", Some(message))
}

fn containers_ready(f: &Facts<'_>, phase: &str, statuses: &Statuses) -> Worth {
    match phase {
        "Succeeded" => return Worth::no("PodCompleted", None),
        "Failed" => return Worth::no("PodFailed", None),
        _ => {}
    }
    let sidecars = pod::inits(f.pod).iter().zip(&statuses.inits);
    let sidecars = sidecars.filter(|(spec, _)| pod::is_sidecar(spec)).map(|(_, status)| status);
    let unready: Vec<&str> =
        sidecars.chain(&statuses.apps).filter(|it| !it.ready).map(|it| it.name.as_str()).collect();
    if unready.is_empty() {
        return Worth::yes();
    }
    Worth::no("ContainersNotReady", Some(format!("containers with unready status: [{}]", unready.join(" "))))
}

/// Ready is ContainersReady and every readiness gate.
fn ready(f: &Facts<'_>, containers: &Worth) -> Worth {
    if !containers.holds {
        return Worth { holds: false, reason: containers.reason, message: containers.message.clone() };
    }
    let gates = f.pod.spec.iter().flat_map(|it| it.readiness_gates.iter().flatten());
    let problems: Vec<String> = gates
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            // Gates are set by others: the object as the source has it is the newest that we know.
            let current = f.pod.status.iter().flat_map(|it| it.conditions.iter().flatten());
            match current.into_iter().find(|it| it.type_ == *kind) {
                None => {
                    Some(format!("corresponding condition of pod readiness gate {kind:?} does not exist."))
                }
                Some(it) if it.status != "True" => Some(format!(
                    "the status of pod readiness gate {kind:?} is not \"True\", but {}",
                    it.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if problems.is_empty() {
        return Worth::yes();
    }
    Worth::no("ReadinessGatesNotReady", Some(problems.join(", ")))
}
