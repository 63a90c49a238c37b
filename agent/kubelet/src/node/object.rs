//! The Node object: what is registered, and its status piece by piece. Pure.

use coracle_cri::proto as v1;
use serde_json::{Map, Value, json};

use super::{KUBELET_VERSION, NodeFacts, capacity};
use crate::config::KubeletConfig;

/// Says to upstream's controllers that they attach volumes, not the kubelet.
const CONTROLLER_ATTACHES: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
/// Names that an image is listed under at most.
const MAX_IMAGE_NAMES: usize = 5;

/// What of the runtime goes into the status.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct RuntimeFacts {
    /// `containerd://1.6.20`.
    pub(super) version: String,
    pub(super) handlers: Vec<v1::RuntimeHandler>,
    pub(super) features: Option<v1::RuntimeFeatures>,
}

/// The object for a node that is not there yet, but for its status.
pub(super) fn node(config: &KubeletConfig, facts: &NodeFacts) -> Value {
    let mut spec = Map::new();
    if !config.node.taints.is_empty() {
        spec.insert("taints".into(), json!(config.node.taints));
    }
    if !config.node.provider_id.is_empty() {
        spec.insert("providerID".into(), config.node.provider_id.clone().into());
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": facts.name,
            "labels": labels(config, facts),
            "annotations": {CONTROLLER_ATTACHES: "true"},
        },
        "spec": spec,
    })
}

/// What a node is labelled with at registration.
fn labels(config: &KubeletConfig, facts: &NodeFacts) -> Value {
    let mut labels = Map::new();
    for (key, value) in &config.node.labels {
        labels.insert(key.clone(), value.clone().into());
    }
    for prefix in ["kubernetes.io", "beta.kubernetes.io"] {
        labels.insert(format!("{prefix}/os"), "linux".into());
        labels.insert(format!("{prefix}/arch"), facts.system.architecture.clone().into());
    }
    labels.insert("kubernetes.io/hostname".into(), facts.name.clone().into());
    Value::Object(labels)
}

/// What an existing node lacks of what this kubelet says about it; none when it lacks nothing.
pub(super) fn adoption(existing: &Value, wanted: &Value) -> Option<Value> {
    let mut missing = Map::new();
    for part in ["labels", "annotations"] {
        let differs = |(key, value): &(&String, &Value)| &existing["metadata"][part][key.as_str()] != *value;
        let wanted = wanted["metadata"][part].as_object().into_iter().flatten();
        let differing: Map<_, _> =
            wanted.filter(differs).map(|(key, value)| (key.clone(), value.clone())).collect();
        if !differing.is_empty() {
            missing.insert(part.to_owned(), Value::Object(differing));
        }
    }
    (!missing.is_empty()).then(|| json!({"metadata": missing}))
}

/// The status but for its conditions.
pub(super) fn status(
    config: &KubeletConfig,
    facts: &NodeFacts,
    runtime: &RuntimeFacts,
    images: &[v1::Image],
) -> Map<String, Value> {
    let (capacity, allocatable) = capacity::lists(config, facts);
    let mut addresses: Vec<Value> =
        facts.ips.iter().map(|it| json!({"type": "InternalIP", "address": it.to_string()})).collect();
    addresses.push(json!({"type": "Hostname", "address": facts.name}));
    let system = &facts.system;
    let mut info = json!({
        "machineID": system.machine_id,
        "systemUUID": system.system_uuid,
        "bootID": system.boot_id,
        "kernelVersion": system.kernel_version,
        "osImage": system.os_image,
        "containerRuntimeVersion": runtime.version,
        "kubeletVersion": KUBELET_VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": system.architecture,
    });
    if facts.machine.swap > 0 {
        info["swap"] = json!({"capacity": facts.machine.swap});
    }
    let mut status = Map::new();
    let mut set = |key: &str, value: Value| drop(status.insert(key.to_owned(), value));
    set("capacity", capacity);
    set("allocatable", allocatable);
    set("addresses", addresses.into());
    set("daemonEndpoints", json!({"kubeletEndpoint": {"Port": config.server.port}}));
    set("nodeInfo", info);
    set("images", image_list(images, config.node.max_images));
    if !runtime.handlers.is_empty() {
        set("runtimeHandlers", runtime.handlers.iter().map(handler).collect());
    }
    if let Some(features) = runtime.features {
        set("features", json!({"supplementalGroupsPolicy": features.supplemental_groups_policy}));
    }
    status
}

fn handler(handler: &v1::RuntimeHandler) -> Value {
    let can = handler.features.unwrap_or_default();
    json!({
        "name": handler.name,
        "features": {
            "recursiveReadOnlyMounts": can.recursive_read_only_mounts,
            "userNamespaces": can.user_namespaces,
        },
    })
}

/// The largest images first, digests before tags. One whose tag moved on has no name, and is nothing to choose by.
fn image_list(images: &[v1::Image], max: i32) -> Value {
    let is_named = |it: &&v1::Image| !(it.repo_digests.is_empty() && it.repo_tags.is_empty());
    let mut images: Vec<&v1::Image> = images.iter().filter(is_named).collect();
    images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    if let Ok(max) = usize::try_from(max) {
        images.truncate(max);
    }
    let list = images.iter().map(|it| {
        let names: Vec<&String> = it.repo_digests.iter().chain(&it.repo_tags).take(MAX_IMAGE_NAMES).collect();
        json!({"names": names, "sizeBytes": it.size})
    });
    list.collect()
}

/// The patch that brings the status that was sent last to `now`: whole pieces that differ, and always the conditions.
pub(super) fn status_patch(sent: &Map<String, Value>, now: &Map<String, Value>, conditions: &Value) -> Value {
    let mut patch = Map::new();
    for (key, value) in now {
        if sent.get(key) == Some(value) {
            continue;
        }
        let mut value = value.clone();
        if key == "addresses"
            && let Some(list) = value.as_array_mut()
        {
            // Merged by type, two addresses of one type would be one.
            list.insert(0, json!({"$patch": "replace"}));
        }
        patch.insert(key.clone(), value);
    }
    patch.insert("conditions".to_owned(), conditions.clone());
    json!({"status": patch})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Machine, SystemInfo};
    use crate::translate::NodeAllocatable;

    fn facts() -> NodeFacts {
        NodeFacts {
            name: "node-1".into(),
            ips: vec!["192.0.2.1".parse().unwrap()],
            allocatable: NodeAllocatable { cpu_milli: 1500, memory: 1 << 30, ..NodeAllocatable::default() },
            machine: Machine { cpu_milli: 2000, memory: (2 << 30) + 4096, ..Machine::default() },
            ephemeral_storage: 1 << 30,
            hugepages: vec![("2Mi".into(), 0)],
            system: SystemInfo { architecture: "amd64".into(), ..SystemInfo::default() },
        }
    }

    #[test]
    fn the_status_is_in_upstreams_form() {
        let config = crate::config::testing::config(std::path::Path::new("/r"));
        let image = |id: &str, size| v1::Image {
            id: id.into(),
            repo_tags: vec![format!("{id}:1")],
            size,
            ..Default::default()
        };
        let nameless = v1::Image { id: "moved".into(), size: 99, ..Default::default() };
        let runtime = RuntimeFacts { version: "containerd://1".into(), ..RuntimeFacts::default() };
        let status = status(&config, &facts(), &runtime, &[image("small", 1), nameless, image("big", 9)]);
        assert_eq!(status["capacity"]["memory"], "2097156Ki");
        assert_eq!(
            (&status["capacity"]["cpu"], &status["allocatable"]["cpu"]),
            (&json!("2"), &json!("1500m"))
        );
        assert_eq!(status["capacity"]["pods"], "110");
        assert_eq!(status["capacity"]["hugepages-2Mi"], "0");
        assert_eq!(status["images"][0], json!({"names": ["big:1"], "sizeBytes": 9}));
        assert_eq!(status["daemonEndpoints"]["kubeletEndpoint"]["Port"], 10250);
        let patch = status_patch(&status, &status, &json!([]));
        assert_eq!(patch, json!({"status": {"conditions": []}}));
        let patch = status_patch(&Map::new(), &status, &json!([]));
        assert_eq!(patch["status"]["addresses"][0], json!({"$patch": "replace"}));
    }

    #[test]
    fn an_existing_node_gets_what_it_lacks() {
        let mut config = crate::config::testing::config(std::path::Path::new("/r"));
        config.node.labels.insert("pool".into(), "a".into());
        let wanted = node(&config, &facts());
        assert_eq!(wanted["metadata"]["labels"]["kubernetes.io/arch"], "amd64");
        assert_eq!(adoption(&wanted, &wanted), None);
        let mut existing = wanted.clone();
        existing["metadata"]["labels"]["kubernetes.io/arch"] = json!("arm64");
        existing["metadata"]["labels"]["extra"] = json!("kept");
        let want = json!({"metadata": {"labels": {"kubernetes.io/arch": "amd64"}}});
        assert_eq!(adoption(&existing, &wanted), Some(want));
    }
}
