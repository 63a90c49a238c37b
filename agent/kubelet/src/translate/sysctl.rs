//! Which sysctls a pod may set: those that cannot hurt its neighbours, and those that the node's owner allows.

use k8s_openapi::api::core::v1::Pod;

use super::sandbox::dotted;

/// Namespaced in the kernel, and harmless.
const SAFE: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The reason and message with which the node refuses the pod, if it sets what it may not.
pub fn forbidden_sysctl(pod: &Pod, allowed: &[String]) -> Option<(&'static str, String)> {
    let spec = pod.spec.as_ref()?;
    let list = spec.security_context.as_ref()?.sysctls.as_ref()?;
    for sysctl in list {
        let name = dotted(&sysctl.name);
        let (on_host, namespace) = match name.split('.').next() {
            Some("net") => (spec.host_network == Some(true), "net"),
            Some("fs" | "kernel") => (spec.host_ipc == Some(true), "ipc"),
            _ => (false, ""),
        };
        let listed = SAFE.contains(&name.as_str()) || allowed.iter().any(|it| matches(it, &name));
        if !listed {
            return Some(("SysctlForbidden", format!("forbidden sysctl: {:?} not allowlisted", sysctl.name)));
        }
        if on_host {
            return Some((
                "SysctlForbidden",
                format!("forbidden sysctl: {:?} not allowed with host {namespace} enabled", sysctl.name),
            ));
        }
    }
    None
}

fn matches(pattern: &str, name: &str) -> bool {
    let pattern = dotted(pattern);
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_ones_need_leave() {
        let check = |name: &str, host: bool, allowed: &[&str], want: Option<&str>| {
            let pod: Pod =
                serde_json::from_value(serde_json::json!({"spec": {"containers": [], "hostNetwork": host,
                "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}}))
                .unwrap();
            let allowed: Vec<String> = allowed.iter().map(|it| (*it).to_owned()).collect();
            assert_eq!(forbidden_sysctl(&pod, &allowed).map(|it| it.1).as_deref(), want, "{name}");
        };
        check("kernel.shm_rmid_forced", false, &[], None);
        check("net/ipv4/tcp_syncookies", false, &[], None);
        check("kernel.msgmax", false, &[], Some(r#"forbidden sysctl: "kernel.msgmax" not allowlisted"#));
        check("kernel.msgmax", false, &["kernel.msg*"], None);
        check(
            "net.ipv4.tcp_syncookies",
            true,
            &[],
            Some(r#"forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host net enabled"#),
        );
    }
}
