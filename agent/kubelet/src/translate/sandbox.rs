//! The sandbox's config.

use std::collections::HashMap;

use coracle_cri::proto as v1;
use k8s_openapi::api::core::v1::Pod;

use super::labels::{identity, sandbox_labels};
use super::{ConfigError, TranslateDeps, hosts, security};
use crate::dns::{Resolver, resolver};
use crate::resources::{is_sidecar, pod_limits, pod_requests, quota, shares};

/// A sandbox's config, and what the user should be told about it.
#[derive(Debug, Clone, Default)]
pub struct SandboxSetup {
    /// For `RunPodSandbox`.
    pub config: v1::PodSandboxConfig,
    /// Events of type Warning: reason and message.
    pub warnings: Vec<(&'static str, String)>,
}

pub(super) fn sandbox(
    deps: &TranslateDeps,
    pod: &Pod,
    attempt: u32,
    cgroup_parent: &str,
) -> Result<SandboxSetup, ConfigError> {
    let (namespace, name, uid) = identity(pod);
    let spec = pod.spec.as_ref();
    let on_host = spec.and_then(|it| it.host_network) == Some(true);
    if spec.and_then(|it| it.host_users) == Some(false) {
        return Err(ConfigError::NotYet("a user namespace of its own (hostUsers: false)"));
    }
    let Resolver { config: dns_config, warnings } = resolver(pod, &deps.config.dns, &deps.node_ips)
        .map_err(|err| ConfigError::Refused(crate::report(&err)))?;
    let hostname = match on_host {
        true => String::new(),
        false => hosts::pod_hostname(pod, &deps.config.dns.cluster_domain)?.hostname,
    };
    let config = v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: uid.to_owned(),
            namespace: namespace.to_owned(),
            attempt,
        }),
        hostname,
        log_directory: deps.config.paths.pod_log_dir(namespace, name, uid).display().to_string(),
        dns_config: Some(dns_config),
        port_mappings: if on_host { Vec::new() } else { port_mappings(pod) },
        labels: sandbox_labels(pod),
        annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent.to_owned(),
            security_context: Some(security::sandbox(pod)),
            sysctls: sysctls(pod),
            overhead: None,
            resources: Some(resources(deps, pod)),
        }),
        windows: None,
    };
    Ok(SandboxSetup { config, warnings })
}

/// Host ports of app containers and sidecars; each container port once.
fn port_mappings(pod: &Pod) -> Vec<v1::PortMapping> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|it| is_sidecar(it));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|it| it.ports.iter().flatten());
    let with_host_port = ports.filter_map(|it| Some((it, it.host_port.filter(|it| *it > 0)?)));
    let mapping = |(port, host_port): (&k8s_openapi::api::core::v1::ContainerPort, i32)| v1::PortMapping {
        protocol: match port.protocol.as_deref() {
            Some("UDP") => v1::Protocol::Udp,
            Some("SCTP") => v1::Protocol::Sctp,
            _ => v1::Protocol::Tcp,
        }
        .into(),
        container_port: port.container_port,
        host_port,
        host_ip: port.host_ip.clone().unwrap_or_default(),
    };
    let mut seen = Vec::new();
    for it in with_host_port.map(mapping) {
        if !seen.contains(&it) {
            seen.push(it);
        }
    }
    seen
}

fn sysctls(pod: &Pod) -> HashMap<String, String> {
    let context = pod.spec.as_ref().and_then(|it| it.security_context.as_ref());
    let list = context.and_then(|it| it.sysctls.as_ref()).into_iter().flatten();
    // Both spellings are the kernel's; runtimes know the one with dots.
    list.map(|it| (dotted(&it.name), it.value.clone())).collect()
}

/// `net/ipv4/ip_forward` as `net.ipv4.ip_forward`; a dot in such a spelling was a slash.
pub(super) fn dotted(name: &str) -> String {
    match (name.find('/'), name.find('.')) {
        (Some(slash), dot) if dot.is_none_or(|it| slash < it) => name
            .chars()
            .map(|it| {
                if it == '/' {
                    '.'
                } else if it == '.' {
                    '/'
                } else {
                    it
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// The pod's sum, for runtimes that size a sandbox.
fn resources(deps: &TranslateDeps, pod: &Pod) -> v1::LinuxContainerResources {
    let (requests, limits) = (pod_requests(pod), pod_limits(pod));
    let period = super::container::period(&deps.config);
    v1::LinuxContainerResources {
        cpu_period: period,
        cpu_quota: if deps.config.resources.cpu_quota { quota(limits.cpu_milli(), period) } else { 0 },
        cpu_shares: shares(requests.cpu_milli()),
        memory_limit_in_bytes: limits.memory(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_are_spelt_with_dots() {
        for (name, want) in [
            ("kernel.shm_rmid_forced", "kernel.shm_rmid_forced"),
            ("net/ipv4/ip_local_port_range", "net.ipv4.ip_local_port_range"),
            ("net.ipv4.conf.eth0/1.x", "net.ipv4.conf.eth0/1.x"),
            ("net/ipv4/conf/eth0.1/x", "net.ipv4.conf.eth0/1.x"),
        ] {
            assert_eq!(dotted(name), want);
        }
    }
}
