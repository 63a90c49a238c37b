//! Resources of a pod that change while it runs: what differs between what was allocated and what was given. Pure.
//!
//! The pod that a worker has shows what was *allocated*; what the runtime and the kernel were last told is remembered in
//! [`Given`]. A kubelet that starts reads both back from the pod's status.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use super::action::{Action, Cause, Plan};
use super::facts::{Attempt, Facts, Subject};
use super::plan;
use crate::observe::ContainerSeen;
use crate::pod;
use crate::resources::Amounts;

/// A wish for other resources that this node does not grant (yet).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// `Deferred` or `Infeasible`.
    pub reason: &'static str,
    /// Why.
    pub message: String,
}

/// What the runtime and the kernel were told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    /// By the ids of running containers.
    pub containers: BTreeMap<String, ResourceRequirements>,
    /// Of the pod's cgroup; none: not known yet.
    pub cgroup: Option<String>,
}

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changed {
    /// Requests or limits of cpu.
    pub cpu: bool,
    /// Requests or limits of memory.
    pub memory: bool,
}

impl Changed {
    /// Between two containers' or pods' resources.
    pub fn between(a: &ResourceRequirements, b: &ResourceRequirements) -> Self {
        let amounts =
            |it: &ResourceRequirements| [Amounts::of(it.requests.as_ref()), Amounts::of(it.limits.as_ref())];
        let (a, b) = (amounts(a), amounts(b));
        let differs = |name: &str| a.iter().zip(&b).any(|(a, b)| a.get(name) != b.get(name));
        Self { cpu: differs("cpu"), memory: differs("memory") }
    }

    /// Whether anything does.
    pub fn any(self) -> bool {
        self.cpu || self.memory
    }
}

/// A container's resources, empty when it has none.
pub fn resources(container: &Container) -> ResourceRequirements {
    container.resources.clone().unwrap_or_default()
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod::apps(pod).iter().chain(pod::inits(pod))
}

/// Whether two versions of a pod differ in what can be resized.
pub fn differs(a: &Pod, b: &Pod) -> bool {
    let of = |it: &Pod| it.spec.as_ref().and_then(|it| it.resources.clone()).unwrap_or_default();
    Changed::between(&of(a), &of(b)).any()
        || containers(a).any(|it| {
            let other = pod::container(b, &it.name).map(resources);
            other.is_some_and(|other| Changed::between(&resources(it), &other).any())
        })
}

/// The pod with cpu and memory as `of` says, by container; what `of` does not know stays.
pub fn with(pod: &Pod, of: impl Fn(&str) -> Option<ResourceRequirements>) -> Pod {
    let mut pod = pod.clone();
    let Some(spec) = &mut pod.spec else { return pod };
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let Some(other) = of(&container.name) else { continue };
        let own = container.resources.get_or_insert_default();
        put(&mut own.requests, other.requests.as_ref());
        put(&mut own.limits, other.limits.as_ref());
    }
    pod
}

type List = BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

/// cpu and memory from elsewhere; all else cannot be resized.
fn put(into: &mut Option<List>, from: Option<&List>) {
    for name in ["cpu", "memory"] {
        match from.and_then(|it| it.get(name)) {
            Some(amount) => drop(into.get_or_insert_default().insert(name.to_owned(), amount.clone())),
            None => drop(into.as_mut().and_then(|it| it.remove(name))),
        }
    }
    if into.as_ref().is_some_and(BTreeMap::is_empty) {
        *into = None;
    }
}

/// What the status says that a container was allocated and given.
pub fn remembered(pod: &Pod, name: &str) -> Option<ResourceRequirements> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses];
    let known = lists.into_iter().flatten().flatten().find(|it| it.name == name)?;
    let given = known.resources.clone()?;
    known.container_id.as_ref().filter(|it| !it.is_empty())?;
    let requests = known.allocated_resources.clone().or(given.requests);
    Some(ResourceRequirements { requests, ..given })
}

/// Everything that the limits of the pod's cgroup are made from.
pub fn fingerprint(pod: &Pod) -> String {
    let mut text = format!("{:?}", pod.spec.as_ref().and_then(|it| it.resources.as_ref()));
    for container in containers(pod) {
        let own = resources(container);
        for list in [own.requests.as_ref(), own.limits.as_ref()] {
            let amounts = Amounts::of(list);
            text.push_str(&format!(" {:?} {:?}", amounts.get("cpu"), amounts.get("memory")));
        }
    }
    text
}

/// What of a running container is not as allocated.
fn changed(f: &Facts<'_>, container: &Container, seen: &ContainerSeen) -> Changed {
    let given = f.memory.given.containers.get(&seen.id);
    given.map_or_else(Changed::default, |it| Changed::between(&resources(container), it))
}

/// Whether the change is one that the container wants to be started anew for.
pub(super) fn wants_restart(f: &Facts<'_>, container: &Container, seen: &ContainerSeen) -> bool {
    let changed = changed(f, container, seen);
    let wants = |what: &str| {
        let policies = container.resize_policy.iter().flatten();
        policies.into_iter().any(|it| it.resource_name == what && it.restart_policy == "RestartContainer")
    };
    (changed.cpu && wants("cpu")) || (changed.memory && wants("memory"))
}

/// Whether what was allocated has not been given whole.
pub(super) fn in_progress(f: &Facts<'_>) -> bool {
    is_cgroup_due(f)
        || alive(f).any(|(container, seen)| changed(f, container, seen).any())
        || containers(f.pod)
            .any(|it| f.seen.latest(&it.name).is_some_and(|it| f.memory.resized.contains(&it.id)))
}

fn is_cgroup_due(f: &Facts<'_>) -> bool {
    f.memory.given.cgroup.as_ref().is_some_and(|it| *it != fingerprint(f.pod))
}

fn alive<'a>(f: &'a Facts<'_>) -> impl Iterator<Item = (&'a Container, &'a ContainerSeen)> {
    containers(f.pod).filter_map(|it| Some((it, f.seen.latest(&it.name).filter(|seen| seen.is_alive())?)))
}

/// Whether a start has to wait for the pod's cgroup to become large enough.
pub(super) fn holds_starts(f: &Facts<'_>) -> bool {
    is_cgroup_due(f) && f.memory.resize.failure().is_none()
}

/// Plans to give running containers, and the pod's cgroup, what was allocated.
pub(super) fn plan(f: &Facts<'_>, plan: &mut Plan) {
    let mut due = Vec::new();
    for (container, seen) in alive(f) {
        if wants_restart(f, container, seen) {
            plan::stop(f, plan, seen, Cause::Resized);
        } else if changed(f, container, seen).any() {
            due.push((container.name.clone(), seen.id.clone()));
        }
    }
    if due.is_empty() && !is_cgroup_due(f) {
        return;
    }
    plan.wake(f.memory.resize.wake_at(f.now));
    let tried = f.memory.resize == Attempt::Done || f.memory.resize.is_due(f.now);
    if tried && f.memory.is_free(&Subject::Resources) {
        plan.actions.push(Action::Resize { containers: due });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(requests: &str, limits: &str) -> Pod {
        serde_json::from_str(&format!(
            r#"{{"spec":{{"containers":[{{"name":"a","resources":{{"requests":{requests},"limits":{limits}}}}}]}}}}"#
        ))
        .unwrap()
    }

    #[test]
    fn amounts_are_compared_and_not_their_spelling() {
        let a = pod(r#"{"cpu":"1","memory":"1Gi"}"#, "{}");
        assert!(!differs(&a, &pod(r#"{"cpu":"1000m","memory":"1024Mi"}"#, "{}")));
        assert!(differs(&a, &pod(r#"{"cpu":"1","memory":"1Gi"}"#, r#"{"cpu":"1"}"#)));
        assert!(!differs(&a, &pod(r#"{"cpu":"1","memory":"1Gi","ephemeral-storage":"1Gi"}"#, "{}")));
        assert_ne!(fingerprint(&a), fingerprint(&pod(r#"{"cpu":"2","memory":"1Gi"}"#, "{}")));
        let other = pod(r#"{"cpu":"2","ephemeral-storage":"1Gi"}"#, r#"{"cpu":"3"}"#);
        let back = with(&other, |_| Some(resources(&pod::apps(&a)[0])));
        assert!(!differs(&a, &back));
        let kept = pod::apps(&back)[0].resources.clone().unwrap().requests.unwrap();
        assert_eq!(kept["ephemeral-storage"].0, "1Gi");
    }

    #[test]
    fn a_status_remembers_what_was_allocated() {
        let mut pod = pod(r#"{"cpu":"2"}"#, r#"{"cpu":"2"}"#);
        pod.status = serde_json::from_str(
            r#"{"containerStatuses":[{"name":"a","containerID":"x://1","image":"","imageID":"","ready":true,
                "restartCount":0,"allocatedResources":{"cpu":"1"},"resources":{"requests":{"cpu":"1"},"limits":{"cpu":"1"}}}]}"#,
        )
        .ok();
        let allocated = with(&pod, |name| remembered(&pod, name));
        assert!(differs(&allocated, &pod));
        assert_eq!(pod::apps(&allocated)[0].resources.clone().unwrap().limits.unwrap()["cpu"].0, "1");
        pod.status = None;
        assert!(!differs(&with(&pod, |name| remembered(&pod, name)), &pod), "never ran: the spec counts");
    }
}
