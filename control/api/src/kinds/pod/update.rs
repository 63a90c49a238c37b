//! What an update of a pod may change.

use coracle_apimachinery::{FieldError, Path};
use serde_json::Value;

use super::validate;
use crate::kinds::tree::{copy, int, is_set, list, remove};
use crate::kinds::validate::Errors;

const MAY_CHANGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// An update of a pod.
pub fn check(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let path = Path::new("spec");
    let (spec, was) = (&new["spec"], &old["spec"]);
    for field in ["containers", "initContainers"] {
        if list(&spec[field]).len() != list(&was[field]).len() {
            let why = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(&path.child(field), why));
            return errors.0;
        }
    }
    deadline(&mut errors, &path.child("activeDeadlineSeconds"), spec, was);
    if list(&was["tolerations"]).iter().any(|toleration| !kept(toleration, &spec["tolerations"])) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(&path.child("tolerations"), why));
    }
    let gated = is_set(&was["schedulingGates"]);
    let added =
        list(&spec["schedulingGates"]).iter().any(|gate| !list(&was["schedulingGates"]).contains(gate));
    if added {
        let why = "only deletion is allowed, but found new scheduling gates";
        errors.push(FieldError::forbidden(&path.child("schedulingGates"), why));
    }
    if fixed(spec, was, gated) != fixed(was, was, gated) {
        errors.push(FieldError::forbidden(&path, MAY_CHANGE));
    }
    // Only what can have changed is checked: what was accepted once stays acceptable.
    if spec != was {
        let images = ["containers", "initContainers"].map(|field| format!("spec.{field}["));
        let about_images = |error: &FieldError| {
            error.field.ends_with(".image")
                && images.iter().any(|prefix| error.field.starts_with(prefix.as_str()))
        };
        let complaints = validate::pod(new);
        errors.0.extend(
            complaints.into_iter().filter(|e| about_images(e) || e.field.starts_with("spec.tolerations")),
        );
    }
    errors.0
}

/// A deadline may come, or move nearer.
fn deadline(errors: &mut Errors, path: &Path, spec: &Value, was: &Value) {
    let field = "activeDeadlineSeconds";
    match (spec[field].as_i64(), was[field].as_i64()) {
        (Some(new), Some(old)) if new > old => {
            let why = "must be less than or equal to previous value";
            errors.push(FieldError::invalid(path, new, why));
        }
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(path, Value::Null, why));
        }
        _ => {}
    }
}

/// Whether a toleration is still there; its seconds may differ.
fn kept(toleration: &Value, now: &Value) -> bool {
    let plain = |toleration: &Value| {
        let mut toleration = toleration.clone();
        remove(&mut toleration, "tolerationSeconds");
        toleration
    };
    list(now).iter().any(|other| plain(other) == plain(toleration))
}

/// The spec with everything that may change put back to what it was.
fn fixed(spec: &Value, was: &Value, gated: bool) -> Value {
    let mut spec = spec.clone();
    for field in ["containers", "initContainers"] {
        let before = list(&was[field]).to_vec();
        let containers = spec.get_mut(field).and_then(Value::as_array_mut);
        for (container, before) in containers.into_iter().flatten().zip(before) {
            copy(container, &before, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        copy(&mut spec, was, field);
    }
    if int(&was["terminationGracePeriodSeconds"]) < 0 && int(&spec["terminationGracePeriodSeconds"]) == 1 {
        copy(&mut spec, was, "terminationGracePeriodSeconds");
    }
    if gated {
        copy(&mut spec, was, "nodeSelector");
        copy(&mut spec, was, "affinity");
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::validate::tests::shown;
    use serde_json::json;

    /// Changes the spec of a good pod at these pointers.
    fn say(changes: Value, expected: &str) {
        let mut old = json!({"spec": {"containers": [{"name": "a", "image": "x"}], "activeDeadlineSeconds": 10,
            "tolerations": [{"key": "k", "operator": "Exists"}]}});
        super::super::defaults::pod(&mut old);
        let mut new = old.clone();
        for (pointer, value) in changes.as_object().unwrap() {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            new["spec"].pointer_mut(parent).unwrap()[field] = value.clone();
        }
        assert_eq!(shown(&check(&new, &old)), expected, "{changes}");
    }

    #[test]
    fn little_may_change() {
        say(json!({}), "");
        say(json!({"/containers/0/image": "y"}), "");
        say(json!({"/containers/0/image": ""}), "spec.containers[0].image: Required value");
        say(json!({"/containers/0/command": ["y"]}), &format!("spec: Forbidden: {MAY_CHANGE}"));
        say(json!({"/nodeName": "n"}), &format!("spec: Forbidden: {MAY_CHANGE}"));
        say(
            json!({"/containers": []}),
            "spec.containers: Forbidden: pod updates may not add or remove containers",
        );
        say(json!({"/activeDeadlineSeconds": 5}), "");
        say(
            json!({"/activeDeadlineSeconds": 20}),
            "spec.activeDeadlineSeconds: Invalid value: 20: must be less than or equal to previous value",
        );
        say(
            json!({"/tolerations": []}),
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
        );
        say(
            json!({"/tolerations": [{"key": "k", "operator": "Exists"}, {"key": "l", "operator": "Exists"}]}),
            "",
        );
    }
}
