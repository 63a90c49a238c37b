//! Jobs and cron jobs.

use jiff::Timestamp;
use serde_json::Value;

use super::{CONTAINERS, IMAGES, SELECTOR, template, validate};
use crate::kinds::print::{
    AGE, NAME, NONE, age, boolean, col, containers, name, number, or_none, selector, since,
};
use crate::kinds::tree::{default, default_zero, flag, int, is_set, list, made, text, with};
use crate::kinds::{KindOps, Printer};

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
    validate_name: cron_job_name,
    printer: Some(Printer {
        columns: &[
            NAME,
            col("Schedule"),
            col("Timezone"),
            boolean("Suspend"),
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
        at => since(at, now),
    };
    vec![
        name(object),
        text(&spec["schedule"]).into(),
        or_none(&spec["timeZone"]),
        (if flag(&spec["suspend"]) { "True" } else { "False" }).into(),
        list(&status["active"]).len().into(),
        last.into(),
        age(object, now),
        names,
        images,
        selector(&job["selector"]),
    ]
}

/// The jobs it makes append eleven characters, and their pods take the name as a label.
fn cron_job_name(name: &str) -> Vec<String> {
    let mut errors = coracle_apimachinery::names::dns1123_subdomain(name);
    if name.len() > 52 {
        errors.push("must be no more than 52 characters".to_owned());
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_selects_its_own_pods() {
        let mut object = json!({"metadata": {"uid": "u", "name": "j"}, "spec": {"template": {}}});
        prepare_job(&mut object);
        assert_eq!(object["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"], "u");
        assert_eq!(object["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
    }

    #[test]
    fn jobs_are_filled_in() {
        let mut object = json!({"metadata": {}, "spec": {"template": {"metadata": {"labels": {"a": "b"}}}}});
        default_job(&mut object);
        assert_eq!(object["metadata"]["labels"], json!({"a": "b"}));
        let spec = &object["spec"];
        assert_eq!(
            (&spec["completions"], &spec["parallelism"], &spec["backoffLimit"]),
            (&json!(1), &json!(1), &json!(6))
        );
        assert_eq!(cron_job_name(&"a".repeat(53)), ["must be no more than 52 characters"]);
    }

    #[test]
    fn tables() {
        let object = json!({"metadata": {"name": "j"}, "spec": {"completions": 3, "parallelism": 1}, "status": {
            "succeeded": 1, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:00Z"}});
        let cells = job_cells(&object, Timestamp::UNIX_EPOCH);
        assert_eq!(json!(cells[..4]), json!(["j", "Running", "1/3", "60s"]));
        let object = json!({"metadata": {"name": "c"}, "spec": {"schedule": "* * * * *", "suspend": false}});
        let cells = cron_job_cells(&object, Timestamp::UNIX_EPOCH);
        assert_eq!(json!(cells[..6]), json!(["c", "* * * * *", "<none>", "False", 0, "<none>"]));
    }
}
