//! Checks of requests and limits.

use coracle_apimachinery::{FieldError, Path, Quantity, names};
use serde_json::Value;

use crate::kinds::tree::{entries, text};
use crate::kinds::validate::Errors;

/// The resources of a container.
pub fn check(errors: &mut Errors, path: &Path, resources: &Value) {
    for field in ["limits", "requests"] {
        for (name, quantity) in entries(&resources[field]) {
            let path = path.child(field).key(name);
            resource_name(errors, &path, name);
            let quantity = text(quantity);
            match Quantity::parse(quantity) {
                Ok(amount) if amount.is_negative() => {
                    errors.push(FieldError::invalid(&path, quantity, "must be greater than or equal to 0"));
                }
                Ok(amount) if extended(name) && !amount.is_whole() => {
                    errors.push(FieldError::invalid(&path, quantity, "must be an integer"));
                }
                Ok(_) => {}
                Err(error) => errors.push(FieldError::invalid(&path, quantity, error.to_string())),
            }
        }
    }
    let requests = path.child("requests");
    for (name, request) in entries(&resources["requests"]) {
        let (Ok(amount), limit) = (Quantity::parse(text(request)), &resources["limits"][name]) else {
            continue;
        };
        match Quantity::parse(text(limit)) {
            Ok(limit) if exact(name) && amount != limit => {
                let why = format!("must be equal to {name} limit of {limit}");
                errors.push(FieldError::invalid(&requests, amount.to_string(), why));
            }
            Ok(limit) if amount > limit => {
                let why = format!("must be less than or equal to {name} limit of {limit}");
                errors.push(FieldError::invalid(&requests, amount.to_string(), why));
            }
            Err(_) if exact(name) => {
                let why = "Limit must be set for non overcommitable resources";
                errors.push(FieldError::required(&path.child("limits"), why));
            }
            _ => {}
        }
    }
}

fn resource_name(errors: &mut Errors, path: &Path, name: &str) {
    errors.invalid(path, name, names::qualified_name(name));
    let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !name.contains('/') && !standard {
        for why in [
            "must be a standard resource type or fully qualified",
            "must be a standard resource for containers",
        ] {
            errors.push(FieldError::invalid(path, name, why));
        }
    }
}

/// A resource of a device or another extension.
fn extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}

/// One whose request is its limit.
fn exact(name: &str) -> bool {
    extended(name) || name.starts_with("hugepages-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::validate::tests::shown;
    use serde_json::json;

    #[test]
    fn amounts() {
        let say = |resources: Value, expected: &str| {
            let mut errors = Errors::default();
            check(&mut errors, &Path::new("r"), &resources);
            assert_eq!(shown(&errors.0), expected);
        };
        say(json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "memory": "1Gi"}}), "");
        say(
            json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
            "r.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        );
        say(
            json!({"limits": {"cpu": "-1"}}),
            "r.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        );
        say(
            json!({"limits": {"gpu": "1"}}),
            "r.limits[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified\n\
             r.limits[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
        );
        say(json!({"limits": {"x.io/gpu": "1"}, "requests": {"x.io/gpu": "1"}}), "");
        say(
            json!({"limits": {"x.io/gpu": "2"}, "requests": {"x.io/gpu": "1"}}),
            "r.requests: Invalid value: \"1\": must be equal to x.io/gpu limit of 2",
        );
    }
}
