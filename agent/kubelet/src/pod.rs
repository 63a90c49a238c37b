//! Short answers about a Pod that every room asks for.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, ImageVolumeSource, Pod, Probe};

/// Annotation: where a pod came from (`api`, `file`).
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// Annotation: hash of a static pod's content.
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Annotation: on a mirror pod, the hash of the static pod that it mirrors.
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
/// Annotation: when this kubelet first saw the pod.
pub const CONFIG_SEEN: &str = "kubernetes.io/config.seen";

/// The pod's uid; empty for an object that never was on a server.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// The pod's name.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The pod's namespace.
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// `namespace/name`, for logs.
pub fn key(pod: &Pod) -> String {
    format!("{}/{}", namespace(pod), name(pod))
}

/// Upstream's way to name a pod in messages: `name_namespace(uid)`.
pub fn full_name(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// One annotation.
pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether the pod came from this machine and not from the API server.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, CONFIG_SOURCE).is_some_and(|it| it != "api")
}

/// Whether the pod is the API server's picture of a static pod.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, CONFIG_MIRROR).is_some()
}

/// Whether the API server already says that the pod is over.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// The phase that the API server knows; empty when it knows none.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|it| it.phase.as_deref()).unwrap_or_default()
}

/// The time that the pod's containers have to end by themselves.
pub fn grace(pod: &Pod) -> Duration {
    let seconds = pod
        .metadata
        .deletion_timestamp
        .as_ref()
        .and(pod.metadata.deletion_grace_period_seconds)
        .or_else(|| pod.spec.as_ref().and_then(|it| it.termination_grace_period_seconds))
        .unwrap_or(30);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// `spec.containers`.
pub fn apps(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().map(|it| it.containers.as_slice()).unwrap_or_default()
}

/// `spec.initContainers`, sidecars among them.
pub fn inits(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().and_then(|it| it.init_containers.as_deref()).unwrap_or_default()
}

/// `spec.ephemeralContainers`.
pub fn ephemerals(pod: &Pod) -> &[EphemeralContainer] {
    pod.spec.as_ref().and_then(|it| it.ephemeral_containers.as_deref()).unwrap_or_default()
}

/// An init container that runs as long as the pod does.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// An app or init container by name.
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    apps(pod).iter().chain(inits(pod)).find(|it| it.name == name)
}

/// An ephemeral container in the shape of the others, without the fields that it cannot have.
pub fn as_container(it: &EphemeralContainer) -> Container {
    Container {
        name: it.name.clone(),
        image: it.image.clone(),
        image_pull_policy: it.image_pull_policy.clone(),
        command: it.command.clone(),
        args: it.args.clone(),
        env: it.env.clone(),
        env_from: it.env_from.clone(),
        security_context: it.security_context.clone(),
        resources: it.resources.clone(),
        stdin: it.stdin,
        stdin_once: it.stdin_once,
        tty: it.tty,
        termination_message_path: it.termination_message_path.clone(),
        termination_message_policy: it.termination_message_policy.clone(),
        volume_mounts: it.volume_mounts.clone(),
        volume_devices: it.volume_devices.clone(),
        working_dir: it.working_dir.clone(),
        ..Container::default()
    }
}

/// Any container of the pod by name, ephemeral ones included.
pub fn any_container(pod: &Pod, name: &str) -> Option<Container> {
    container(pod, name)
        .cloned()
        .or_else(|| ephemerals(pod).iter().find(|it| it.name == name).map(as_container))
}

/// Every image that the spec names, those of volumes among them.
pub fn images(pod: &Pod) -> impl Iterator<Item = &str> {
    let containers = inits(pod).iter().chain(apps(pod)).filter_map(|it| it.image.as_deref());
    let ephemerals = ephemerals(pod).iter().filter_map(|it| it.image.as_deref());
    let volumes = pod.spec.iter().flat_map(|it| it.volumes.iter().flatten());
    let volumes = volumes.filter_map(|it| it.image.as_ref()?.reference.as_deref());
    containers.chain(ephemerals).chain(volumes)
}

/// Name and source of each volume of the pod that is an image and that this container mounts.
pub fn image_volumes<'a>(
    pod: &'a Pod,
    container: &'a Container,
) -> impl Iterator<Item = (&'a str, &'a ImageVolumeSource)> {
    let mounts = |name: &str| container.volume_mounts.iter().flatten().any(|it| it.name == name);
    let volumes = pod.spec.iter().flat_map(|it| it.volumes.iter().flatten());
    volumes.filter_map(|it| Some((it.name.as_str(), it.image.as_ref()?))).filter(move |it| mounts(it.0))
}

/// Whether the pod lives in the node's own network.
pub fn host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|it| it.host_network).unwrap_or(false)
}

/// What an Event about this container points at.
pub fn field_path(pod: &Pod, container: &str) -> String {
    let list = if apps(pod).iter().any(|it| it.name == container) {
        "containers"
    } else if inits(pod).iter().any(|it| it.name == container) {
        "initContainers"
    } else {
        "ephemeralContainers"
    };
    format!("spec.{list}{{{container}}}")
}

/// Upstream's QoS class: by the requests and limits of cpu and memory.
pub fn qos_class(pod: &Pod) -> &'static str {
    if let Some(known) = pod.status.as_ref().and_then(|it| it.qos_class.as_deref()) {
        match known {
            "Guaranteed" => return "Guaranteed",
            "Burstable" => return "Burstable",
            "BestEffort" => return "BestEffort",
            _ => {}
        }
    }
    let (mut any, mut guaranteed) = (false, true);
    for container in apps(pod).iter().chain(inits(pod)) {
        let resources = container.resources.as_ref();
        for what in ["cpu", "memory"] {
            let limit = resources.and_then(|it| it.limits.as_ref()?.get(what));
            let request = resources.and_then(|it| it.requests.as_ref()?.get(what)).or(limit);
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && limit == request;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Seconds of a probe's field, with upstream's default where it is not set or zero.
pub fn probe_seconds(field: Option<i32>, default: u32) -> Duration {
    let seconds = field.and_then(|it| u32::try_from(it).ok()).filter(|it| *it > 0).unwrap_or(default);
    Duration::from_secs(u64::from(seconds))
}

/// A container's probe of this kind.
pub fn probe(container: &Container, kind: crate::probe::Kind) -> Option<&Probe> {
    match kind {
        crate::probe::Kind::Liveness => container.liveness_probe.as_ref(),
        crate::probe::Kind::Readiness => container.readiness_probe.as_ref(),
        crate::probe::Kind::Startup => container.startup_probe.as_ref(),
    }
}

/// CRI's nanoseconds since 1970 as a time; none for zero.
pub fn from_nanos(nanos: i64) -> Option<Timestamp> {
    (nanos > 0).then(|| Timestamp::from_nanosecond(i128::from(nanos)).ok()).flatten()
}

/// `later - earlier`, zero when the clock ran backwards.
pub fn since(later: Timestamp, earlier: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or(Duration::ZERO)
}

/// `at + by`, at the end of time when that is too far.
pub fn after(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
