//! Checks of a pod's spec as a whole.

use coracle_apimachinery::{FieldError, Path, names};
use serde_json::Value;

use super::{containers, security, volumes};
use crate::kinds::tree::{entries, int, is_set, list, text};
use crate::kinds::validate::{self, Errors};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const MOST_NAME_SERVERS: usize = 3;
const MOST_SEARCH_PATHS: usize = 32;

/// A pod.
pub fn pod(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    spec(&mut errors, &Path::new("spec"), &object["spec"]);
    errors.0
}

/// A pod template that is an object of its own.
pub fn pod_template(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    template(&mut errors, &Path::new("template"), &object["template"]);
    errors.0
}

/// A pod template in another object.
pub fn template(errors: &mut Errors, path: &Path, template: &Value) {
    let meta = path.child("metadata");
    validate::labels(errors, &meta.child("labels"), &template["metadata"]["labels"]);
    for (key, _) in entries(&template["metadata"]["annotations"]) {
        errors.invalid(&meta.child("annotations"), key, names::qualified_name(&key.to_lowercase()));
    }
    spec(errors, &path.child("spec"), &template["spec"]);
}

fn spec(errors: &mut Errors, path: &Path, spec: &Value) {
    volumes::all(errors, &path.child("volumes"), &spec["volumes"]);
    containers::all(errors, path, spec);
    let policies = ["Always", "OnFailure", "Never"];
    needed_one_of(errors, &path.child("restartPolicy"), &spec["restartPolicy"], &policies);
    dns(errors, path, spec);
    if let Some(seconds) = spec["terminationGracePeriodSeconds"].as_i64().filter(|seconds| *seconds < 0) {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&path.child("terminationGracePeriodSeconds"), seconds, why));
    }
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64()
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let why = names::in_range(1, i64::from(i32::MAX));
        errors.push(FieldError::invalid(&path.child("activeDeadlineSeconds"), seconds, why));
    }
    for (field, check) in [
        ("serviceAccountName", names::dns1123_subdomain as fn(&str) -> Vec<String>),
        ("nodeName", names::dns1123_subdomain),
        ("hostname", names::dns1123_label),
        ("subdomain", names::dns1123_label),
        ("priorityClassName", names::dns1123_subdomain),
        ("runtimeClassName", names::dns1123_subdomain),
    ] {
        if is_set(&spec[field]) {
            errors.invalid(&path.child(field), text(&spec[field]), check(text(&spec[field])));
        }
    }
    validate::labels(errors, &path.child("nodeSelector"), &spec["nodeSelector"]);
    for (index, toleration) in list(&spec["tolerations"]).iter().enumerate() {
        check_toleration(errors, &path.child("tolerations").index(index), toleration);
    }
    for (index, alias) in list(&spec["hostAliases"]).iter().enumerate() {
        let path = path.child("hostAliases").index(index);
        errors.invalid(&path.child("ip"), text(&alias["ip"]), names::ip(text(&alias["ip"])));
        for (at, name) in list(&alias["hostnames"]).iter().enumerate() {
            errors.invalid(
                &path.child("hostnames").index(at),
                text(name),
                names::dns1123_subdomain(text(name)),
            );
        }
    }
    for (index, gate) in list(&spec["readinessGates"]).iter().enumerate() {
        let path = path.child("readinessGates").index(index).child("conditionType");
        errors.invalid(
            &path,
            text(&gate["conditionType"]),
            names::qualified_name(text(&gate["conditionType"])),
        );
    }
    spread(errors, &path.child("topologySpreadConstraints"), &spec["topologySpreadConstraints"]);
    affinity(errors, &path.child("affinity"), &spec["affinity"]);
    security::context(errors, &path.child("securityContext"), spec);
    if is_set(&spec["schedulingGates"]) && is_set(&spec["nodeName"]) {
        let why = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden(&path.child("nodeName"), why));
    }
}

/// A text out of a closed set that must be there.
pub fn needed_one_of(errors: &mut Errors, path: &Path, value: &Value, supported: &[&str]) {
    if errors.required(path, value) {
        errors.one_of(path, value, supported);
    }
}

fn dns(errors: &mut Errors, path: &Path, spec: &Value) {
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    needed_one_of(errors, &path.child("dnsPolicy"), &spec["dnsPolicy"], &policies);
    let (path, config) = (path.child("dnsConfig"), &spec["dnsConfig"]);
    let servers = list(&config["nameservers"]);
    if text(&spec["dnsPolicy"]) == "None" {
        if config.is_null() {
            let why = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(FieldError::required(&path, why));
        } else if servers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(FieldError::required(&path.child("nameservers"), why));
        }
    }
    if servers.len() > MOST_NAME_SERVERS {
        let why = format!("must not have more than {MOST_NAME_SERVERS} nameservers");
        errors.push(FieldError::invalid(&path.child("nameservers"), config["nameservers"].clone(), why));
    }
    for (index, server) in servers.iter().enumerate() {
        errors.invalid(&path.child("nameservers").index(index), text(server), names::ip(text(server)));
    }
    if list(&config["searches"]).len() > MOST_SEARCH_PATHS {
        let why = format!("must not have more than {MOST_SEARCH_PATHS} search paths");
        errors.push(FieldError::invalid(&path.child("searches"), config["searches"].clone(), why));
    }
}

fn check_toleration(errors: &mut Errors, path: &Path, toleration: &Value) {
    let key = text(&toleration["key"]);
    let operator = text(&toleration["operator"]);
    if key.is_empty() {
        if operator != "Exists" {
            let why =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(&path.child("operator"), operator, why));
        }
    } else {
        errors.invalid(&path.child("key"), key, names::qualified_name(key));
    }
    if toleration["tolerationSeconds"].is_i64() && toleration["effect"] != "NoExecute" {
        let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(FieldError::invalid(&path.child("effect"), text(&toleration["effect"]), why));
    }
    match operator {
        "" | "Equal" => {
            let value = text(&toleration["value"]);
            let complaints = names::label_value(value);
            if !complaints.is_empty() {
                errors.push(FieldError::invalid(&path.child("operator"), value, complaints.join(";")));
            }
        }
        "Exists" => {
            if is_set(&toleration["value"]) {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(&path.child("operator"), toleration.clone(), why));
            }
        }
        other => errors.push(FieldError::not_supported(&path.child("operator"), other, &["Equal", "Exists"])),
    }
    if is_set(&toleration["effect"]) {
        errors.one_of(&path.child("effect"), &toleration["effect"], &EFFECTS);
    }
}

fn spread(errors: &mut Errors, path: &Path, constraints: &Value) {
    for (index, constraint) in list(constraints).iter().enumerate() {
        let path = path.index(index);
        if int(&constraint["maxSkew"]) <= 0 {
            let skew = int(&constraint["maxSkew"]);
            errors.push(FieldError::invalid(&path.child("maxSkew"), skew, "must be greater than zero"));
        }
        let key = text(&constraint["topologyKey"]);
        if key.is_empty() {
            errors.push(FieldError::required(&path.child("topologyKey"), "can not be empty"));
        } else {
            errors.invalid(&path.child("topologyKey"), key, names::qualified_name(key));
        }
        let ways = ["DoNotSchedule", "ScheduleAnyway"];
        errors.one_of(&path.child("whenUnsatisfiable"), &constraint["whenUnsatisfiable"], &ways);
        validate::selector(errors, &path.child("labelSelector"), &constraint["labelSelector"]);
    }
}

fn affinity(errors: &mut Errors, path: &Path, affinity: &Value) {
    const NEEDED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const LIKED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let node = &affinity["nodeAffinity"];
    let node_path = path.child("nodeAffinity");
    if node[NEEDED].is_object() {
        let path = node_path.child(NEEDED).child("nodeSelectorTerms");
        let terms = list(&node[NEEDED]["nodeSelectorTerms"]);
        if terms.is_empty() {
            errors.push(FieldError::required(&path, "must have at least one node selector term"));
        }
        for (index, term) in terms.iter().enumerate() {
            node_term(errors, &path.index(index), term);
        }
    }
    for (index, liked) in list(&node[LIKED]).iter().enumerate() {
        let path = node_path.child(LIKED).index(index);
        weight(errors, &path, liked);
        node_term(errors, &path.child("preference"), &liked["preference"]);
    }
    for field in ["podAffinity", "podAntiAffinity"] {
        let path = path.child(field);
        for (index, term) in list(&affinity[field][NEEDED]).iter().enumerate() {
            pod_term(errors, &path.child(NEEDED).index(index), term);
        }
        for (index, liked) in list(&affinity[field][LIKED]).iter().enumerate() {
            let path = path.child(LIKED).index(index);
            weight(errors, &path, liked);
            pod_term(errors, &path.child("podAffinityTerm"), &liked["podAffinityTerm"]);
        }
    }
}

fn weight(errors: &mut Errors, path: &Path, liked: &Value) {
    let weight = int(&liked["weight"]);
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

fn node_term(errors: &mut Errors, path: &Path, term: &Value) {
    for (index, requirement) in list(&term["matchExpressions"]).iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = list(&requirement["values"]);
        match text(&requirement["operator"]) {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                &path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                &path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "Gt" | "Lt" if values.len() != 1 => errors.push(FieldError::required(
                &path.child("values"),
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => {
                errors.push(FieldError::invalid(
                    &path.child("operator"),
                    other,
                    "not a valid selector operator",
                ));
            }
        }
        let key = text(&requirement["key"]);
        errors.invalid(&path.child("key"), key, names::qualified_name(key));
    }
}

fn pod_term(errors: &mut Errors, path: &Path, term: &Value) {
    validate::selector(errors, &path.child("labelSelector"), &term["labelSelector"]);
    let key = text(&term["topologyKey"]);
    if key.is_empty() {
        errors.push(FieldError::required(&path.child("topologyKey"), "can not be empty"));
    } else {
        errors.invalid(&path.child("topologyKey"), key, names::qualified_name(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::validate::tests::shown;
    use serde_json::json;

    /// A pod with this spec (a good container is added when there is none), after defaulting.
    fn check(spec: Value, expected: &str) {
        let mut object = json!({"spec": spec});
        crate::kinds::tree::default(&mut object["spec"], "containers", json!([{"name": "a", "image": "x"}]));
        super::super::defaults::pod(&mut object);
        assert_eq!(shown(&pod(&object)), expected, "{object}");
    }

    #[test]
    fn pods() {
        check(json!({}), "");
        check(json!({"containers": []}), "spec.containers: Required value");
        check(
            json!({"restartPolicy": "Sometimes"}),
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        );
        check(
            json!({"dnsPolicy": "None"}),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        );
        check(json!({"terminationGracePeriodSeconds": -1}), "");
        check(
            json!({"activeDeadlineSeconds": 0}),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        );
        check(
            json!({"tolerations": [{"operator": "Equal"}]}),
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which \
             means \"match all values and all keys\"",
        );
        check(
            json!({"tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 5}]}),
            "spec.tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set",
        );
        check(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}}),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required \
             value: must have at least one node selector term",
        );
        check(
            json!({"schedulingGates": [{"name": "a"}], "nodeName": "n"}),
            "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
        );
        check(
            json!({"securityContext": {"runAsUser": -1}}),
            "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        );
    }
}
