//! A pod's status: computed from the same facts as its plan, written when it differs.

mod conditions; // the five that the kubelet owns
mod containers; // one container's status
mod phase; // Pending, Running, Succeeded, Failed
mod writer; // what differs, as a patch

pub use writer::{difference, owned};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::observe::Observed;
use crate::pod;
use crate::probe::Verdicts;
use crate::worker::Pending;
use crate::worker::action::{Plan, Stage};
use crate::worker::facts::{Ending, Why};
use crate::worker::resize::Given;

/// What a status is made from.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// What the runtime has of it.
    pub seen: &'a Observed,
    /// What the probes say.
    pub probes: &'a Verdicts,
    /// Why containers wait, and how the pod stands.
    pub plan: &'a Plan,
    /// Why the pod ends, if it does.
    pub ending: Option<&'a Ending>,
    /// The status that the API has, ours or an earlier kubelet's.
    pub before: &'a PodStatus,
    /// The node's addresses, primary first.
    pub node_ips: &'a [String],
    /// The runtime's name: `containerd`.
    pub runtime: &'a str,
    /// What the runtime was told of resources.
    pub given: &'a Given,
    /// Other resources were allocated than were given yet: why the last attempt failed, or nothing.
    pub resizing: Option<&'a str>,
    /// Other resources are wanted than were allocated.
    pub pending: Option<&'a Pending>,
    /// The time.
    pub now: Timestamp,
}

/// The status of a pod. Pure.
pub fn status_of(f: &Facts<'_>) -> PodStatus {
    let statuses = containers::all(f);
    let phase = phase::of(f, &statuses);
    let (reason, message) = match f.ending.map(|it| &it.why) {
        Some(Why::Failed { reason, message }) => (Some(reason.clone()), Some(message.clone())),
        _ => (f.before.reason.clone(), f.before.message.clone()),
    };
    let conditions = conditions::all(f, phase, &statuses);
    let ips = pod_ips(f);
    let host_ip = f.node_ips.first().cloned();
    PodStatus {
        phase: Some(phase.to_owned()),
        reason,
        message,
        conditions: Some(conditions),
        host_ip: host_ip.clone(),
        host_ips: host_ip.map(|_| f.node_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
        start_time: f.before.start_time.clone().or(Some(Time(whole(f.now)))),
        qos_class: Some(f.before.qos_class.clone().unwrap_or_else(|| pod::qos_class(f.pod).to_owned())),
        observed_generation: f.pod.metadata.generation.or(f.before.observed_generation),
        init_container_statuses: some(statuses.inits),
        container_statuses: some(statuses.apps),
        ephemeral_container_statuses: some(statuses.ephemerals),
        ..PodStatus::default()
    }
}

/// What a status says of a container.
pub(crate) fn of_container<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let lists = [&status.container_statuses, &status.init_container_statuses];
    lists.into_iter().flatten().flatten().find(|it| it.name == name)
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// The sandbox's addresses; the node's own in the node's network; what was known while the pod ends.
fn pod_ips(f: &Facts<'_>) -> Vec<String> {
    if pod::host_network(f.pod) {
        let began = f.seen.sandbox().is_some() || f.before.pod_ip.is_some();
        return if began { f.node_ips.to_vec() } else { Vec::new() };
    }
    let seen = f.seen.sandbox().filter(|it| it.ready).map(|it| it.ips.clone()).unwrap_or_default();
    if seen.is_empty() && f.plan.stage != Stage::Living {
        return f.before.pod_ips.iter().flatten().map(|it| it.ip.clone()).collect();
    }
    seen
}

/// The API keeps whole seconds.
pub(crate) fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests;
