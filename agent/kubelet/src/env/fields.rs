//! The downward API: values of a pod's own fields and resources, for variables and files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use coracle_apimachinery::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::resources::{Amounts, all_containers, container_limits};
use crate::translate::NodeAllocatable;

/// What is known about a pod besides its spec.
#[derive(Debug, Clone, Copy)]
pub struct PodFacts<'a> {
    /// The node's addresses, primary first.
    pub host_ips: &'a [IpAddr],
    /// The pod's addresses, primary first.
    pub pod_ips: &'a [IpAddr],
}

/// A field's value as one text; a missing label or annotation is empty. Fails on paths that are not offered.
pub fn field_value(pod: &Pod, path: &str, facts: &PodFacts) -> Result<String, String> {
    let (meta, spec) = (&pod.metadata, pod.spec.as_ref());
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    let ip = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    let ips = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        return Ok(map.as_ref().and_then(|it| it.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => spec.map(|it| text(&it.node_name)).unwrap_or_default(),
        "spec.serviceAccountName" => spec.map(|it| text(&it.service_account_name)).unwrap_or_default(),
        "status.hostIP" => ip(facts.host_ips),
        "status.hostIPs" => ips(facts.host_ips),
        "status.podIP" => ip(facts.pod_ips),
        "status.podIPs" => ips(facts.pod_ips),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// A request or limit in units of its divisor, rounded up; what is not limited can have all the node gives.
pub fn resource_value(
    pod: &Pod,
    selector: &ResourceFieldSelector,
    own: Option<&Container>,
    node: &NodeAllocatable,
) -> Result<String, String> {
    let container = match selector.container_name.as_deref().filter(|it| !it.is_empty()) {
        None => own.ok_or_else(|| "container name is required".to_owned())?,
        Some(name) => all_containers(pod)
            .find(|it| it.name == name)
            .ok_or_else(|| format!("container {name} not found"))?,
    };
    let unsupported = || format!("Unsupported container resource : {}", selector.resource);
    let (kind, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let offered = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !offered {
        return Err(unsupported());
    }
    let amount = match kind {
        "requests" => Amounts::of(container.resources.as_ref().and_then(|it| it.requests.as_ref()))
            .get(name)
            .unwrap_or(0),
        "limits" => match container_limits(container).get(name).filter(|it| *it > 0) {
            Some(limit) => limit,
            None => pod_limit(pod, name).unwrap_or_else(|| of_node(node, name)),
        },
        _ => return Err(unsupported()),
    };
    let divisor =
        selector.divisor.as_ref().and_then(|it| Quantity::parse(&it.0).ok()).filter(|it| !it.is_zero());
    let divisor = match (name, divisor) {
        ("cpu", Some(divisor)) => divisor.milli_value(),
        ("cpu", None) => 1000,
        (_, Some(divisor)) => divisor.value(),
        (_, None) => 1,
    };
    let whole = amount / divisor;
    Ok((if amount % divisor > 0 { whole + 1 } else { whole }).to_string())
}

fn pod_limit(pod: &Pod, name: &str) -> Option<i64> {
    let resources = pod.spec.as_ref()?.resources.as_ref()?;
    Amounts::of(resources.limits.as_ref()).get(name)
}

fn of_node(node: &NodeAllocatable, name: &str) -> i64 {
    match name {
        "cpu" => node.cpu_milli,
        "memory" => node.memory,
        "ephemeral-storage" => node.ephemeral_storage,
        _ => 0,
    }
}

/// `metadata.labels['key']` in its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// A map as `key="value"` lines in the order of keys, values quoted as Go quotes.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let mut out = String::new();
    for (index, (key, value)) in map.into_iter().flatten().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        out.push_str(key);
        out.push('=');
        quote(value, &mut out);
    }
    out
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for it in text.chars() {
        match it {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\x0b' => out.push_str("\\v"),
            // Writing to a String cannot fail.
            it if (it as u32) < 0x20 || it as u32 == 0x7f => drop(write!(out, "\\x{:02x}", it as u32)),
            it if it.is_control() => drop(write!(out, "\\u{:04x}", it as u32)),
            it => out.push(it),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_str(
            r#"{"metadata":{"name":"p","namespace":"n","uid":"u","labels":{"b":"2","a":"x\"y"},
                "annotations":{"k":"line\n"}},
            "spec":{"nodeName":"node-1","serviceAccountName":"sa","containers":[
              {"name":"c","resources":{"limits":{"cpu":"1250m","memory":"64Mi"},"requests":{"cpu":"250m"}}},
              {"name":"d"}]}}"#,
        )
        .unwrap()
    }

    #[test]
    fn fields_are_read() {
        let (host, own) =
            (["192.0.2.1".parse().unwrap()], ["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()]);
        let facts = PodFacts { host_ips: &host, pod_ips: &own };
        let check = |path: &str, want: Result<&str, &str>| {
            let got = field_value(&pod(), path, &facts);
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{path}");
        };
        check("metadata.name", Ok("p"));
        check("metadata.labels", Ok("a=\"x\\\"y\"\nb=\"2\""));
        check("metadata.annotations", Ok("k=\"line\\n\""));
        check("metadata.labels['b']", Ok("2"));
        check("metadata.labels['nope']", Ok(""));
        check("spec.nodeName", Ok("node-1"));
        check("status.hostIP", Ok("192.0.2.1"));
        check("status.podIP", Ok("10.0.0.7"));
        check("status.podIPs", Ok("10.0.0.7,fd00::7"));
        check("spec.volumes", Err("unsupported fieldPath: spec.volumes"));
    }

    #[test]
    fn resources_are_counted_in_their_divisor() {
        let node = NodeAllocatable { cpu_milli: 3500, memory: 1 << 30, ..NodeAllocatable::default() };
        let check = |container: &str, resource: &str, divisor: Option<&str>, want: Result<&str, &str>| {
            let selector: ResourceFieldSelector = serde_json::from_value(serde_json::json!(
                {"containerName": container, "resource": resource, "divisor": divisor}
            ))
            .unwrap();
            let got = resource_value(&pod(), &selector, None, &node);
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{container} {resource} {divisor:?}");
        };
        check("c", "limits.cpu", None, Ok("2"));
        check("c", "limits.cpu", Some("1m"), Ok("1250"));
        check("c", "requests.cpu", Some("0"), Ok("1"));
        check("c", "limits.memory", Some("1Mi"), Ok("64"));
        check("c", "requests.memory", None, Ok("0"));
        check("d", "limits.cpu", None, Ok("4"));
        check("d", "limits.memory", Some("1Mi"), Ok("1024"));
        check("e", "limits.cpu", None, Err("container e not found"));
        check("c", "limits.gpu", None, Err("Unsupported container resource : limits.gpu"));
    }
}
