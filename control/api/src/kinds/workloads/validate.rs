//! Checks of kinds that keep pods running.

use std::collections::BTreeMap;

use coracle_apimachinery::{FieldError, LabelSelector, Path};
use serde_json::Value;

use crate::kinds::pod;
use crate::kinds::tree::{entries, int, is_set, text};
use crate::kinds::validate::{self, Errors};

/// What such a kind is called in sentences, and which restart policies its pods may have.
struct Rules {
    empty_selector: &'static str,
    restart_policies: &'static [&'static str],
}

const DEPLOYMENT: Rules =
    Rules { empty_selector: "empty selector is invalid for deployment", restart_policies: &["Always"] };
const STATEFUL_SET: Rules =
    Rules { empty_selector: "empty selector is invalid for statefulset", restart_policies: &["Always"] };
const DAEMON_SET: Rules =
    Rules { empty_selector: "empty selector is invalid for daemonset", restart_policies: &["Always"] };

/// A deployment.
pub fn deployment(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (path, spec) = (Path::new("spec"), &object["spec"]);
    errors.not_negative(&path.child("replicas"), &spec["replicas"]);
    selector_and_template(&mut errors, &path, spec, &DEPLOYMENT);
    strategy(&mut errors, &path.child("strategy"), &spec["strategy"]);
    for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        errors.not_negative(&path.child(field), &spec[field]);
    }
    if let Some(deadline) = spec["progressDeadlineSeconds"].as_i64()
        && deadline <= int(&spec["minReadySeconds"])
    {
        let why = "must be greater than minReadySeconds";
        errors.push(FieldError::invalid(&path.child("progressDeadlineSeconds"), deadline, why));
    }
    errors.0
}

/// A replica set.
pub fn replica_set(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (path, spec) = (Path::new("spec"), &object["spec"]);
    errors.not_negative(&path.child("replicas"), &spec["replicas"]);
    errors.not_negative(&path.child("minReadySeconds"), &spec["minReadySeconds"]);
    selector_and_template(&mut errors, &path, spec, &DEPLOYMENT);
    errors.0
}

/// A stateful set.
pub fn stateful_set(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (path, spec) = (Path::new("spec"), &object["spec"]);
    errors.not_negative(&path.child("replicas"), &spec["replicas"]);
    errors.not_negative(&path.child("minReadySeconds"), &spec["minReadySeconds"]);
    errors.one_of(
        &path.child("podManagementPolicy"),
        &spec["podManagementPolicy"],
        &["OrderedReady", "Parallel"],
    );
    let kind = path.child("updateStrategy").child("type");
    errors.one_of(&kind, &spec["updateStrategy"]["type"], &["OnDelete", "RollingUpdate"]);
    selector_and_template(&mut errors, &path, spec, &STATEFUL_SET);
    errors.0
}

/// A daemon set.
pub fn daemon_set(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (path, spec) = (Path::new("spec"), &object["spec"]);
    errors.not_negative(&path.child("minReadySeconds"), &spec["minReadySeconds"]);
    let kind = path.child("updateStrategy").child("type");
    errors.one_of(&kind, &spec["updateStrategy"]["type"], &["OnDelete", "RollingUpdate"]);
    selector_and_template(&mut errors, &path, spec, &DAEMON_SET);
    errors.0
}

/// A job.
pub fn job(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    job_spec(&mut errors, &Path::new("spec"), &object["spec"]);
    if !is_set(&object["spec"]["selector"]) {
        errors.push(FieldError::required(&Path::new("spec").child("selector"), ""));
    }
    errors.0
}

/// A cron job.
pub fn cron_job(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (path, spec) = (Path::new("spec"), &object["spec"]);
    let schedule = path.child("schedule");
    if errors.required(&schedule, &spec["schedule"]) {
        let fields = text(&spec["schedule"]).split_whitespace().count();
        if fields != 5 && !text(&spec["schedule"]).starts_with('@') {
            let why = format!("expected exactly 5 fields, found {fields}: [{}]", text(&spec["schedule"]));
            errors.push(FieldError::invalid(&schedule, text(&spec["schedule"]), why));
        }
    }
    let policies = ["Allow", "Forbid", "Replace"];
    errors.one_of(&path.child("concurrencyPolicy"), &spec["concurrencyPolicy"], &policies);
    for field in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        errors.not_negative(&path.child(field), &spec[field]);
    }
    job_spec(&mut errors, &path.child("jobTemplate").child("spec"), &spec["jobTemplate"]["spec"]);
    errors.0
}

fn job_spec(errors: &mut Errors, path: &Path, spec: &Value) {
    for field in
        ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"]
    {
        errors.not_negative(&path.child(field), &spec[field]);
    }
    let path = path.child("template");
    pod::validate_template(errors, &path, &spec["template"]);
    let policy = text(&spec["template"]["spec"]["restartPolicy"]);
    if !matches!(policy, "OnFailure" | "Never") {
        let path = path.child("spec").child("restartPolicy");
        let why = r#"valid values: "OnFailure", "Never""#;
        if policy == "Always" {
            errors.push(FieldError::required(&path, why));
        }
    }
}

fn selector_and_template(errors: &mut Errors, path: &Path, spec: &Value, rules: &Rules) {
    let (at, selector) = (path.child("selector"), &spec["selector"]);
    let template = &spec["template"];
    if selector.is_null() {
        errors.push(FieldError::required(&at, ""));
    } else {
        validate::selector(errors, &at, selector);
        if !is_set(&selector["matchLabels"]) && !is_set(&selector["matchExpressions"]) {
            errors.push(FieldError::invalid(&at, selector.clone(), rules.empty_selector));
        }
    }
    let labels = &template["metadata"]["labels"];
    let compiled =
        serde_json::from_value::<LabelSelector>(selector.clone()).ok().and_then(|s| s.compile().ok());
    if let Some(compiled) = compiled.filter(|compiled| !compiled.is_empty()) {
        let map: BTreeMap<_, _> =
            entries(labels).map(|(key, value)| (key.to_owned(), text(value).to_owned())).collect();
        if !compiled.matches_map(&map) {
            let path = path.child("template").child("metadata").child("labels");
            let why = "`selector` does not match template `labels`";
            errors.push(FieldError::invalid(&path, labels.clone(), why));
        }
    }
    let path = path.child("template");
    pod::validate_template(errors, &path, template);
    let path = path.child("spec");
    let policy = &template["spec"]["restartPolicy"];
    if is_set(policy) {
        errors.one_of(&path.child("restartPolicy"), policy, rules.restart_policies);
    }
    if is_set(&template["spec"]["activeDeadlineSeconds"]) {
        let why = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.push(FieldError::forbidden(&path.child("activeDeadlineSeconds"), why));
    }
}

fn strategy(errors: &mut Errors, path: &Path, strategy: &Value) {
    let rolling = &strategy["rollingUpdate"];
    let at = path.child("rollingUpdate");
    match text(&strategy["type"]) {
        "Recreate" => {
            if !rolling.is_null() {
                let why = "may not be specified when strategy `type` is 'Recreate'";
                errors.push(FieldError::forbidden(&at, why));
            }
        }
        "RollingUpdate" => {
            for field in ["maxUnavailable", "maxSurge"] {
                validate::count_or_percent(errors, &at.child(field), &rolling[field]);
            }
            if is_zero(&rolling["maxUnavailable"]) && is_zero(&rolling["maxSurge"]) {
                let why = "may not be 0 when `maxSurge` is 0";
                errors.push(FieldError::invalid(
                    &at.child("maxUnavailable"),
                    rolling["maxUnavailable"].clone(),
                    why,
                ));
            }
            let share =
                text(&rolling["maxUnavailable"]).strip_suffix('%').and_then(|n| n.parse::<u32>().ok());
            if share.is_some_and(|share| share > 100) {
                let path = at.child("maxUnavailable");
                errors.push(FieldError::invalid(
                    &path,
                    text(&rolling["maxUnavailable"]),
                    "must not be greater than 100%",
                ));
            }
        }
        other => {
            errors.push(FieldError::not_supported(
                &path.child("type"),
                other,
                &["Recreate", "RollingUpdate"],
            ));
        }
    }
}

fn is_zero(value: &Value) -> bool {
    value.as_i64() == Some(0) || value.as_str() == Some("0%")
}

/// An update that may not change the selector.
fn fixed_selector(new: &Value, old: &Value, check: fn(&Value) -> Vec<FieldError>) -> Vec<FieldError> {
    let mut errors = Errors(check(new));
    errors.immutable(
        &Path::new("spec").child("selector"),
        &new["spec"]["selector"],
        &old["spec"]["selector"],
    );
    errors.0
}

/// An update of a deployment.
pub fn deployment_update(new: &Value, old: &Value) -> Vec<FieldError> {
    fixed_selector(new, old, deployment)
}

/// An update of a replica set.
pub fn replica_set_update(new: &Value, old: &Value) -> Vec<FieldError> {
    fixed_selector(new, old, replica_set)
}

/// An update of a daemon set.
pub fn daemon_set_update(new: &Value, old: &Value) -> Vec<FieldError> {
    fixed_selector(new, old, daemon_set)
}

/// An update of a stateful set: only some fields may change.
pub fn stateful_set_update(new: &Value, old: &Value) -> Vec<FieldError> {
    const MAY_CHANGE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let mut errors = stateful_set(new);
    let fixed = |object: &Value| {
        let mut spec = object["spec"].clone();
        MAY_CHANGE.iter().for_each(|field| drop(crate::kinds::tree::remove(&mut spec, field)));
        spec
    };
    if fixed(new) != fixed(old) {
        errors.push(FieldError::forbidden(
            &Path::new("spec"),
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ));
    }
    errors
}

/// An update of a job.
pub fn job_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors(job(new));
    for field in ["completions", "selector", "template", "completionMode"] {
        errors.immutable(&Path::new("spec").child(field), &new["spec"][field], &old["spec"][field]);
    }
    errors.0
}

/// A replication controller.
pub fn replication_controller(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (path, spec) = (Path::new("spec"), &object["spec"]);
    errors.not_negative(&path.child("replicas"), &spec["replicas"]);
    if errors.required(&path.child("selector"), &spec["selector"]) {
        let labels = &spec["template"]["metadata"]["labels"];
        if entries(&spec["selector"]).any(|(key, value)| &labels[key] != value) {
            let path = path.child("template").child("metadata").child("labels");
            let why = "`selector` does not match template `labels`";
            errors.push(FieldError::invalid(&path, labels.clone(), why));
        }
    }
    pod::validate_template(&mut errors, &path.child("template"), &spec["template"]);
    errors.0
}

/// A revision of a template.
pub fn controller_revision(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    errors.not_negative(&Path::new("revision"), &object["revision"]);
    if object["data"].is_null() {
        errors.push(FieldError::required(&Path::new("data"), "data is mandatory"));
    }
    errors.0
}

/// An update of a revision: its data stays.
pub fn controller_revision_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors(controller_revision(new));
    errors.immutable(&Path::new("data"), &new["data"], &old["data"]);
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::validate::tests::shown;
    use serde_json::json;

    /// A good deployment with changes to its spec, as it is after defaulting.
    fn with_changes(changes: Value) -> Value {
        let mut object = json!({"spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "x"}]}}}});
        for (field, value) in changes.as_object().unwrap() {
            object["spec"][field] = value.clone();
        }
        (crate::kinds::workloads::DEPLOYMENT.default)(&mut object);
        object
    }

    fn check(changes: Value, expected: &str) {
        assert_eq!(shown(&deployment(&with_changes(changes))), expected);
    }

    #[test]
    fn deployments() {
        check(json!({}), "");
        check(
            json!({"replicas": -1}),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        );
        check(json!({"selector": null}), "spec.selector: Required value");
        check(
            json!({"selector": {}}),
            "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
        );
        check(
            json!({"selector": {"matchLabels": {"app": "other"}}}),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template \
             `labels`",
        );
        check(
            json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}}),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        );
        check(
            json!({"strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 0}}}),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        );
        check(
            json!({"strategy": {"type": "Sudden"}}),
            "spec.strategy.type: Unsupported value: \"Sudden\": supported values: \"Recreate\", \"RollingUpdate\"",
        );
        check(
            json!({"minReadySeconds": 600}),
            "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
        );
        check(
            json!({"template": {"metadata": {"labels": {"app": "web"}}, "spec": {"restartPolicy": "Never",
                "containers": [{"name": "a", "image": "x"}]}}}),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        );
        check(
            json!({"template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}}),
            "spec.template.spec.containers: Required value",
        );
    }

    #[test]
    fn selectors_stay() {
        let other =
            with_changes(json!({"selector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}));
        assert_eq!(
            shown(&deployment_update(&other, &with_changes(json!({})))),
            "spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"Exists\"}]}: field \
             is immutable"
        );
    }

    #[test]
    fn revisions() {
        assert_eq!(
            shown(&controller_revision(&json!({"revision": 1}))),
            "data: Required value: data is mandatory"
        );
    }
}
