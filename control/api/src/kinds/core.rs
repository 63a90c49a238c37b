//! Nodes, namespaces, configuration and the smaller kinds of the core group.

use coracle_apimachinery::names;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::print::{AGE, NAME, NONE, UNKNOWN, age, col, name, or, size, wide};
use super::tree::{copy, default, default_zero, each, entries, flag, is_set, list, made, text, with};
use super::{KindOps, Printer};

/// Nodes.
pub static NODE: KindOps = KindOps {
    default: |object| {
        with(object, "spec", |spec| super::tree::first_of_list(spec, "podCIDR", "podCIDRs", None));
        with(object, "status", |status| {
            let capacity = status["capacity"].clone();
            if is_set(&capacity) {
                default(status, "allocatable", capacity);
            }
        });
    },
    validate_create: |node| super::validate::node(node),
    validate_update: super::validate::node_update,
    fields: &["spec.unschedulable"],
    printer: Some(Printer {
        columns: &[
            NAME,
            col("Status"),
            col("Roles"),
            AGE,
            col("Version"),
            wide("Internal-IP"),
            wide("External-IP"),
            wide("OS-Image"),
            wide("Kernel-Version"),
            wide("Container-Runtime"),
        ],
        cells: node_cells,
    }),
    ..KindOps::BASE
};

/// Namespaces.
pub static NAMESPACE: KindOps = KindOps {
    default: default_namespace,
    validate_name: names::dns1123_label,
    prepare_create: prepare_namespace,
    prepare_update: |new, old| {
        if let Some(spec) = made(new, "spec") {
            copy(spec, &old["spec"], "finalizers");
        }
    },
    fields: &["status.phase"],
    printer: Some(Printer {
        columns: &[NAME, col("Status"), AGE],
        cells: |object, now| vec![name(object), text(&object["status"]["phase"]).into(), age(object, now)],
    }),
    ..KindOps::BASE
};

/// Config maps.
pub static CONFIG_MAP: KindOps = KindOps {
    validate_create: super::validate::config_map,
    validate_update: super::validate::config_map_update,
    printer: Some(Printer {
        columns: &[NAME, col("Data"), AGE],
        cells: |object, now| {
            vec![name(object), (size(&object["data"]) + size(&object["binaryData"])).into(), age(object, now)]
        },
    }),
    ..KindOps::BASE
};

/// Secrets.
pub static SECRET: KindOps = KindOps {
    default: default_secret,
    validate_create: super::validate::secret,
    validate_update: super::validate::secret_update,
    fields: &["type"],
    printer: Some(Printer {
        columns: &[NAME, col("Type"), col("Data"), AGE],
        cells: |object, now| {
            vec![name(object), text(&object["type"]).into(), size(&object["data"]).into(), age(object, now)]
        },
    }),
    ..KindOps::BASE
};

/// Service accounts.
pub static SERVICE_ACCOUNT: KindOps = KindOps {
    printer: Some(Printer {
        columns: &[NAME, AGE],
        cells: |object, now| vec![name(object), age(object, now)],
    }),
    ..KindOps::BASE
};

/// The state of components.
pub static COMPONENT_STATUS: KindOps = KindOps {
    printer: Some(Printer {
        columns: &[NAME, col("Status"), col("Message"), col("Error")],
        cells: component_cells,
    }),
    ..KindOps::BASE
};

/// Limit ranges.
pub static LIMIT_RANGE: KindOps = KindOps {
    default: |object| with(object, "spec", |spec| each(spec, "limits", default_limit)),
    create_on_update: true,
    ..KindOps::BASE
};

/// Resource quotas.
pub static RESOURCE_QUOTA: KindOps = KindOps {
    printer: Some(Printer { columns: &[NAME, col("Request"), col("Limit"), AGE], cells: quota_cells }),
    ..KindOps::BASE
};

fn node_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let status = &object["status"];
    let ready = list(&status["conditions"]).iter().find(|condition| condition["type"] == "Ready");
    let mut state = match ready {
        Some(condition) if condition["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if flag(&object["spec"]["unschedulable"]) {
        state.push_str(",SchedulingDisabled");
    }
    let address = |kind: &str| {
        let found = list(&status["addresses"]).iter().find(|address| address["type"] == kind);
        or(found.map_or("", |address| text(&address["address"])), NONE)
    };
    let info = &status["nodeInfo"];
    vec![
        name(object),
        state.into(),
        roles(object),
        age(object, now),
        text(&info["kubeletVersion"]).into(),
        address("InternalIP"),
        address("ExternalIP"),
        or(text(&info["osImage"]), UNKNOWN),
        or(text(&info["kernelVersion"]), UNKNOWN),
        or(text(&info["containerRuntimeVersion"]), UNKNOWN),
    ]
}

fn roles(node: &Value) -> Value {
    let role = |(key, value): (&str, &Value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => Some(role.to_owned()),
        None if key == "kubernetes.io/role" => Some(text(value).to_owned()),
        None => None,
    };
    let mut roles: Vec<_> =
        entries(&node["metadata"]["labels"]).filter_map(role).filter(|role| !role.is_empty()).collect();
    roles.sort();
    roles.dedup();
    or(&roles.join(","), NONE)
}

/// Every namespace carries its name as a label.
fn default_namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    if is_set(&name) {
        with(object, "metadata", |metadata| {
            if let Some(labels) = made(metadata, "labels") {
                labels["kubernetes.io/metadata.name"] = name;
            }
        });
    }
    default(object, "status", Map::new());
    with(object, "status", |status| default_zero(status, "phase", "Active"));
}

fn prepare_namespace(object: &mut Value) {
    default_namespace(object);
    object["status"] = json!({"phase": "Active"});
    if let Some(spec) = made(object, "spec") {
        let mut finalizers = list(&spec["finalizers"]).to_vec();
        if !finalizers.iter().any(|finalizer| finalizer == "kubernetes") {
            finalizers.push("kubernetes".into());
        }
        spec["finalizers"] = finalizers.into();
    }
}

/// Text given for convenience becomes data.
fn default_secret(object: &mut Value) {
    use base64::Engine;
    default_zero(object, "type", "Opaque");
    if let Some(Value::Object(given)) = super::tree::remove(object, "stringData")
        && let Some(data) = super::tree::map(object, "data")
    {
        for (key, value) in given {
            data.insert(key, base64::engine::general_purpose::STANDARD.encode(text(&value)).into());
        }
    }
}

fn component_cells(object: &Value, _now: Timestamp) -> Vec<Value> {
    let healthy = list(&object["conditions"]).iter().find(|condition| condition["type"] == "Healthy");
    let state = match healthy.map(|condition| text(&condition["status"])) {
        Some("True") => "Healthy",
        Some("False") => "Unhealthy",
        _ => "Unknown",
    };
    let field = |field: &str| healthy.map_or(Value::from(""), |condition| text(&condition[field]).into());
    vec![name(object), state.into(), field("message"), field("error")]
}

fn default_limit(limit: &mut Value) {
    if limit["type"] != "Container" {
        return;
    }
    for (to, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
        let amounts = limit[from].as_object().cloned().unwrap_or_default();
        default(limit, to, Map::new());
        for (resource, amount) in amounts {
            default(&mut limit[to], &resource, amount);
        }
    }
}

fn quota_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let status = &object["status"];
    for (resource, hard) in entries(&status["hard"]) {
        let used = match text(&status["used"][resource]) {
            "" => "0",
            used => used,
        };
        let item = format!("{resource}: {used}/{}", text(hard));
        if resource.starts_with("limits") { limits.push(item) } else { requests.push(item) }
    }
    vec![name(object), requests.join(", ").into(), limits.join(", ").into(), age(object, now)]
}

/// Leases.
pub static LEASE: KindOps = KindOps {
    validate_create: super::validate::lease,
    validate_update: |new, _| super::validate::lease(new),
    create_on_update: true,
    unconditional_update: false,
    printer: Some(Printer {
        columns: &[NAME, col("Holder"), AGE],
        cells: |object, now| {
            vec![name(object), text(&object["spec"]["holderIdentity"]).into(), age(object, now)]
        },
    }),
    ..KindOps::BASE
};

/// A bare name and age, for kinds that show nothing else.
pub static NAME_AND_AGE: KindOps = KindOps {
    printer: Some(Printer {
        columns: &[NAME, AGE],
        cells: |object, now| vec![name(object), age(object, now)],
    }),
    ..KindOps::BASE
};

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[Value]) -> String {
        cells.iter().map(|c| c.as_str().map_or(c.to_string(), str::to_owned)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn nodes() {
        let mut node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": "",
            "node-role.kubernetes.io/control-plane": ""}}, "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses":
            [{"type": "InternalIP", "address": "10.0.0.1"}], "nodeInfo": {"kubeletVersion": "v1"}}});
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(
            row(&node_cells(&node, now)),
            "n Ready control-plane,worker <unknown> v1 10.0.0.1 <none> <unknown> <unknown> <unknown>"
        );
        node["status"]["conditions"][0]["status"] = "Unknown".into();
        node["spec"]["unschedulable"] = true.into();
        assert_eq!(node_cells(&node, now)[1], "NotReady,SchedulingDisabled");
    }

    #[test]
    fn one_block_and_the_list_of_blocks_agree() {
        let check = |spec: Value, expected: Value| {
            let mut node = json!({"spec": spec});
            (NODE.default)(&mut node);
            assert_eq!(node["spec"], expected);
        };
        check(json!({}), json!({}));
        check(json!({"podCIDR": "a"}), json!({"podCIDR": "a", "podCIDRs": ["a"]}));
        check(json!({"podCIDRs": ["a", "b"]}), json!({"podCIDR": "a", "podCIDRs": ["a", "b"]}));
        check(
            json!({"podCIDR": "a", "podCIDRs": ["a", "b"]}),
            json!({"podCIDR": "a", "podCIDRs": ["a", "b"]}),
        );
        check(json!({"podCIDR": "c", "podCIDRs": ["a", "b"]}), json!({"podCIDR": "c", "podCIDRs": ["c"]}));
    }

    #[test]
    fn namespaces_begin_active() {
        let mut object = json!({"metadata": {"name": "a"}});
        prepare_namespace(&mut object);
        assert_eq!(object["spec"]["finalizers"], json!(["kubernetes"]));
        assert_eq!(object["status"], json!({"phase": "Active"}));
        assert_eq!(object["metadata"]["labels"]["kubernetes.io/metadata.name"], "a");
    }

    #[test]
    fn secrets_take_plain_text() {
        let mut object = json!({"stringData": {"a": "b"}, "data": {"c": "ZA=="}});
        default_secret(&mut object);
        assert_eq!(object, json!({"type": "Opaque", "data": {"a": "Yg==", "c": "ZA=="}}));
    }

    #[test]
    fn limits_follow_from_each_other() {
        let mut limit = json!({"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Gi"}});
        default_limit(&mut limit);
        assert_eq!(limit["default"], json!({"cpu": "2"}));
        assert_eq!(limit["defaultRequest"], json!({"cpu": "2", "memory": "1Gi"}));
    }
}
