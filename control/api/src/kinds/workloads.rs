//! Kinds that keep pods running: deployments, replica sets, stateful sets, daemon sets, replication controllers and
//! the revisions of their templates.

mod validate; // checks

use jiff::Timestamp;
use serde_json::Value;

use super::pod::default_template;
use super::print::{AGE, NAME, NONE, age, col, containers, count, labels, name, number, or, selector, wide};
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

/// Jobs.
pub static JOB: KindOps = KindOps {
    default: default_job,
    prepare_create: prepare_job,
    generation: true,
    fields: &["status.successful"],
    validate_create: validate::job,
    validate_update: validate::job_update,
    printer: Some(Printer {
        columns: &[
            NAME,
            col("Status"),
            col("Completions"),
            col("Duration"),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        cells: job_cells,
    }),
    orphan_by_default: true,
    ..KindOps::BASE
};

/// Cron jobs.
pub static CRON_JOB: KindOps = KindOps {
    default: default_cron_job,
    generation: true,
    validate_create: validate::cron_job,
    validate_update: |new, _| validate::cron_job(new),
    printer: Some(Printer {
        columns: &[
            NAME,
            col("Schedule"),
            col("Timezone"),
            super::print::boolean("Suspend"),
            number("Active"),
            col("Last Schedule"),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        cells: cron_job_cells,
    }),
    ..KindOps::BASE
};

fn default_job(object: &mut Value) {
    let from_template = object["spec"]["template"]["metadata"]["labels"].clone();
    with(object, "spec", |spec| {
        if spec["completions"].is_null() && spec["parallelism"].is_null() {
            default(spec, "completions", 1);
        }
        default(spec, "parallelism", 1);
        let per_index = !spec["backoffLimitPerIndex"].is_null();
        default(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
        default(spec, "completionMode", "NonIndexed");
        default(spec, "suspend", false);
        default(spec, "manualSelector", false);
        let failing = is_set(&spec["podFailurePolicy"]);
        default(spec, "podReplacementPolicy", if failing { "Failed" } else { "TerminatingOrFailed" });
        template(spec);
    });
    if is_set(&from_template) && !is_set(&object["metadata"]["labels"]) {
        with(object, "metadata", |meta| meta["labels"] = from_template);
    }
}

/// A job selects its pods by its own uid, unless it says that it knows better.
fn prepare_job(object: &mut Value) {
    if flag(&object["spec"]["manualSelector"]) {
        return;
    }
    let (uid, job) = (object["metadata"]["uid"].clone(), object["metadata"]["name"].clone());
    with(object, "spec", |spec| {
        if let Some(selector) = made(spec, "selector")
            && let Some(wanted) = made(selector, "matchLabels")
        {
            wanted["batch.kubernetes.io/controller-uid"] = uid.clone();
        }
        let labels = made(spec, "template")
            .and_then(|template| made(template, "metadata"))
            .and_then(|metadata| made(metadata, "labels"));
        if let Some(labels) = labels {
            for (key, value) in [("controller-uid", &uid), ("job-name", &job)] {
                default(labels, key, value.clone());
                default(labels, &format!("batch.kubernetes.io/{key}"), value.clone());
            }
        }
    });
}

fn default_cron_job(object: &mut Value) {
    with(object, "spec", |spec| {
        default_zero(spec, "concurrencyPolicy", "Allow");
        default(spec, "suspend", false);
        default(spec, "successfulJobsHistoryLimit", 3);
        default(spec, "failedJobsHistoryLimit", 1);
        with(spec, "jobTemplate", |job| with(job, "spec", template));
    });
}

fn job_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let [names, images] = containers(&spec["template"]["spec"]);
    let succeeded = int(&status["succeeded"]);
    let completions = match (spec["completions"].as_i64(), int(&spec["parallelism"])) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let took = match (time_of(&status["startTime"]), time_of(&status["completionTime"])) {
        (None, _) => String::new(),
        (Some(start), end) => {
            let seconds = coracle_apimachinery::time::seconds_between(start, end.unwrap_or(now));
            coracle_apimachinery::duration::human(seconds)
        }
    };
    let holds =
        |kind: &str| list(&status["conditions"]).iter().any(|c| c["type"] == kind && c["status"] == "True");
    let state = ["Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet"]
        .into_iter()
        .find(|k| holds(k));
    let state = match state {
        _ if object["metadata"]["deletionTimestamp"].is_string() => "Terminating",
        Some(state) => state,
        None => "Running",
    };
    vec![
        name(object),
        state.into(),
        completions.into(),
        took.into(),
        age(object, now),
        names,
        images,
        selector(&spec["selector"]),
    ]
}

fn time_of(value: &Value) -> Option<Timestamp> {
    value.as_str().and_then(coracle_apimachinery::time::parse)
}

fn cron_job_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let job = &spec["jobTemplate"]["spec"];
    let [names, images] = containers(&job["template"]["spec"]);
    let last = match &status["lastScheduleTime"] {
        Value::Null => NONE.to_owned(),
        at => super::print::since(at, now),
    };
    vec![
        name(object),
        text(&spec["schedule"]).into(),
        super::print::or_none(&spec["timeZone"]),
        (if flag(&spec["suspend"]) { "True" } else { "False" }).into(),
        list(&status["active"]).len().into(),
        last.into(),
        age(object, now),
        names,
        images,
        selector(&job["selector"]),
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

    #[test]
    fn a_job_selects_its_own_pods() {
        let mut object = json!({"metadata": {"uid": "u", "name": "j"}, "spec": {"template": {}}});
        prepare_job(&mut object);
        assert_eq!(object["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"], "u");
        assert_eq!(object["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
    }
}
