//! Roles and bindings.

use coracle_apimachinery::{FieldError, Path, names};
use jiff::Timestamp;
use serde_json::Value;

use super::print::{AGE, NAME, age, col, name, wide};
use super::tree::{default_zero, each, is_set, list, text, with};
use super::{Column, KindOps, Printer};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Roles.
pub static ROLE: KindOps = KindOps {
    validate_name: names::path_segment,
    validate_create: |role| validate_rules(role, true),
    validate_update: |role, _| validate_rules(role, true),
    create_on_update: true,
    ..KindOps::BASE
};

/// Cluster roles.
pub static CLUSTER_ROLE: KindOps = KindOps {
    validate_name: names::path_segment,
    validate_create: |role| validate_rules(role, false),
    validate_update: |role, _| validate_rules(role, false),
    create_on_update: true,
    ..KindOps::BASE
};

/// Role bindings.
pub static ROLE_BINDING: KindOps = KindOps {
    default: default_binding,
    validate_name: names::path_segment,
    validate_create: |binding| validate_binding(binding, true),
    validate_update: |new, old| validate_binding_update(new, old, true),
    printer: Some(BINDING_PRINTER),
    create_on_update: true,
    ..KindOps::BASE
};

/// Cluster role bindings.
pub static CLUSTER_ROLE_BINDING: KindOps = KindOps {
    default: default_binding,
    validate_name: names::path_segment,
    validate_create: |binding| validate_binding(binding, false),
    validate_update: |new, old| validate_binding_update(new, old, false),
    printer: Some(BINDING_PRINTER),
    create_on_update: true,
    ..KindOps::BASE
};

const BINDING_COLUMNS: &[Column] =
    &[NAME, col("Role"), AGE, wide("Users"), wide("Groups"), wide("ServiceAccounts")];
const BINDING_PRINTER: Printer = Printer { columns: BINDING_COLUMNS, cells: binding_cells };

fn default_binding(object: &mut Value) {
    with(object, "roleRef", |role| default_zero(role, "apiGroup", GROUP));
    each(object, "subjects", |subject| {
        if matches!(text(&subject["kind"]), "User" | "Group") {
            default_zero(subject, "apiGroup", GROUP);
        }
    });
}

fn binding_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let role = &object["roleRef"];
    let all = |kind: &str| {
        let one = |subject: &Value| match (kind, text(&subject["namespace"])) {
            ("ServiceAccount", namespace) if !namespace.is_empty() => {
                format!("{namespace}/{}", text(&subject["name"]))
            }
            _ => text(&subject["name"]).to_owned(),
        };
        let subjects = list(&object["subjects"]).iter().filter(|subject| subject["kind"] == kind);
        Value::from(subjects.map(one).collect::<Vec<_>>().join(", "))
    };
    vec![
        name(object),
        format!("{}/{}", text(&role["kind"]), text(&role["name"])).into(),
        age(object, now),
        all("User"),
        all("Group"),
        all("ServiceAccount"),
    ]
}

fn validate_rules(role: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, rule) in list(&role["rules"]).iter().enumerate() {
        let path = Path::new("rules").index(index);
        if !is_set(&rule["verbs"]) {
            errors.push(FieldError::required(&path.child("verbs"), "verbs must contain at least one value"));
        }
        if is_set(&rule["nonResourceURLs"]) {
            let urls = path.child("nonResourceURLs");
            if namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                errors.push(FieldError::invalid(&urls, rule["nonResourceURLs"].clone(), why));
            }
            if is_set(&rule["apiGroups"]) || is_set(&rule["resources"]) || is_set(&rule["resourceNames"]) {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(FieldError::invalid(&urls, rule["nonResourceURLs"].clone(), why));
            }
            continue;
        }
        if !is_set(&rule["apiGroups"]) {
            let why = "resource rules must supply at least one api group";
            errors.push(FieldError::required(&path.child("apiGroups"), why));
        }
        if !is_set(&rule["resources"]) {
            let why = "resource rules must supply at least one resource";
            errors.push(FieldError::required(&path.child("resources"), why));
        }
    }
    errors
}

fn validate_binding(binding: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (path, role) = (Path::new("roleRef"), &binding["roleRef"]);
    if role["apiGroup"] != GROUP {
        errors.push(FieldError::not_supported(&path.child("apiGroup"), text(&role["apiGroup"]), &[GROUP]));
    }
    let kinds: &[&str] = if namespaced { &["ClusterRole", "Role"] } else { &["ClusterRole"] };
    if !kinds.contains(&text(&role["kind"])) {
        errors.push(FieldError::not_supported(&path.child("kind"), text(&role["kind"]), kinds));
    }
    let role_name = text(&role["name"]);
    if role_name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    } else {
        let bad = names::path_segment(role_name);
        errors.extend(bad.into_iter().map(|why| FieldError::invalid(&path.child("name"), role_name, why)));
    }
    for (index, subject) in list(&binding["subjects"]).iter().enumerate() {
        validate_subject(&Path::new("subjects").index(index), subject, namespaced, &mut errors);
    }
    errors
}

fn validate_subject(path: &Path, subject: &Value, namespaced: bool, errors: &mut Vec<FieldError>) {
    let (kind, subject_name) = (text(&subject["kind"]), text(&subject["name"]));
    if subject_name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    let group = match kind {
        "ServiceAccount" => "",
        "User" | "Group" => GROUP,
        _ => {
            let kinds = ["Group", "ServiceAccount", "User"];
            errors.push(FieldError::not_supported(&path.child("kind"), kind, &kinds));
            return;
        }
    };
    if text(&subject["apiGroup"]) != group {
        errors.push(FieldError::not_supported(&path.child("apiGroup"), text(&subject["apiGroup"]), &[group]));
    }
    if kind == "ServiceAccount" {
        if !subject_name.is_empty() {
            let bad = names::dns1123_subdomain(subject_name);
            errors.extend(
                bad.into_iter().map(|why| FieldError::invalid(&path.child("name"), subject_name, why)),
            );
        }
        if !namespaced && text(&subject["namespace"]).is_empty() {
            errors.push(FieldError::required(&path.child("namespace"), ""));
        }
    }
}

fn validate_binding_update(new: &Value, old: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors = validate_binding(new, namespaced);
    if new["roleRef"] != old["roleRef"] {
        let path = Path::new("roleRef");
        errors.push(FieldError::invalid(&path, new["roleRef"].clone(), "cannot change roleRef"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bindings() {
        let mut binding = json!({
            "metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}],
        });
        default_binding(&mut binding);
        assert_eq!(binding["subjects"][0]["apiGroup"], GROUP);
        assert!(binding["subjects"][1]["apiGroup"].is_null());
        assert_eq!(validate_binding(&binding, false), []);
        let cells = binding_cells(&binding, Timestamp::UNIX_EPOCH);
        assert_eq!(json!(cells), json!(["b", "ClusterRole/view", "<unknown>", "u", "", "n/s"]));
        let mut other = binding.clone();
        other["roleRef"]["name"] = "edit".into();
        let errors = validate_binding_update(&other, &binding, false);
        assert!(errors[0].to_string().ends_with("cannot change roleRef"), "{errors:?}");
        other["roleRef"]["kind"] = "Role".into();
        assert_eq!(
            validate_binding(&other, false)[0].to_string(),
            "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""
        );
        assert_eq!(validate_binding(&other, true), []);
    }

    #[test]
    fn rules() {
        let check = |rule: Value, namespaced: bool, expected: &str| {
            let errors = validate_rules(&json!({"rules": [rule]}), namespaced);
            let shown: Vec<_> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(shown.join("; "), expected);
        };
        check(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), true, "");
        check(json!({"verbs": ["get"], "nonResourceURLs": ["/x"]}), false, "");
        check(
            json!({"apiGroups": [""], "resources": ["pods"]}),
            true,
            "rules[0].verbs: Required value: verbs must contain at least one value",
        );
        check(
            json!({"verbs": ["get"], "resources": ["pods"]}),
            true,
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
        );
        check(
            json!({"verbs": ["get"], "nonResourceURLs": ["/x"]}),
            true,
            "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
        );
    }
}
