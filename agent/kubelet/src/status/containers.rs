//! The status of one container.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, LinuxContainerUser, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Facts, whole};
use crate::observe::{ContainerSeen, State};
use crate::pod;
use crate::worker::{self, action::Stage};

/// The statuses of all, in the order of the spec.
#[derive(Debug, Default)]
pub(super) struct Statuses {
    pub inits: Vec<ContainerStatus>,
    pub apps: Vec<ContainerStatus>,
    pub ephemerals: Vec<ContainerStatus>,
}

/// What part a container plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Init,
    Sidecar,
    App,
    Ephemeral,
}

pub(super) fn all(f: &Facts<'_>) -> Statuses {
    let before = |list: &Option<Vec<ContainerStatus>>, name: &str| -> Option<ContainerStatus> {
        list.iter().flatten().find(|it| it.name == name).cloned()
    };
    let inits: Vec<ContainerStatus> = pod::inits(f.pod)
        .iter()
        .map(|it| {
            let part = if pod::is_sidecar(it) { Part::Sidecar } else { Part::Init };
            one(f, it, part, before(&f.before.init_container_statuses, &it.name), "PodInitializing")
        })
        .collect();
    let initialized = super::conditions::initialized(f, &inits).is_empty();
    let idle = if initialized { "ContainerCreating" } else { "PodInitializing" };
    let inits = match pod::inits(f.pod).is_empty() {
        true => Vec::new(),
        false => inits,
    };
    let apps = pod::apps(f.pod)
        .iter()
        .map(|it| one(f, it, Part::App, before(&f.before.container_statuses, &it.name), idle))
        .collect();
    let ephemerals = pod::ephemerals(f.pod)
        .iter()
        .map(|it| {
            let before = before(&f.before.ephemeral_container_statuses, &it.name);
            one(f, &pod::as_container(it), Part::Ephemeral, before, "ContainerCreating")
        })
        .collect();
    Statuses { inits, apps, ephemerals }
}

fn one(
    f: &Facts<'_>,
    container: &Container,
    part: Part,
    before: Option<ContainerStatus>,
    idle: &str,
) -> ContainerStatus {
    let mut instances = f.seen.instances(&container.name).filter(|it| it.state != State::Created);
    let Some(seen) = instances.next() else { return unseen(f, container, part, before, idle) };
    // Of a life that does not count any more: it waits for the next one.
    let anew = worker::action::Waiting { reason: idle.to_owned(), message: String::new() };
    let old = !seen.is_alive() && !worker::counts(seen, worker::anew_since(f.pod, f.seen));
    let waiting = f
        .plan
        .waiting
        .get(&container.name)
        .or_else(|| Some(&anew).filter(|_| old && part != Part::Ephemeral));
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: if seen.image.is_empty() {
            container.image.clone().unwrap_or_default()
        } else {
            seen.image.clone()
        },
        image_id: seen.image_ref.clone(),
        container_id: Some(id(f, seen)),
        restart_count: i32::try_from(seen.restart_count).unwrap_or(i32::MAX),
        ..about(f, container, seen)
    };
    match (&seen.state, waiting) {
        (State::Exited(_), Some(waiting)) => {
            status.state = Some(wait(&waiting.reason, &waiting.message));
            status.last_state = Some(terminated(f, seen));
        }
        _ => {
            status.state = Some(state(f, seen));
            status.last_state =
                instances.find(|it| it.exit().is_some()).map(|it| terminated(f, it)).or_else(|| {
                    let same = before.as_ref().filter(|it| it.container_id == status.container_id);
                    same.and_then(|it| it.last_state.clone())
                });
        }
    }
    let started = f.probes.is_started(container, seen);
    status.started = Some(match part {
        Part::Init | Part::Ephemeral => seen.is_alive() && part == Part::Init,
        Part::Sidecar | Part::App => started,
    });
    status.ready = match part {
        Part::Init => !old && seen.exit().is_some_and(|it| it.code == 0),
        Part::Sidecar | Part::App => f.probes.is_ready(container, seen),
        Part::Ephemeral => false,
    };
    if part == Part::Ephemeral {
        status.started = None;
    }
    status
}

/// A container that the runtime does not have (any more).
fn unseen(
    f: &Facts<'_>,
    container: &Container,
    part: Part,
    before: Option<ContainerStatus>,
    idle: &str,
) -> ContainerStatus {
    let ran = before.filter(|it| it.container_id.as_deref().is_some_and(|it| !it.is_empty()));
    if let Some(mut ran) = ran {
        let (now_running, over) = match &ran.state {
            Some(it) => (it.running.is_some(), it.terminated.is_some()),
            None => (false, false),
        };
        if over {
            let done = part == Part::Init
                && ran
                    .state
                    .as_ref()
                    .and_then(|it| it.terminated.as_ref())
                    .is_some_and(|it| it.exit_code == 0);
            ran.ready = done;
            ran.started = Some(false).filter(|_| part != Part::Ephemeral);
            return ran;
        }
        if now_running {
            let lost = lost(&ran);
            (ran.ready, ran.started) = (false, Some(false));
            if f.plan.stage == Stage::Living {
                ran.last_state = Some(lost);
                ran.state = Some(wait(idle, ""));
            } else {
                ran.state = Some(lost);
            }
            return ran;
        }
    }
    let waiting = f.plan.waiting.get(&container.name);
    let state = match waiting {
        Some(it) => wait(&it.reason, &it.message),
        None => wait(idle, ""),
    };
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(state),
        started: Some(false).filter(|_| part != Part::Ephemeral),
        ..ContainerStatus::default()
    }
}

/// It ran, the API says, and nobody knows how it ended.
fn lost(before: &ContainerStatus) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some(
                "The container could not be located when the pod was deleted.  \
                 The container used to be Running"
                    .into(),
            ),
            container_id: before.container_id.clone(),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

fn id(f: &Facts<'_>, seen: &ContainerSeen) -> String {
    format!("{}://{}", f.runtime, seen.id)
}

fn wait(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
        }),
        ..ContainerState::default()
    }
}

fn state(f: &Facts<'_>, seen: &ContainerSeen) -> ContainerState {
    match seen.state {
        State::Running | State::Unknown | State::Created => {
            let started_at = seen.started_at.map(|it| Time(whole(it)));
            ContainerState {
                running: Some(ContainerStateRunning { started_at }),
                ..ContainerState::default()
            }
        }
        State::Exited(_) => terminated(f, seen),
    }
}

fn terminated(f: &Facts<'_>, seen: &ContainerSeen) -> ContainerState {
    let exit = seen.exit().cloned().unwrap_or_default();
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: exit.code,
            reason: Some(exit.reason),
            message: (!exit.message.is_empty()).then_some(exit.message),
            signal: None,
            started_at: seen.started_at.map(|it| Time(whole(it))),
            finished_at: exit.at.map(|it| Time(whole(it))),
            container_id: Some(id(f, seen)),
        }),
        ..ContainerState::default()
    }
}

/// Whether the spec chooses the signal that the container is stopped with: only then it is shown.
fn asks_for_signal(container: &Container) -> bool {
    container.lifecycle.as_ref().is_some_and(|it| it.stop_signal.is_some())
}

/// CRI's name of a signal in the API's spelling: `SIGRTMIN+1`, where CRI has `SIGRTMINPLUS1`.
fn api_signal(name: &str) -> String {
    name.replace("PLUS", "+").replace("MINUS", "-")
}

/// What is said of a container beside its state: resources, mounts, user.
fn about(f: &Facts<'_>, container: &Container, seen: &ContainerSeen) -> ContainerStatus {
    let allocated = container.resources.as_ref().and_then(|it| it.requests.clone());
    let given = f.given.containers.get(&seen.id).cloned();
    let given = given.or_else(|| container.resources.clone()).unwrap_or_default();
    let mounts: Vec<VolumeMountStatus> = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|it| VolumeMountStatus {
            mount_path: it.mount_path.clone(),
            name: it.name.clone(),
            read_only: it.read_only,
            recursive_read_only: it.read_only.filter(|it| *it).map(|_| "Disabled".to_owned()),
            ..VolumeMountStatus::default()
        })
        .collect();
    ContainerStatus {
        allocated_resources: allocated.filter(|it| !it.is_empty()),
        resources: Some(given),
        volume_mounts: super::some(mounts),
        stop_signal: asks_for_signal(container)
            .then(|| seen.stop_signal.map(api_signal).unwrap_or_default())
            .filter(|it| !it.is_empty()),
        user: seen.user.as_ref().map(|it| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: it.uid,
                gid: it.gid,
                supplemental_groups: super::some(it.supplemental_groups.clone()),
            }),
        }),
        ..ContainerStatus::default()
    }
}
