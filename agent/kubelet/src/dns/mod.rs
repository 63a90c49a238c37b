//! A pod's resolver configuration from its policy, its dnsConfig, the cluster and the machine.

use std::net::IpAddr;
use std::path::Path;

use coracle_cri::proto as v1;
use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

use crate::config::DnsSettings;

/// What resolvers read of `nameserver` lines.
const MAX_SERVERS: usize = 3;
/// What resolvers read of the search list.
const MAX_SEARCHES: usize = 32;
/// Its characters, separators included.
const MAX_SEARCH_CHARS: usize = 2048;

/// A resolver configuration, and what the user should be told about it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resolver {
    /// For the sandbox.
    pub config: v1::DnsConfig,
    /// Warning events: reason, message.
    pub warnings: Vec<(&'static str, String)>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The machine's own configuration cannot be read.
    #[error("read {path}")]
    HostFile {
        /// The file.
        path: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A policy that there is not.
    #[error("invalid DNSPolicy={0}")]
    Policy(String),
}

/// The machine's `resolv.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostResolver {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl HostResolver {
    /// From the file's text: the last `search` line counts, as resolvers read it.
    pub fn parse(text: &str) -> Self {
        let mut host = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => host.servers.extend(words.next().map(str::to_owned)),
                Some("search") => host.searches = words.map(without_dot).collect(),
                Some("options") => {
                    let name = |it: &str| it.split(':').next().unwrap_or_default().to_owned();
                    for option in words {
                        host.options.retain(|it| name(it) != name(option));
                        host.options.push(option.to_owned());
                    }
                }
                _ => {}
            }
        }
        host
    }

    /// The file that `resolvConf` names; none named: resolving is switched off.
    pub fn read(path: &Path, node_ips: &[IpAddr]) -> Result<Self, DnsError> {
        if path.as_os_str().is_empty() {
            let local = |it: &IpAddr| if it.is_ipv6() { "::1" } else { "127.0.0.1" };
            let mut servers: Vec<String> = node_ips.iter().map(|it| local(it).to_owned()).collect();
            if servers.is_empty() {
                servers.push("127.0.0.1".to_owned());
            }
            return Ok(Self { servers, searches: vec![".".to_owned()], options: Vec::new() });
        }
        let text = std::fs::read_to_string(path)
            .map_err(|source| DnsError::HostFile { path: path.display().to_string(), source })?;
        Ok(Self::parse(&text))
    }
}

fn without_dot(text: &str) -> String {
    text.strip_suffix('.').filter(|it| !it.is_empty()).unwrap_or(text).to_owned()
}

/// The configuration that a pod asks for.
pub fn resolver(pod: &Pod, settings: &DnsSettings, node_ips: &[IpAddr]) -> Result<Resolver, DnsError> {
    let spec = pod.spec.as_ref();
    let policy = spec.and_then(|it| it.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let on_host = spec.and_then(|it| it.host_network).unwrap_or_default();
    let mut warnings = Vec::new();
    let cluster = match policy {
        "None" => {
            let extra = spec.and_then(|it| it.dns_config.as_ref());
            return Ok(Resolver {
                config: limited(extended(v1::DnsConfig::default(), extra), &mut warnings),
                warnings,
            });
        }
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !on_host,
        "Default" => false,
        other => return Err(DnsError::Policy(other.to_owned())),
    };
    let host = HostResolver::read(&settings.resolv_conf, node_ips)?;
    let mut config = v1::DnsConfig { servers: host.servers, searches: host.searches, options: host.options };
    if cluster && settings.cluster_dns.is_empty() {
        let message = format!(
            "kubelet does not have ClusterDNS IP configured and cannot create Pod using {policy:?} policy. Falling back to \
             \"Default\" policy."
        );
        warnings.push(("MissingClusterDNS", message));
    } else if cluster {
        config.servers = settings.cluster_dns.iter().map(ToString::to_string).collect();
        config.options = vec!["ndots:5".to_owned()];
        if !settings.cluster_domain.is_empty() {
            let domain = &settings.cluster_domain;
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let mut searches =
                vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
            searches.append(&mut config.searches);
            config.searches = searches;
        }
    }
    let config = extended(config, spec.and_then(|it| it.dns_config.as_ref()));
    Ok(Resolver { config: limited(config, &mut warnings), warnings })
}

/// What `dnsConfig` adds; an option of the same name is replaced.
fn extended(mut config: v1::DnsConfig, extra: Option<&PodDNSConfig>) -> v1::DnsConfig {
    let Some(extra) = extra else { return config };
    config.servers.extend(extra.nameservers.iter().flatten().cloned());
    config.searches.extend(extra.searches.iter().flatten().map(|it| without_dot(it)));
    for option in extra.options.iter().flatten() {
        let Some(name) = option.name.as_deref().filter(|it| !it.is_empty()) else { continue };
        config.options.retain(|it| it.split(':').next() != Some(name));
        config.options.push(match option.value.as_deref() {
            Some(value) if !value.is_empty() => format!("{name}:{value}"),
            _ => name.to_owned(),
        });
    }
    config
}

fn limited(mut config: v1::DnsConfig, warnings: &mut Vec<(&'static str, String)>) -> v1::DnsConfig {
    unique(&mut config.servers);
    unique(&mut config.searches);
    if config.servers.len() > MAX_SERVERS {
        config.servers.truncate(MAX_SERVERS);
        let line = config.servers.join(" ");
        let message = format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {line}"
        );
        warnings.push(("DNSConfigForming", message));
    }
    let before = config.searches.len();
    config.searches.truncate(MAX_SEARCHES);
    while config.searches.join(" ").len() > MAX_SEARCH_CHARS {
        config.searches.pop();
    }
    if config.searches.len() < before {
        let line = config.searches.join(" ");
        let message = format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {line}"
        );
        warnings.push(("DNSConfigForming", message));
    }
    config
}

fn unique(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|it| seen.insert(it.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# made by hand\nnameserver 192.0.2.53\nsearch old.example\nsearch corp.example. example\noptions timeout:1 rotate\n";

    fn check(spec: &str, want: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), HOST).unwrap();
        let settings = DnsSettings {
            cluster_domain: "cluster.local".into(),
            cluster_dns: vec!["10.96.0.10".parse().unwrap()],
            resolv_conf: file.path().to_owned(),
        };
        let pod: Pod = serde_json::from_str(&format!(
            r#"{{"metadata":{{"namespace":"n"}},"spec":{{"containers":[],{spec}}}}}"#
        ))
        .unwrap();
        let got = resolver(&pod, &settings, &[]).unwrap();
        let it = &got.config;
        let mut line =
            format!("{} | {} | {}", it.servers.join(" "), it.searches.join(" "), it.options.join(" "));
        for (reason, _) in &got.warnings {
            line = format!("{line} ! {reason}");
        }
        assert_eq!(line, want, "{spec}");
    }

    #[test]
    fn each_policy_has_its_servers_and_searches() {
        let cluster =
            "10.96.0.10 | n.svc.cluster.local svc.cluster.local cluster.local corp.example example | ndots:5";
        let host = "192.0.2.53 | corp.example example | timeout:1 rotate";
        check(r#""dnsPolicy":"ClusterFirst""#, cluster);
        check(r#""hostNetwork":false"#, cluster);
        check(r#""dnsPolicy":"ClusterFirst","hostNetwork":true"#, host);
        check(r#""dnsPolicy":"ClusterFirstWithHostNet","hostNetwork":true"#, cluster);
        check(r#""dnsPolicy":"Default""#, host);
        check(
            r#""dnsPolicy":"None","dnsConfig":{"nameservers":["1.1.1.1"],"searches":["a."],"options":[{"name":"ndots","value":"2"},{"name":"edns0"}]}"#,
            "1.1.1.1 | a | ndots:2 edns0",
        );
        check(
            r#""dnsPolicy":"Default","dnsConfig":{"options":[{"name":"timeout","value":"9"}],"searches":["example"]}"#,
            "192.0.2.53 | corp.example example | rotate timeout:9",
        );
        check(
            r#""dnsPolicy":"None","dnsConfig":{"nameservers":["1.1.1.1","1.1.1.2","1.1.1.3","1.1.1.4"]}"#,
            "1.1.1.1 1.1.1.2 1.1.1.3 |  |  ! DNSConfigForming",
        );
    }

    #[test]
    fn without_a_cluster_address_pods_resolve_as_the_node() {
        let pod: Pod = serde_json::from_str(r#"{"spec":{"containers":[]}}"#).unwrap();
        let got = resolver(&pod, &DnsSettings::default(), &["fd00::1".parse().unwrap()]).unwrap();
        assert_eq!((got.config.servers, got.config.searches), (vec!["::1".to_owned()], vec![".".to_owned()]));
        assert_eq!(got.warnings[0].0, "MissingClusterDNS");
    }
}
