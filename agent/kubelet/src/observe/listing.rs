//! CRI lists and statuses into the tables that plans read.

use std::collections::BTreeMap;

use coracle_cri::proto as v1;
use coracle_cri::{CriError, RuntimeHandle};

use super::{ContainerSeen, Exit, Observed, SandboxSeen, State, termination};
use crate::pod;
use crate::translate::keys;

/// Everything that the runtime has, by pod uid. Two calls; addresses and exits are filled in by [`of_pod`].
pub async fn everything(runtime: &RuntimeHandle) -> Result<BTreeMap<String, Observed>, CriError> {
    let sandboxes = runtime.list_pod_sandboxes(None).await?;
    let containers = runtime.list_containers(None).await?;
    let mut pods: BTreeMap<String, Observed> = BTreeMap::new();
    for it in sandboxes {
        let Some(uid) = it.labels.get(keys::POD_UID).cloned() else { continue };
        pods.entry(uid).or_default().sandboxes.push(listed_sandbox(&it));
    }
    for it in containers {
        let Some(uid) = it.labels.get(keys::POD_UID).cloned() else { continue };
        pods.entry(uid).or_default().containers.push(listed_container(&it));
    }
    for observed in pods.values_mut() {
        observed.sort();
    }
    Ok(pods)
}

/// Everything that the runtime has of one pod, with addresses, exits and processes.
pub async fn of_pod(runtime: &RuntimeHandle, uid: &str) -> Result<Observed, CriError> {
    let labels = || [(keys::POD_UID.to_owned(), uid.to_owned())].into();
    let sandboxes = v1::PodSandboxFilter { label_selector: labels(), ..Default::default() };
    let containers = v1::ContainerFilter { label_selector: labels(), ..Default::default() };
    let mut observed = Observed::default();
    for it in runtime.list_pod_sandboxes(Some(sandboxes)).await? {
        observed.sandboxes.extend(of_sandbox(runtime, &it.id).await?);
    }
    for it in runtime.list_containers(Some(containers)).await? {
        observed.containers.extend(of_container(runtime, &it.id).await?);
    }
    observed.sort();
    Ok(observed)
}

/// One sandbox; none when it is gone.
pub async fn of_sandbox(runtime: &RuntimeHandle, id: &str) -> Result<Option<SandboxSeen>, CriError> {
    let answer = match runtime.pod_sandbox_status(id).await {
        Err(err) if err.is_not_found() => return Ok(None),
        answer => answer?,
    };
    let pid = Verbose::of(&answer.info).pid();
    let Some(status) = answer.status else { return Ok(None) };
    let network = status.network.unwrap_or_default();
    let first = (!network.ip.is_empty()).then_some(network.ip);
    let more = network.additional_ips.into_iter().map(|it| it.ip).filter(|it| !it.is_empty());
    let options = status.linux.and_then(|it| it.namespaces).and_then(|it| it.options);
    let ready = status.state == v1::PodSandboxState::SandboxReady as i32;
    Ok(Some(SandboxSeen {
        ready,
        attempt: status.metadata.map_or(0, |it| it.attempt),
        created_at: status.created_at,
        ips: first.into_iter().chain(more).collect(),
        host_network: options.is_some_and(|it| it.network == v1::NamespaceMode::Node as i32),
        pid: pid.filter(|_| ready),
        id: status.id,
    }))
}

/// One container, its last words read if it ended; none when it is gone.
pub async fn of_container(runtime: &RuntimeHandle, id: &str) -> Result<Option<ContainerSeen>, CriError> {
    let answer = match runtime.container_status(id, true).await {
        Err(err) if err.is_not_found() => return Ok(None),
        answer => answer?,
    };
    let verbose = Verbose::of(&answer.info);
    let Some(status) = answer.status else { return Ok(None) };
    let state = match v1::ContainerState::try_from(status.state) {
        Ok(v1::ContainerState::ContainerCreated) => State::Created,
        Ok(v1::ContainerState::ContainerRunning) => State::Running,
        Ok(v1::ContainerState::ContainerExited) => State::Exited(exit_of(&status).await),
        Ok(v1::ContainerState::ContainerUnknown) | Err(_) => State::Unknown,
    };
    let pid = verbose.pid();
    let stop_signal = match status.stop_signal() {
        v1::Signal::RuntimeDefault => None,
        signal => Some(signal.as_str_name()),
    };
    let sandbox_id =
        if verbose.sandbox_id.is_empty() { sandbox_of(runtime, id).await? } else { verbose.sandbox_id };
    Ok(Some(ContainerSeen {
        sandbox_id,
        name: status.labels.get(keys::CONTAINER_NAME).cloned().unwrap_or_default(),
        restart_count: restart_count(&status.annotations, status.metadata.as_ref()),
        hash: status.annotations.get(keys::CONTAINER_HASH).cloned().unwrap_or_default(),
        created_at: status.created_at,
        started_at: pod::from_nanos(status.started_at),
        image: status.image.map(|it| it.image).unwrap_or_default(),
        image_ref: status.image_ref,
        pid: pid.filter(|_| state == State::Running),
        state,
        stop_signal,
        user: status.user.and_then(|it| it.linux),
        limits: status.resources.and_then(|it| it.linux),
        id: status.id,
    }))
}

/// A container's status does not name its sandbox; its list entry does.
async fn sandbox_of(runtime: &RuntimeHandle, id: &str) -> Result<String, CriError> {
    let filter = v1::ContainerFilter { id: id.to_owned(), ..Default::default() };
    let listed = runtime.list_containers(Some(filter)).await?;
    Ok(listed.into_iter().find(|it| it.id == id).map(|it| it.pod_sandbox_id).unwrap_or_default())
}

async fn exit_of(status: &v1::ContainerStatus) -> Exit {
    let reason = match (status.reason.as_str(), status.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    Exit {
        code: status.exit_code,
        reason: reason.to_owned(),
        message: termination::message(status).await,
        at: pod::from_nanos(status.finished_at),
    }
}

fn restart_count(
    annotations: &std::collections::HashMap<String, String>,
    metadata: Option<&v1::ContainerMetadata>,
) -> u32 {
    let noted = annotations.get(keys::RESTART_COUNT).and_then(|it| it.parse().ok());
    noted.or(metadata.map(|it| it.attempt)).unwrap_or(0)
}

fn listed_sandbox(it: &v1::PodSandbox) -> SandboxSeen {
    SandboxSeen {
        id: it.id.clone(),
        ready: it.state == v1::PodSandboxState::SandboxReady as i32,
        attempt: it.metadata.as_ref().map_or(0, |it| it.attempt),
        created_at: it.created_at,
        ..SandboxSeen::default()
    }
}

fn listed_container(it: &v1::Container) -> ContainerSeen {
    let state = match v1::ContainerState::try_from(it.state) {
        Ok(v1::ContainerState::ContainerCreated) => State::Created,
        Ok(v1::ContainerState::ContainerRunning) => State::Running,
        Ok(v1::ContainerState::ContainerExited) => State::Exited(Exit::default()),
        Ok(v1::ContainerState::ContainerUnknown) | Err(_) => State::Unknown,
    };
    ContainerSeen {
        id: it.id.clone(),
        sandbox_id: it.pod_sandbox_id.clone(),
        name: it.labels.get(keys::CONTAINER_NAME).cloned().unwrap_or_default(),
        restart_count: restart_count(&it.annotations, it.metadata.as_ref()),
        hash: it.annotations.get(keys::CONTAINER_HASH).cloned().unwrap_or_default(),
        state,
        created_at: it.created_at,
        ..ContainerSeen::default()
    }
}

/// What we read of a verbose answer: `info["info"]` is a long JSON of the runtime's own.
#[derive(Debug, Default, serde::Deserialize)]
struct Verbose {
    #[serde(default)]
    pid: u32,
    #[serde(default, rename = "sandboxID")]
    sandbox_id: String,
}

impl Verbose {
    fn of(info: &std::collections::HashMap<String, String>) -> Self {
        info.get("info").and_then(|it| serde_json::from_str(it).ok()).unwrap_or_default()
    }

    fn pid(&self) -> Option<u32> {
        Some(self.pid).filter(|it| *it > 1)
    }
}
