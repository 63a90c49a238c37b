//! Pods, and pod templates inside other kinds.

mod containers; // checks of containers
mod defaults; // what is filled in
mod print; // the table
mod probes; // checks of probes and handlers
mod qos; // the class of service
mod resize; // what a resize may change
mod resources; // checks of requests and limits
mod security; // checks of the security context
mod update; // what an update may change
mod validate; // checks of the spec as a whole
mod volumes; // checks of volumes

use serde_json::{Value, json};

use super::tree::{is_set, with};
use super::{KindOps, Printer};

pub use defaults::template as default_template;
pub use validate::template as validate_template;

/// Pods.
pub static POD: KindOps = KindOps {
    default: defaults::pod,
    prepare_create,
    validate_create: validate::pod,
    validate_update: update::check,
    validate_resize: resize::check,
    prepare_status,
    generation: true,
    fields: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ],
    printer: Some(Printer { columns: print::COLUMNS, cells: print::cells }),
    ..KindOps::BASE
};

/// Templates of pods as objects of their own.
pub static POD_TEMPLATE: KindOps = KindOps {
    default: |object| with(object, "template", defaults::template),
    validate_create: validate::pod_template,
    validate_update: |new, _| validate::pod_template(new),
    generation: true,
    printer: Some(Printer { columns: print::TEMPLATE_COLUMNS, cells: print::template_cells }),
    ..KindOps::BASE
};

fn prepare_create(pod: &mut Value) {
    let mut status = json!({ "phase": "Pending", "qosClass": qos::class(pod) });
    if is_set(&pod["spec"]["schedulingGates"]) {
        status["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    pod["status"] = status;
}

fn prepare_status(new: &mut Value, old: &Value) {
    if !is_set(&new["status"]["qosClass"]) && new["status"].is_object() {
        let class = match &old["status"]["qosClass"] {
            class if is_set(class) => class.clone(),
            _ => qos::class(old).into(),
        };
        new["status"]["qosClass"] = class;
    }
}
