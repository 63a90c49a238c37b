//! The pods behind a Service: which, at which addresses and ports, in which state. Pure.

use super::views::{Conditions, Endpoint, Port, Service, ServicePort, TargetRef};
use crate::pods::{is_finished, is_ready};
use crate::views::{IntOrString, Pod};
use std::net::IpAddr;

/// Whether nothing that a Service's endpoints show differs.
pub(super) fn same(old: &Pod, new: &Pod) -> bool {
    let ips = |pod: &Pod| addresses(pod).collect::<Vec<_>>().join(" ");
    old.metadata.labels == new.metadata.labels
        && old.metadata.uid == new.metadata.uid
        && old.metadata.is_terminating() == new.metadata.is_terminating()
        && is_ready(old) == is_ready(new)
        && is_finished(old) == is_finished(new)
        && old.spec.node_name == new.spec.node_name
        && ips(old) == ips(new)
}

fn addresses(pod: &Pod) -> impl Iterator<Item = &str> {
    let first = std::iter::once(pod.status.pod_ip.as_str()).filter(|_| pod.status.pod_ips.is_empty());
    first.chain(pod.status.pod_ips.iter().map(|it| it.ip.as_str())).filter(|ip| !ip.is_empty())
}

/// The pod's address of a family, `IPv4` or `IPv6`.
pub(super) fn address<'a>(pod: &'a Pod, family: &str) -> Option<&'a str> {
    addresses(pod).find(|ip| family_of(ip) == Some(family))
}

fn family_of(ip: &str) -> Option<&'static str> {
    match ip.parse().ok()? {
        IpAddr::V4(_) => Some("IPv4"),
        IpAddr::V6(_) => Some("IPv6"),
    }
}

/// The families a Service has endpoints of.
pub(super) fn families(service: &Service) -> Vec<String> {
    if !service.spec.ip_families.is_empty() {
        return service.spec.ip_families.clone();
    }
    vec![family_of(&service.spec.cluster_ip).unwrap_or("IPv4").to_owned()]
}

/// Whether the pod belongs among the endpoints at all: it has, or may still have, something that listens.
pub(super) fn listens(pod: &Pod) -> bool {
    !is_finished(pod) && addresses(pod).next().is_some()
}

/// The Service's ports as this pod serves them, sorted; one that the pod does not name is left out.
pub(super) fn ports(service: &Service, pod: &Pod) -> Vec<Port> {
    let resolve = |port: &ServicePort| {
        Some(Port {
            name: port.name.clone(),
            protocol: protocol(&port.protocol).to_owned(),
            port: target(port, pod)?,
            app_protocol: port.app_protocol.clone(),
        })
    };
    let mut ports: Vec<_> = service.spec.ports.iter().filter_map(resolve).collect();
    ports.sort();
    ports
}

fn protocol(text: &str) -> &str {
    if text.is_empty() { "TCP" } else { text }
}

fn target(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::Text(name)) => {
            let sidecars = pod.spec.init_containers.iter().filter(|it| it.restart_policy == "Always");
            let mut all = pod.spec.containers.iter().chain(sidecars).flat_map(|it| &it.ports);
            let same = |it: &&crate::views::ContainerPort| {
                it.name == *name && protocol(&it.protocol) == protocol(&port.protocol)
            };
            all.find(same).map(|it| it.container_port)
        }
    }
}

/// The endpoint of a pod at one of its addresses.
pub(super) fn endpoint(service: &Service, pod: &Pod, address: &str, zone: Option<String>) -> Endpoint {
    let (serving, terminating) = (is_ready(pod), pod.metadata.is_terminating());
    let ready = service.spec.publish_not_ready_addresses || (serving && !terminating);
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Conditions { ready, serving, terminating },
        hostname: hostname(service, pod),
        target_ref: Some(target_ref(pod)),
        node_name: (!pod.spec.node_name.is_empty()).then(|| pod.spec.node_name.clone()),
        zone,
    }
}

/// The name DNS gives the pod below a headless Service that it names as its subdomain.
pub(super) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let named = !pod.spec.hostname.is_empty() && pod.spec.subdomain == service.metadata.name;
    named.then(|| pod.spec.hostname.clone())
}

pub(super) fn target_ref(pod: &Pod) -> TargetRef {
    TargetRef {
        kind: "Pod".to_owned(),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(spec: &Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap()
    }

    fn pod() -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"hostname": "h", "subdomain": "s", "containers": [
            {"ports": [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
                "conditions": [{"type": "Ready", "status": "True"}]}})
    }

    fn decoded(value: &Value) -> Pod {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn target_ports() {
        let check = |port: Value, want: &[i32]| {
            let service = service(&json!({"ports": [port.clone()]}));
            let got: Vec<_> = ports(&service, &decoded(&pod())).iter().map(|it| it.port).collect();
            assert_eq!(got, want, "{port}");
        };
        check(json!({"port": 80}), &[80]);
        check(json!({"port": 80, "targetPort": 81}), &[81]);
        check(json!({"port": 80, "targetPort": "http"}), &[8080]);
        check(json!({"port": 80, "targetPort": "dns"}), &[]);
        check(json!({"port": 80, "targetPort": "dns", "protocol": "UDP"}), &[53]);
        check(json!({"port": 80, "targetPort": "none"}), &[]);
    }

    #[test]
    fn conditions_and_hostname() {
        let check = |change: Value, spec: Value, want: (bool, bool, bool)| {
            let mut it = pod();
            for (path, value) in change.as_object().unwrap() {
                *it.pointer_mut(path).unwrap() = value.clone();
            }
            let endpoint = endpoint(&service(&spec), &decoded(&it), "10.0.0.1", None);
            let got = endpoint.conditions;
            assert_eq!((got.ready, got.serving, got.terminating), want, "{change} {spec}");
            assert_eq!(endpoint.hostname.as_deref(), Some("h"));
        };
        let unready = json!({"/status/conditions": []});
        let dying = json!({"/metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        check(json!({}), json!({}), (true, true, false));
        check(unready.clone(), json!({}), (false, false, false));
        check(unready, json!({"publishNotReadyAddresses": true}), (true, false, false));
        check(dying.clone(), json!({}), (false, true, true));
        check(dying, json!({"publishNotReadyAddresses": true}), (true, true, true));
    }

    #[test]
    fn families_and_addresses() {
        assert_eq!(families(&service(&json!({"ipFamilies": ["IPv6", "IPv4"]}))), ["IPv6", "IPv4"]);
        assert_eq!(families(&service(&json!({"clusterIP": "fd00::9"}))), ["IPv6"]);
        assert_eq!(families(&service(&json!({"clusterIP": "None"}))), ["IPv4"]);
        assert_eq!(address(&decoded(&pod()), "IPv6"), Some("fd00::1"));
        let mut waiting = pod();
        waiting["status"] = json!({"phase": "Pending"});
        assert!(!listens(&decoded(&waiting)));
        waiting["status"] = json!({"phase": "Succeeded", "podIP": "10.0.0.1"});
        assert!(!listens(&decoded(&waiting)));
    }
}
