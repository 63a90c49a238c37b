//! Checks that several kinds share, and those of the smaller kinds.

use coracle_apimachinery::field::FieldError;
use coracle_apimachinery::{Path, names};
use serde_json::Value;

use super::tree::{entries, flag, int, is_set, list, text};

/// Most bytes that the data of a config map or secret may have.
const MOST_DATA: usize = 1024 * 1024;

/// What is wrong with an object, as it is found.
#[derive(Default)]
pub struct Errors(pub Vec<FieldError>);

impl Errors {
    /// Notes one.
    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// Each complaint of a check of a text.
    pub fn invalid(&mut self, path: &Path, value: &str, complaints: Vec<String>) {
        self.0.extend(complaints.into_iter().map(|why| FieldError::invalid(path, value, why)));
    }

    /// A text that must be there, and says whether it is.
    pub fn required(&mut self, path: &Path, value: &Value) -> bool {
        let there = is_set(value);
        if !there {
            self.0.push(FieldError::required(path, ""));
        }
        there
    }

    /// A text out of a closed set.
    pub fn one_of(&mut self, path: &Path, value: &Value, supported: &[&str]) {
        let value = text(value);
        if !supported.contains(&value) {
            self.0.push(FieldError::not_supported(path, value, supported));
        }
    }

    /// A number that may not be below zero.
    pub fn not_negative(&mut self, path: &Path, value: &Value) {
        if int(value) < 0 {
            let why = "must be greater than or equal to 0";
            self.0.push(FieldError::invalid(path, int(value), why));
        }
    }

    /// A field that may not change.
    pub fn immutable(&mut self, path: &Path, new: &Value, old: &Value) {
        if new != old {
            self.0.push(FieldError::invalid(path, new.clone(), "field is immutable"));
        }
    }
}

/// Labels of something that is not an object of its own.
pub fn labels(errors: &mut Errors, path: &Path, labels: &Value) {
    for (key, value) in entries(labels) {
        errors.invalid(path, key, names::qualified_name(key));
        errors.invalid(path, text(value), names::label_value(text(value)));
    }
}

/// A structured label selector.
pub fn selector(errors: &mut Errors, path: &Path, selector: &Value) {
    labels(errors, &path.child("matchLabels"), &selector["matchLabels"]);
    for (index, requirement) in list(&selector["matchExpressions"]).iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = path.child("values");
        match text(&requirement["operator"]) {
            "In" | "NotIn" if !is_set(&requirement["values"]) => errors
                .push(FieldError::required(&values, "must be specified when `operator` is 'In' or 'NotIn'")),
            "Exists" | "DoesNotExist" if is_set(&requirement["values"]) => {
                errors.push(FieldError::forbidden(
                    &values,
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                ))
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                let why = "not a valid selector operator";
                errors.push(FieldError::invalid(&path.child("operator"), other, why));
            }
        }
        let key = text(&requirement["key"]);
        errors.invalid(&path.child("key"), key, names::qualified_name(key));
        for (at, value) in list(&requirement["values"]).iter().enumerate() {
            errors.invalid(&values.index(at), text(value), names::label_value(text(value)));
        }
    }
}

/// A config map.
pub fn config_map(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let mut total = 0;
    for (field, other) in [("data", "binaryData"), ("binaryData", "data")] {
        for (key, value) in entries(&object[field]) {
            let path = Path::new(field).key(key);
            errors.invalid(&path, key, names::config_map_key(key));
            if field == "data" && !object[other][key].is_null() {
                let why = format!("duplicate of key present in {other}");
                errors.push(FieldError::invalid(&path, key, why));
            }
            total += if field == "data" { text(value).len() } else { decoded_length(text(value)) };
        }
    }
    if total > MOST_DATA {
        errors.push(FieldError::too_long(&Path::new(""), MOST_DATA));
    }
    errors.0
}

fn decoded_length(base64: &str) -> usize {
    let padding = base64.bytes().rev().take_while(|byte| *byte == b'=').count();
    (base64.len() / 4 * 3).saturating_sub(padding)
}

/// Data that has been declared immutable stays, and stays declared so.
fn frozen(errors: &mut Errors, new: &Value, old: &Value, fields: &[&str]) {
    if !flag(&old["immutable"]) {
        return;
    }
    let why = "field is immutable when `immutable` is set";
    if !flag(&new["immutable"]) {
        errors.push(FieldError::forbidden(&Path::new("immutable"), why));
    }
    for field in fields {
        let same = new[*field] == old[*field] || (!is_set(&new[*field]) && !is_set(&old[*field]));
        if !same {
            errors.push(FieldError::forbidden(&Path::new(field), why));
        }
    }
}

/// An update of a config map.
pub fn config_map_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    frozen(&mut errors, new, old, &["data", "binaryData"]);
    errors.0.extend(config_map(new));
    errors.0
}

/// A secret: keys, size, and what its type asks for.
pub fn secret(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let data = Path::new("data");
    let mut total = 0;
    for (key, value) in entries(&object["data"]) {
        errors.invalid(&data.key(key), key, names::config_map_key(key));
        total += decoded_length(text(value));
    }
    if total > MOST_DATA {
        errors.push(FieldError::too_long(&data, MOST_DATA));
    }
    let mut needs = |key: &str| {
        if object["data"][key].is_null() {
            errors.push(FieldError::required(&data.key(key), ""));
        }
    };
    match text(&object["type"]) {
        "kubernetes.io/service-account-token" => {
            let account = &object["metadata"]["annotations"]["kubernetes.io/service-account.name"];
            if !is_set(account) {
                let path =
                    Path::new("metadata").child("annotations").key("kubernetes.io/service-account.name");
                errors.push(FieldError::required(&path, ""));
            }
        }
        "kubernetes.io/tls" => ["tls.crt", "tls.key"].into_iter().for_each(&mut needs),
        "kubernetes.io/dockerconfigjson" => {
            needs(".dockerconfigjson");
            json_value(&mut errors, object, ".dockerconfigjson");
        }
        "kubernetes.io/dockercfg" => {
            needs(".dockercfg");
            json_value(&mut errors, object, ".dockercfg");
        }
        "kubernetes.io/basic-auth"
            if object["data"]["username"].is_null() && object["data"]["password"].is_null() =>
        {
            needs("username");
            needs("password");
        }
        "kubernetes.io/ssh-auth" => needs("ssh-privatekey"),
        _ => {}
    }
    errors.0
}

/// A value that must be JSON; what it holds is not shown.
fn json_value(errors: &mut Errors, object: &Value, key: &str) {
    use base64::Engine;
    let Some(encoded) = object["data"][key].as_str() else { return };
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&decoded) {
        let path = Path::new("data").key(key);
        errors.push(FieldError::invalid(&path, "<secret contents redacted>", error.to_string()));
    }
}

/// An update of a secret.
pub fn secret_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    errors.immutable(&Path::new("type"), &new["type"], &old["type"]);
    frozen(&mut errors, new, old, &["data"]);
    errors.0.extend(secret(new));
    errors.0
}

/// A node.
pub fn node(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let spec = Path::new("spec");
    for (index, block) in list(&object["spec"]["podCIDRs"]).iter().enumerate() {
        errors.invalid(&spec.child("podCIDRs").index(index), text(block), names::cidr(text(block)));
    }
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (index, taint) in list(&object["spec"]["taints"]).iter().enumerate() {
        let path = spec.child("taints").index(index);
        let (key, effect) = (text(&taint["key"]), text(&taint["effect"]));
        errors.invalid(&path.child("key"), key, names::qualified_name(key));
        let value = text(&taint["value"]);
        errors.invalid(&path.child("value"), value, names::label_value(value));
        errors.one_of(
            &path.child("effect"),
            &taint["effect"],
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        );
        if seen.contains(&(key, effect)) {
            let mut error = FieldError::duplicate(&path, taint.clone());
            "taints must be unique by key and effect pair".clone_into(&mut error.detail);
            errors.push(error);
        }
        seen.push((key, effect));
    }
    errors.0
}

/// An update of a node.
pub fn node_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors(node(new));
    let (spec, was) = (&new["spec"], &old["spec"]);
    for (field, why) in [
        ("podCIDRs", "node updates may not change podCIDR except from \"\" to valid"),
        ("providerID", "node updates may not change providerID except from \"\" to valid"),
    ] {
        if is_set(&was[field]) && spec[field] != was[field] {
            errors.push(FieldError::forbidden(&Path::new("spec").child(field), why));
        }
    }
    errors.0
}

/// A lease.
pub fn lease(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (path, spec) = (Path::new("spec"), &object["spec"]);
    if spec["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds <= 0) {
        let value = int(&spec["leaseDurationSeconds"]);
        errors.push(FieldError::invalid(
            &path.child("leaseDurationSeconds"),
            value,
            "must be greater than 0",
        ));
    }
    if spec["leaseTransitions"].as_i64().is_some_and(|count| count < 0) {
        let value = int(&spec["leaseTransitions"]);
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&path.child("leaseTransitions"), value, why));
    }
    errors.0
}

/// A number, or a percentage that is not negative.
pub fn count_or_percent(errors: &mut Errors, path: &Path, value: &Value) {
    match value {
        Value::Null => {}
        Value::String(text) => errors.invalid(path, text, names::percent(text)),
        number => errors.not_negative(path, number),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// Errors as `field: message`, one per line.
    pub fn shown(errors: &[FieldError]) -> String {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn config_maps() {
        assert_eq!(shown(&config_map(&json!({"data": {"a.b": "x"}, "binaryData": {"c": "eA=="}}))), "");
        assert_eq!(
            shown(&config_map(&json!({"data": {"a": "x"}, "binaryData": {"a": "eA=="}}))),
            "data[a]: Invalid value: \"a\": duplicate of key present in binaryData"
        );
        assert!(shown(&config_map(&json!({"data": {"a/b": "x"}}))).starts_with(
            "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters"
        ));
        let big = json!({"data": {"a": "x".repeat(MOST_DATA + 1)}});
        assert_eq!(shown(&config_map(&big)), ": Too long: may not be more than 1048576 bytes");
        let frozen = json!({"immutable": true, "data": {"a": "x"}});
        assert_eq!(
            shown(&config_map_update(&json!({"data": {"a": "y"}}), &frozen)),
            "immutable: Forbidden: field is immutable when `immutable` is set\n\
             data: Forbidden: field is immutable when `immutable` is set"
        );
    }

    #[test]
    fn secrets() {
        let check = |object: Value, expected: &str| assert_eq!(shown(&secret(&object)), expected);
        check(json!({"type": "Opaque", "data": {"a": "eA=="}}), "");
        check(json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}), "data[tls.key]: Required value");
        check(
            json!({"type": "kubernetes.io/service-account-token", "metadata": {}}),
            "metadata.annotations[kubernetes.io/service-account.name]: Required value",
        );
        assert_eq!(
            shown(&secret_update(&json!({"type": "a"}), &json!({"type": "b"}))),
            "type: Invalid value: \"a\": field is immutable"
        );
    }

    #[test]
    fn nodes_and_leases() {
        let taint = json!({"key": "k", "effect": "NoSchedule"});
        assert_eq!(shown(&node(&json!({"spec": {"taints": [taint]}}))), "");
        assert_eq!(
            shown(&node(&json!({"spec": {"taints": [{"key": "k", "effect": "Never"}]}}))),
            "spec.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \
             \"PreferNoSchedule\", \"NoExecute\""
        );
        assert_eq!(
            shown(&lease(&json!({"spec": {"leaseDurationSeconds": 0}}))),
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"
        );
        let named = json!({"spec": {"providerID": "a"}});
        assert_eq!(shown(&node_update(&named, &json!({"spec": {}}))), "");
        assert!(shown(&node_update(&json!({"spec": {}}), &named)).starts_with("spec.providerID: Forbidden"));
    }

    #[test]
    fn selectors() {
        let check = |object: Value, expected: &str| {
            let mut errors = Errors::default();
            selector(&mut errors, &Path::new("spec.selector"), &object);
            assert_eq!(shown(&errors.0), expected);
        };
        check(json!({"matchLabels": {"a": "b"}}), "");
        check(
            json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
            "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or \
             'NotIn'",
        );
        check(
            json!({"matchExpressions": [{"key": "a", "operator": "Like"}]}),
            "spec.selector.matchExpressions[0].operator: Invalid value: \"Like\": not a valid selector operator",
        );
    }
}
