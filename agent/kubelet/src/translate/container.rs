//! A container's config: what is pure in it.

use std::collections::HashMap;

use coracle_cri::proto as v1;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::labels::{identity, keys};
use super::{ConfigError, ContainerRequest, TranslateDeps, container_hash, security};
use crate::config::{KubeletConfig, Paths};
use crate::env::Environment;
use crate::resources::{container_limits, container_requests, oom_score_adj, quota, shares};

/// Everything but mounts.
pub(super) fn container(
    deps: &TranslateDeps,
    pod: &Pod,
    request: &ContainerRequest<'_>,
    env: &Environment,
    cgroup_v1: bool,
) -> Result<v1::ContainerConfig, ConfigError> {
    let container = request.container;
    if container.volume_devices.as_ref().is_some_and(|it| !it.is_empty()) {
        return Err(ConfigError::NotYet("a block device (volumeDevices)"));
    }
    let expanded = |list: &Option<Vec<String>>| list.iter().flatten().map(|it| env.expand(it)).collect();
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: container.name.clone(),
            attempt: request.restart_count,
        }),
        image: Some(v1::ImageSpec {
            image: request.image.image_ref.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: env
            .vars
            .iter()
            .map(|(key, value)| v1::KeyValue { key: key.clone(), value: value.clone() })
            .collect(),
        labels: labels(pod, container),
        annotations: annotations(pod, container, request.restart_count),
        log_path: Paths::container_log(&container.name, request.restart_count),
        stdin: container.stdin.unwrap_or_default(),
        stdin_once: container.stdin_once.unwrap_or_default(),
        tty: container.tty.unwrap_or_default(),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources(deps, pod, container, cgroup_v1)),
            security_context: Some(security::container(
                pod,
                container,
                &request.role,
                &request.image,
                &deps.config,
            )?),
        }),
        stop_signal: stop_signal(container)?.into(),
        ..Default::default()
    })
}

/// Microseconds of the CFS period.
pub(super) fn period(config: &KubeletConfig) -> i64 {
    i64::try_from(config.resources.cpu_quota_period.as_micros()).unwrap_or(100_000)
}

/// What the container's cgroup is held to; also for `UpdateContainerResources`.
pub(super) fn resources(
    deps: &TranslateDeps,
    pod: &Pod,
    container: &Container,
    cgroup_v1: bool,
) -> v1::LinuxContainerResources {
    let (requests, limits) = (container_requests(container), container_limits(container));
    let with_quota = deps.config.resources.cpu_quota;
    let period = period(&deps.config);
    let mut unified = HashMap::new();
    if !cgroup_v1 {
        // One process out of memory ends the container, not a part of it.
        unified.insert("memory.oom.group".to_owned(), "1".to_owned());
    }
    v1::LinuxContainerResources {
        cpu_period: if with_quota { period } else { 0 },
        cpu_quota: if with_quota { quota(limits.cpu_milli(), period) } else { 0 },
        cpu_shares: shares(requests.cpu_milli()),
        memory_limit_in_bytes: limits.memory(),
        oom_score_adj: oom_score_adj(pod, container, deps.allocatable.memory_capacity),
        hugepage_limits: limits
            .iter()
            .filter_map(|(name, amount)| {
                let size = name.strip_prefix("hugepages-")?;
                // The kernel says 2MB where the API says 2Mi.
                let page_size = size.replace("Ki", "KB").replace("Mi", "MB").replace("Gi", "GB");
                Some(v1::HugepageLimit { page_size, limit: u64::try_from(amount).ok()? })
            })
            .collect(),
        unified,
        ..Default::default()
    }
}

fn labels(pod: &Pod, container: &Container) -> HashMap<String, String> {
    let (namespace, name, uid) = identity(pod);
    let pairs = [
        (keys::POD_NAME, name),
        (keys::POD_NAMESPACE, namespace),
        (keys::POD_UID, uid),
        (keys::CONTAINER_NAME, container.name.as_str()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn annotations(pod: &Pod, container: &Container, restart_count: u32) -> HashMap<String, String> {
    let spec = pod.spec.as_ref();
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    let mut all: HashMap<String, String> = HashMap::new();
    let mut set = |key: &str, value: String| all.insert(key.to_owned(), value);
    set(keys::CONTAINER_HASH, container_hash(container));
    set(keys::RESTART_COUNT, restart_count.to_string());
    set(keys::TERMINATION_MESSAGE_PATH, text(&container.termination_message_path));
    set(keys::TERMINATION_MESSAGE_POLICY, text(&container.termination_message_policy));
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        set(keys::POD_DELETION_GRACE_PERIOD, seconds.to_string());
    }
    if let Some(seconds) = spec.and_then(|it| it.termination_grace_period_seconds) {
        set(keys::POD_TERMINATION_GRACE_PERIOD, seconds.to_string());
    }
    let hook = container.lifecycle.as_ref().and_then(|it| it.pre_stop.as_ref());
    if let Some(json) = hook.and_then(|it| serde_json::to_string(it).ok()) {
        set(keys::PRE_STOP_HANDLER, json);
    }
    let ports = container.ports.as_ref().filter(|it| !it.is_empty());
    if let Some(json) = ports.and_then(|it| serde_json::to_string(it).ok()) {
        set(keys::CONTAINER_PORTS, json);
    }
    all
}

fn stop_signal(container: &Container) -> Result<v1::Signal, ConfigError> {
    let Some(name) = container.lifecycle.as_ref().and_then(|it| it.stop_signal.as_deref()) else {
        return Ok(v1::Signal::RuntimeDefault);
    };
    v1::Signal::from_str_name(&name.replace('+', "PLUS").replace('-', "MINUS"))
        .or_else(|| v1::Signal::from_str_name(name))
        .ok_or_else(|| ConfigError::Refused(format!("stop signal {name} is not known")))
}
