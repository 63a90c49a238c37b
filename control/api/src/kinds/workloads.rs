//! Kinds that keep pods running: deployments, replica sets, stateful sets, daemon sets, replication controllers and
//! the revisions of their templates.

mod jobs; // jobs and cron jobs
mod validate; // checks

use jiff::Timestamp;
use serde_json::Value;

use super::pod::default_template;
use super::print::{AGE, NAME, NONE, age, col, containers, count, labels, name, number, or, selector, wide};
pub use jobs::{CRON_JOB, JOB};

use super::tree::{default, default_zero, each, flag, int, is_set, list, made, text, with};
use super::{Column, KindOps, Printer};

const CONTAINERS: Column = wide("Containers");
const IMAGES: Column = wide("Images");
const SELECTOR: Column = wide("Selector");

/// Deployments.
pub static DEPLOYMENT: KindOps = KindOps {
    default: default_deployment,
    generation: true,
    validate_create: validate::deployment,
    validate_update: validate::deployment_update,
    printer: Some(Printer {
        columns: &[
            NAME,
            col("Ready"),
            col("Up-to-date"),
            col("Available"),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        cells: deployment_cells,
    }),
    ..KindOps::BASE
};

/// Replica sets.
pub static REPLICA_SET: KindOps = KindOps {
    default: default_replica_set,
    generation: true,
    fields: &["status.replicas"],
    validate_create: validate::replica_set,
    validate_update: validate::replica_set_update,
    printer: Some(Printer { columns: REPLICA_COLUMNS, cells: replica_set_cells }),
    ..KindOps::BASE
};

/// Replication controllers.
pub static REPLICATION_CONTROLLER: KindOps = KindOps {
    default: default_replication_controller,
    generation: true,
    fields: &["status.replicas"],
    validate_create: validate::replication_controller,
    validate_update: |new, _| validate::replication_controller(new),
    printer: Some(Printer { columns: REPLICA_COLUMNS, cells: replication_controller_cells }),
    orphan_by_default: true,
    ..KindOps::BASE
};

/// Stateful sets.
pub static STATEFUL_SET: KindOps = KindOps {
    default: default_stateful_set,
    generation: true,
    validate_create: validate::stateful_set,
    validate_update: validate::stateful_set_update,
    printer: Some(Printer {
        columns: &[NAME, col("Ready"), AGE, CONTAINERS, IMAGES],
        cells: stateful_set_cells,
    }),
    ..KindOps::BASE
};

/// Daemon sets.
pub static DAEMON_SET: KindOps = KindOps {
    default: default_daemon_set,
    generation: true,
    validate_create: validate::daemon_set,
    validate_update: validate::daemon_set_update,
    printer: Some(Printer {
        columns: &[
            NAME,
            number("Desired"),
            number("Current"),
            number("Ready"),
            number("Up-to-date"),
            number("Available"),
            col("Node Selector"),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        cells: daemon_set_cells,
    }),
    ..KindOps::BASE
};

/// Controller revisions.
pub static CONTROLLER_REVISION: KindOps = KindOps {
    validate_create: validate::controller_revision,
    validate_update: validate::controller_revision_update,
    printer: Some(Printer {
        columns: &[NAME, col("Controller"), col("Revision"), AGE],
        cells: controller_revision_cells,
    }),
    ..KindOps::BASE
};

const REPLICA_COLUMNS: &[Column] =
    &[NAME, number("Desired"), number("Current"), number("Ready"), AGE, CONTAINERS, IMAGES, SELECTOR];

/// The pod template in a spec.
fn template(spec: &mut Value) {
    with(spec, "template", default_template);
}

fn default_deployment(object: &mut Value) {
    with(object, "spec", |spec| {
        default(spec, "replicas", 1);
        if let Some(strategy) = made(spec, "strategy") {
            default_zero(strategy, "type", "RollingUpdate");
            if strategy["type"] == "RollingUpdate"
                && let Some(rolling) = made(strategy, "rollingUpdate")
            {
                default(rolling, "maxUnavailable", "25%");
                default(rolling, "maxSurge", "25%");
            }
        }
        default(spec, "revisionHistoryLimit", 10);
        default(spec, "progressDeadlineSeconds", 600);
        template(spec);
    });
}

fn default_replica_set(object: &mut Value) {
    with(object, "spec", |spec| {
        default(spec, "replicas", 1);
        template(spec);
    });
}

fn default_replication_controller(object: &mut Value) {
    let from_template = object["spec"]["template"]["metadata"]["labels"].clone();
    with(object, "spec", |spec| {
        default(spec, "replicas", 1);
        if is_set(&from_template) && !is_set(&spec["selector"]) {
            spec["selector"] = from_template.clone();
        }
        template(spec);
    });
    if is_set(&from_template) && !is_set(&object["metadata"]["labels"]) {
        with(object, "metadata", |meta| meta["labels"] = from_template);
    }
}

fn default_stateful_set(object: &mut Value) {
    with(object, "spec", |spec| {
        default(spec, "replicas", 1);
        default_zero(spec, "podManagementPolicy", "OrderedReady");
        if let Some(strategy) = made(spec, "updateStrategy") {
            default_zero(strategy, "type", "RollingUpdate");
            if strategy["type"] == "RollingUpdate"
                && let Some(rolling) = made(strategy, "rollingUpdate")
            {
                default(rolling, "partition", 0);
            }
        }
        default(spec, "revisionHistoryLimit", 10);
        if let Some(retention) = made(spec, "persistentVolumeClaimRetentionPolicy") {
            default_zero(retention, "whenDeleted", "Retain");
            default_zero(retention, "whenScaled", "Retain");
        }
        each(spec, "volumeClaimTemplates", |claim| {
            default(claim, "apiVersion", "v1");
            default(claim, "kind", "PersistentVolumeClaim");
            super::storage::default_claim(claim);
        });
        template(spec);
    });
}

fn default_daemon_set(object: &mut Value) {
    with(object, "spec", |spec| {
        if let Some(strategy) = made(spec, "updateStrategy") {
            default_zero(strategy, "type", "RollingUpdate");
            if strategy["type"] == "RollingUpdate"
                && let Some(rolling) = made(strategy, "rollingUpdate")
            {
                default(rolling, "maxUnavailable", 1);
                default(rolling, "maxSurge", 0);
            }
        }
        default(spec, "revisionHistoryLimit", 10);
        template(spec);
    });
}

/// `ready/wanted`.
fn ready(object: &Value) -> Value {
    let wanted = int(&object["spec"]["replicas"]);
    format!("{}/{wanted}", int(&object["status"]["readyReplicas"])).into()
}

fn deployment_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let [names, images] = containers(&spec["template"]["spec"]);
    vec![
        name(object),
        ready(object),
        count(&status["updatedReplicas"]),
        count(&status["availableReplicas"]),
        age(object, now),
        names,
        images,
        selector(&spec["selector"]),
    ]
}

fn replica_cells(object: &Value, now: Timestamp, selector: Value) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let [names, images] = containers(&spec["template"]["spec"]);
    vec![
        name(object),
        count(&spec["replicas"]),
        count(&status["replicas"]),
        count(&status["readyReplicas"]),
        age(object, now),
        names,
        images,
        selector,
    ]
}

fn replica_set_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    replica_cells(object, now, selector(&object["spec"]["selector"]))
}

fn replication_controller_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    replica_cells(object, now, labels(&object["spec"]["selector"]))
}

fn stateful_set_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(&object["spec"]["template"]["spec"]);
    vec![name(object), ready(object), age(object, now), names, images]
}

fn daemon_set_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let [names, images] = containers(&spec["template"]["spec"]);
    vec![
        name(object),
        count(&status["desiredNumberScheduled"]),
        count(&status["currentNumberScheduled"]),
        count(&status["numberReady"]),
        count(&status["updatedNumberScheduled"]),
        count(&status["numberAvailable"]),
        labels(&spec["template"]["spec"]["nodeSelector"]),
        age(object, now),
        names,
        images,
        selector(&spec["selector"]),
    ]
}

fn controller_revision_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let owner = list(&object["metadata"]["ownerReferences"]).iter().find(|owner| flag(&owner["controller"]));
    let controller = owner.map(|owner| {
        let group = text(&owner["apiVersion"]).split_once('/').map_or("", |(group, _)| group);
        let kind = text(&owner["kind"]).to_lowercase();
        let kind = if group.is_empty() { kind } else { format!("{kind}.{group}") };
        format!("{kind}/{}", text(&owner["name"]))
    });
    vec![
        name(object),
        or(&controller.unwrap_or_default(), NONE),
        count(&object["revision"]),
        age(object, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_bare_deployment_is_filled_in() {
        let mut object = json!({"spec": {"selector": {}, "template": {"spec": {"containers": []}}}});
        default_deployment(&mut object);
        let spec = &object["spec"];
        assert_eq!(spec["replicas"], 1);
        assert_eq!(spec["revisionHistoryLimit"], 10);
        assert_eq!(spec["progressDeadlineSeconds"], 600);
        assert_eq!(
            spec["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
        );
        assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
        assert!(spec["template"]["spec"]["enableServiceLinks"].is_null(), "only pods get this one");
        let mut recreate = json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}}});
        default_deployment(&mut recreate);
        assert_eq!(
            (&recreate["spec"]["replicas"], &recreate["spec"]["strategy"]),
            (&json!(0), &json!({"type": "Recreate"}))
        );
    }

    #[test]
    fn tables() {
        let object = json!({
            "metadata": {"name": "web", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
                     "template": {"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}}},
            "status": {"readyReplicas": 2, "updatedReplicas": 3, "replicas": 3},
        });
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        assert_eq!(
            json!(deployment_cells(&object, now)),
            json!(["web", "2/3", 3, 0, "60m", "a,b", "x,y", "app=web"])
        );
        assert_eq!(
            json!(replica_set_cells(&object, now)),
            json!(["web", 3, 3, 2, "60m", "a,b", "x,y", "app=web"])
        );
    }
}
