//! A pod's host name, and the `/etc/hosts` that the kubelet keeps for it.

use std::fmt::Write as _;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostAlias, Pod};

use super::ConfigError;

/// The longest host name that a kernel takes.
const MAX_HOSTNAME: usize = 63;
/// The longest that a pod with setHostnameAsFQDN may have.
const MAX_FQDN: usize = 64;

/// A pod's name on the network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodHostname {
    /// What the kernel is told.
    pub hostname: String,
    /// `<subdomain>.<namespace>.svc.<cluster domain>`, if the pod has a subdomain.
    pub domain: String,
}

/// Derives the host name from hostnameOverride, hostname or the pod's name.
pub fn pod_hostname(pod: &Pod, cluster_domain: &str) -> Result<PodHostname, ConfigError> {
    let Some(spec) = &pod.spec else { return Ok(PodHostname::default()) };
    if let Some(name) = spec.hostname_override.as_deref().filter(|it| !it.is_empty()) {
        return Ok(PodHostname { hostname: name.to_owned(), domain: String::new() });
    }
    let given = |it: &Option<String>| it.clone().filter(|it| !it.is_empty());
    let hostname = match given(&spec.hostname) {
        Some(name) => name,
        None => truncated(pod.metadata.name.as_deref().unwrap_or_default()),
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain =
        given(&spec.subdomain).map(|it| format!("{it}.{namespace}.svc.{cluster_domain}")).unwrap_or_default();
    if spec.set_hostname_as_fqdn != Some(true) || domain.is_empty() {
        return Ok(PodHostname { hostname, domain });
    }
    let whole = format!("{hostname}.{domain}");
    if whole.len() > MAX_FQDN {
        return Err(ConfigError::Refused(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {whole} is too long ({MAX_FQDN} \
             characters is the max, {} characters requested)",
            whole.len()
        )));
    }
    Ok(PodHostname { hostname: whole, domain })
}

fn truncated(name: &str) -> String {
    let cut: String = name.chars().take(MAX_HOSTNAME).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// The file of a pod in a network of its own.
pub fn pod_hosts(ips: &[IpAddr], name: &PodHostname, aliases: &[HostAlias]) -> String {
    let mut text = "# Kubernetes-managed hosts file.\n\
        127.0.0.1\tlocalhost\n\
        ::1\tlocalhost ip6-localhost ip6-loopback\n\
        fe00::0\tip6-localnet\n\
        fe00::0\tip6-mcastprefix\n\
        fe00::1\tip6-allnodes\n\
        fe00::2\tip6-allrouters\n"
        .to_owned();
    for ip in ips {
        // Writing to a String cannot fail.
        let _ = if name.domain.is_empty() {
            writeln!(text, "{ip}\t{}", name.hostname)
        } else {
            let short = name.hostname.strip_suffix(&format!(".{}", name.domain)).unwrap_or(&name.hostname);
            writeln!(text, "{ip}\t{short}.{}\t{}", name.domain, name.hostname)
        };
    }
    text + &alias_lines(aliases)
}

/// The file of a pod on the node's network: the node's own, marked.
pub fn host_network_hosts(node_file: &str, aliases: &[HostAlias]) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{node_file}{}", alias_lines(aliases))
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    let mut text = String::new();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names: Vec<&str> = alias.hostnames.iter().flatten().map(String::as_str).collect();
        let _ = writeln!(text, "{}\t{}", alias.ip, names.join("\t"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(spec: &str) -> Result<String, String> {
        let pod: Pod = serde_json::from_str(&format!(
            r#"{{"metadata":{{"name":"web-0","namespace":"n"}},"spec":{{"containers":[]{spec}}}}}"#
        ))
        .unwrap();
        pod_hostname(&pod, "cluster.local")
            .map(|it| format!("{} {}", it.hostname, it.domain))
            .map_err(|it| it.to_string())
    }

    #[test]
    fn host_names_follow_the_spec() {
        let check = |spec: &str, want: &str| assert_eq!(name(spec).unwrap(), want, "{spec}");
        check("", "web-0 ");
        check(r#","hostname":"h""#, "h ");
        check(r#","subdomain":"s""#, "web-0 s.n.svc.cluster.local");
        check(
            r#","subdomain":"s","setHostnameAsFQDN":true"#,
            "web-0.s.n.svc.cluster.local s.n.svc.cluster.local",
        );
        check(r#","setHostnameAsFQDN":true"#, "web-0 ");
        check(r#","hostnameOverride":"o","subdomain":"s""#, "o ");
        let long = "x".repeat(60);
        let err =
            name(&format!(r#","hostname":"{long}","subdomain":"s","setHostnameAsFQDN":true"#)).unwrap_err();
        assert!(err.contains("is too long (64 characters is the max, 82 characters requested)"), "{err}");
        assert_eq!(truncated(&format!("{}-.tail", "y".repeat(61))), "y".repeat(61));
    }

    #[test]
    fn hosts_files_are_upstreams() {
        let alias: HostAlias = serde_json::from_str(r#"{"ip":"1.2.3.4","hostnames":["a","b"]}"#).unwrap();
        let own = PodHostname { hostname: "h".into(), domain: "s.n.svc.c".into() };
        let text = pod_hosts(&["10.0.0.9".parse().unwrap()], &own, std::slice::from_ref(&alias));
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(
            text.ends_with("10.0.0.9\th.s.n.svc.c\th\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"),
            "{text}"
        );
        let host = host_network_hosts("127.0.0.1 me\n", &[]);
        assert_eq!(host, "# Kubernetes-managed hosts file (host network).\n127.0.0.1 me\n");
    }
}
