//! What a resize of a pod may change.

use coracle_apimachinery::{FieldError, Path};
use serde_json::Value;

use super::{qos, validate};
use crate::kinds::tree::{entries, list};
use crate::kinds::validate::Errors;

const RESIZED: [&str; 2] = ["cpu", "memory"];

/// A resize: everything else was put back to what it was before this is asked.
pub fn check(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let spec = Path::new("spec");
    if old["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some() {
        errors.push(FieldError::forbidden(&Path::new("metadata"), "static pods cannot be resized"));
    }
    for field in ["containers", "initContainers"] {
        let both = list(&new["spec"][field]).iter().zip(list(&old["spec"][field]));
        for (index, (container, before)) in both.enumerate() {
            let path = spec.child(field).index(index).child("resources");
            resources(&mut errors, &path, &container["resources"], &before["resources"]);
        }
    }
    resources(&mut errors, &spec.child("resources"), &new["spec"]["resources"], &old["spec"]["resources"]);
    let class = qos::class(new);
    if class != qos::class(old) {
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&Path::new("status").child("qosClass"), class, why));
    }
    let about_resources =
        |error: &FieldError| error.field.contains(".resources") || error.field.contains("resizePolicy");
    errors.0.extend(validate::pod(new).into_iter().filter(about_resources));
    errors.0
}

fn resources(errors: &mut Errors, path: &Path, new: &Value, old: &Value) {
    for (field, why) in
        [("limits", "resource limits cannot be removed"), ("requests", "resource requests cannot be removed")]
    {
        let path = path.child(field);
        for (name, amount) in entries(&old[field]) {
            match new[field].get(name) {
                None if RESIZED.contains(&name) => {
                    errors.push(FieldError::forbidden(&path.key(name), why));
                }
                Some(now) if now == amount || RESIZED.contains(&name) => {}
                None | Some(_) => {
                    errors.push(FieldError::forbidden(
                        &path.key(name),
                        "only cpu and memory resources are mutable",
                    ));
                }
            }
        }
        for (name, _) in entries(&new[field]) {
            if old[field].get(name).is_none() && !RESIZED.contains(&name) {
                errors.push(FieldError::forbidden(
                    &path.key(name),
                    "only cpu and memory resources are mutable",
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::validate::tests::shown;
    use serde_json::json;

    fn say(resources: &Value, expected: &str) {
        let pod = |resources: &Value| {
            let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [
                {"name": "a", "image": "x", "resources": resources}]}});
            super::super::defaults::pod(&mut pod);
            pod
        };
        let old =
            pod(&json!({"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}, "limits": {"memory": "1Gi"}}));
        assert_eq!(shown(&check(&pod(resources), &old)), expected, "{resources}");
    }

    #[test]
    fn cpu_and_memory_may_change_and_the_class_may_not() {
        let storage = "1Gi";
        say(
            &json!({"requests": {"cpu": "2", "ephemeral-storage": storage}, "limits": {"memory": "2Gi"}}),
            "",
        );
        say(
            &json!({"requests": {"cpu": "2", "ephemeral-storage": storage}, "limits": {"memory": "2Gi", "cpu": "3"}}),
            "",
        );
        say(
            &json!({"requests": {"cpu": "2", "memory": "1Gi", "ephemeral-storage": storage}}),
            "spec.containers[0].resources.limits[memory]: Forbidden: resource limits cannot be removed",
        );
        say(
            &json!({"requests": {"cpu": "1", "ephemeral-storage": "2Gi"}, "limits": {"memory": "1Gi"}}),
            "spec.containers[0].resources.requests[ephemeral-storage]: Forbidden: only cpu and memory resources are mutable",
        );
        say(
            &json!({"requests": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": storage},
                    "limits": {"memory": "1Gi", "cpu": "1"}}),
            "status.qosClass: Invalid value: \"Guaranteed\": Pod QOS Class may not change as a result of resizing",
        );
        say(
            &json!({"requests": {"cpu": "4", "ephemeral-storage": storage}, "limits": {"memory": "1Gi", "cpu": "3"}}),
            "spec.containers[0].resources.requests: Invalid value: \"4\": must be less than or equal to cpu limit of 3",
        );
    }
}
