//! Volumes and what provides them.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::print::{AGE, NAME, age, boolean, col, name, number, or, wide};
use super::tree::{default, default_zero, flag, is_set, list, text, with};
use super::{KindOps, Printer};

/// Persistent volumes.
pub static VOLUME: KindOps = KindOps {
    default: |object| {
        default(object, "status", Map::new());
        with(object, "status", |status| default_zero(status, "phase", "Pending"));
        with(object, "spec", |spec| {
            default_zero(spec, "persistentVolumeReclaimPolicy", "Retain");
            default(spec, "volumeMode", "Filesystem");
        });
    },
    prepare_create: |object| object["status"] = serde_json::json!({"phase": "Pending"}),
    printer: Some(Printer {
        columns: &[
            NAME,
            col("Capacity"),
            col("Access Modes"),
            col("Reclaim Policy"),
            col("Status"),
            col("Claim"),
            col("StorageClass"),
            col("VolumeAttributesClass"),
            col("Reason"),
            AGE,
            wide("VolumeMode"),
        ],
        cells: volume_cells,
    }),
    ..KindOps::BASE
};

/// Persistent volume claims.
pub static CLAIM: KindOps = KindOps {
    default: default_claim,
    prepare_create: |object| object["status"] = serde_json::json!({"phase": "Pending"}),
    printer: Some(Printer {
        columns: &[
            NAME,
            col("Status"),
            col("Volume"),
            col("Capacity"),
            col("Access Modes"),
            col("StorageClass"),
            col("VolumeAttributesClass"),
            AGE,
            wide("VolumeMode"),
        ],
        cells: claim_cells,
    }),
    ..KindOps::BASE
};

/// Storage classes.
pub static CLASS: KindOps = KindOps {
    default: |object| {
        default(object, "reclaimPolicy", "Delete");
        default(object, "volumeBindingMode", "Immediate");
    },
    printer: Some(Printer {
        columns: &[
            NAME,
            col("Provisioner"),
            col("ReclaimPolicy"),
            col("VolumeBindingMode"),
            col("AllowVolumeExpansion"),
            AGE,
        ],
        cells: class_cells,
    }),
    ..KindOps::BASE
};

/// Attachments of volumes to nodes.
pub static ATTACHMENT: KindOps = KindOps {
    unconditional_update: false,
    printer: Some(Printer {
        columns: &[
            NAME,
            super::Column { name: "Attacher", ..NAME },
            col("PV"),
            col("Node"),
            boolean("Attached"),
            AGE,
        ],
        cells: |object, now| {
            let spec = &object["spec"];
            vec![
                name(object),
                text(&spec["attacher"]).into(),
                text(&spec["source"]["persistentVolumeName"]).into(),
                text(&spec["nodeName"]).into(),
                flag(&object["status"]["attached"]).into(),
                age(object, now),
            ]
        },
    }),
    ..KindOps::BASE
};

/// CSI drivers.
pub static CSI_DRIVER: KindOps = KindOps {
    unconditional_update: false,
    default: |object| {
        with(object, "spec", |spec| {
            default(spec, "attachRequired", true);
            default(spec, "podInfoOnMount", false);
            default(spec, "storageCapacity", false);
            default_zero(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            default(spec, "requiresRepublish", false);
            default(spec, "seLinuxMount", false);
            if !is_set(&spec["volumeLifecycleModes"]) {
                spec["volumeLifecycleModes"] = serde_json::json!(["Persistent"]);
            }
        });
    },
    generation: true,
    printer: Some(Printer {
        columns: &[
            NAME,
            boolean("AttachRequired"),
            boolean("PodInfoOnMount"),
            boolean("StorageCapacity"),
            col("TokenRequests"),
            boolean("RequiresRepublish"),
            col("Modes"),
            AGE,
        ],
        cells: driver_cells,
    }),
    ..KindOps::BASE
};

/// What CSI knows of a node.
pub static CSI_NODE: KindOps = KindOps {
    unconditional_update: false,
    printer: Some(Printer {
        columns: &[NAME, number("Drivers"), AGE],
        cells: |object, now| {
            vec![name(object), list(&object["spec"]["drivers"]).len().into(), age(object, now)]
        },
    }),
    ..KindOps::BASE
};

/// Classes of volume attributes.
pub static ATTRIBUTES_CLASS: KindOps = KindOps {
    printer: Some(Printer {
        columns: &[NAME, col("DriverName"), AGE],
        cells: |object, now| vec![name(object), text(&object["driverName"]).into(), age(object, now)],
    }),
    ..KindOps::BASE
};

/// Into a claim, also one inside another object.
pub fn default_claim(claim: &mut Value) {
    with(claim, "spec", |spec| default(spec, "volumeMode", "Filesystem"));
    default(claim, "status", Map::new());
    with(claim, "status", |status| default_zero(status, "phase", "Pending"));
}

/// `RWO,ROX`.
fn modes(modes: &Value) -> Value {
    let short = |mode: &str| match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    let given: Vec<_> = list(modes).iter().map(text).collect();
    let order = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];
    order.into_iter().filter(|mode| given.contains(mode)).map(short).collect::<Vec<_>>().join(",").into()
}

fn class_of(object: &Value) -> String {
    match object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str() {
        Some(class) => class.to_owned(),
        None => text(&object["spec"]["storageClassName"]).to_owned(),
    }
}

fn unset(value: &Value) -> Value {
    or(text(value), "<unset>")
}

fn terminating<'a>(object: &Value, phase: &'a str) -> &'a str {
    if object["metadata"]["deletionTimestamp"].is_string() { "Terminating" } else { phase }
}

fn volume_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let claim = &spec["claimRef"];
    let claim = if is_set(claim) {
        format!("{}/{}", text(&claim["namespace"]), text(&claim["name"]))
    } else {
        String::new()
    };
    vec![
        name(object),
        text(&spec["capacity"]["storage"]).into(),
        modes(&spec["accessModes"]),
        text(&spec["persistentVolumeReclaimPolicy"]).into(),
        terminating(object, text(&status["phase"])).into(),
        claim.into(),
        class_of(object).into(),
        unset(&spec["volumeAttributesClassName"]),
        text(&status["reason"]).into(),
        age(object, now),
        or(text(&spec["volumeMode"]), "<unset>"),
    ]
}

fn claim_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let bound = is_set(&spec["volumeName"]);
    let shown = |value: Value| if bound { value } else { "".into() };
    vec![
        name(object),
        terminating(object, text(&status["phase"])).into(),
        text(&spec["volumeName"]).into(),
        shown(text(&status["capacity"]["storage"]).into()),
        shown(modes(&status["accessModes"])),
        class_of(object).into(),
        unset(&spec["volumeAttributesClassName"]),
        age(object, now),
        or(text(&spec["volumeMode"]), "<unset>"),
    ]
}

fn class_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let annotations = &object["metadata"]["annotations"];
    let marks =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let default = marks.into_iter().any(|mark| annotations[mark] == "true");
    let name = text(&object["metadata"]["name"]);
    vec![
        if default { format!("{name} (default)").into() } else { name.into() },
        text(&object["provisioner"]).into(),
        or(text(&object["reclaimPolicy"]), "Delete"),
        or(text(&object["volumeBindingMode"]), "Immediate"),
        flag(&object["allowVolumeExpansion"]).to_string().into(),
        age(object, now),
    ]
}

fn driver_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let joined = |values: Vec<&str>, empty: &str| or(&values.join(","), empty);
    let audiences = list(&spec["tokenRequests"]).iter().map(|token| text(&token["audience"])).collect();
    vec![
        name(object),
        flag(&spec["attachRequired"]).into(),
        flag(&spec["podInfoOnMount"]).into(),
        flag(&spec["storageCapacity"]).into(),
        joined(audiences, "<unset>"),
        flag(&spec["requiresRepublish"]).into(),
        joined(list(&spec["volumeLifecycleModes"]).iter().map(text).collect(), "<none>"),
        age(object, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims() {
        let mut claim = json!({"metadata": {"name": "c"}, "spec": {"volumeName": "v", "storageClassName": "fast"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]}});
        default_claim(&mut claim);
        let cells = claim_cells(&claim, Timestamp::UNIX_EPOCH);
        assert_eq!(
            json!(cells),
            json!(["c", "Bound", "v", "1Gi", "RWO,RWX", "fast", "<unset>", "<unknown>", "Filesystem"])
        );
    }

    #[test]
    fn classes_show_the_default_one() {
        let mut class = json!({"metadata": {"name": "c", "annotations": {"storageclass.kubernetes.io/is-default-class":
            "true"}}, "provisioner": "p"});
        (CLASS.default)(&mut class);
        assert_eq!(
            json!(class_cells(&class, Timestamp::UNIX_EPOCH)),
            json!(["c (default)", "p", "Delete", "Immediate", "false", "<unknown>"])
        );
    }
}
