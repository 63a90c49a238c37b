//! Checks of containers.

use std::collections::BTreeSet;

use coracle_apimachinery::{FieldError, Path, names};
use serde_json::Value;

use super::validate::needed_one_of;
use super::{probes, resources};
use crate::kinds::tree::{flag, int, is_set, list, text};
use crate::kinds::validate::Errors;

const FIELD_PATHS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

/// All containers of a pod spec.
pub fn all(errors: &mut Errors, path: &Path, spec: &Value) {
    let containers = list(&spec["containers"]);
    if containers.is_empty() {
        errors.push(FieldError::required(&path.child("containers"), ""));
    }
    let mut seen = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        let path = path.child("containers").index(index);
        one(errors, &path, container, spec, &mut seen);
        probes::all(errors, &path, container);
        unique_host_ports(errors, &path, container, &mut host_ports);
    }
    for (index, container) in list(&spec["initContainers"]).iter().enumerate() {
        let path = path.child("initContainers").index(index);
        one(errors, &path, container, spec, &mut seen);
        if text(&container["restartPolicy"]) == "Always" {
            probes::all(errors, &path, container);
            unique_host_ports(errors, &path, container, &mut host_ports);
        } else {
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if !container[field].is_null() {
                    let why = "may not be set for init containers without restartPolicy=Always";
                    errors.push(FieldError::forbidden(&path.child(field), why));
                }
            }
        }
    }
}

fn one<'a>(
    errors: &mut Errors,
    path: &Path,
    container: &'a Value,
    spec: &Value,
    seen: &mut BTreeSet<&'a str>,
) {
    let (at, name) = (path.child("name"), text(&container["name"]));
    if errors.required(&at, &container["name"]) {
        errors.invalid(&at, name, names::dns1123_label(name));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at, name));
        }
    }
    let image = text(&container["image"]);
    if image.is_empty() {
        errors.push(FieldError::required(&path.child("image"), ""));
    } else if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(&path.child("image"), image, why));
    }
    let policies = ["FallbackToLogsOnError", "File"];
    needed_one_of(
        errors,
        &path.child("terminationMessagePolicy"),
        &container["terminationMessagePolicy"],
        &policies,
    );
    let policies = ["Always", "IfNotPresent", "Never"];
    needed_one_of(errors, &path.child("imagePullPolicy"), &container["imagePullPolicy"], &policies);
    ports(errors, &path.child("ports"), container, flag(&spec["hostNetwork"]));
    for (index, variable) in list(&container["env"]).iter().enumerate() {
        env(errors, &path.child("env").index(index), variable);
    }
    for (index, source) in list(&container["envFrom"]).iter().enumerate() {
        env_from(errors, &path.child("envFrom").index(index), source);
    }
    mounts(errors, &path.child("volumeMounts"), container, spec);
    resources::check(errors, &path.child("resources"), &container["resources"]);
    security(errors, &path.child("securityContext"), &container["securityContext"]);
}

fn ports(errors: &mut Errors, path: &Path, container: &Value, host_network: bool) {
    let mut seen = BTreeSet::new();
    for (index, port) in list(&container["ports"]).iter().enumerate() {
        let path = path.index(index);
        let name = text(&port["name"]);
        if !name.is_empty() {
            let complaints = names::port_name(name);
            if complaints.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
            errors.invalid(&path.child("name"), name, complaints);
        }
        let (number, host) = (int(&port["containerPort"]), int(&port["hostPort"]));
        if number == 0 {
            errors.push(FieldError::required(&path.child("containerPort"), ""));
        } else {
            probes::port_number(errors, &path.child("containerPort"), number);
        }
        if host != 0 {
            probes::port_number(errors, &path.child("hostPort"), host);
        }
        if host_network && host != number {
            let why = "must match `containerPort` when `hostNetwork` is true";
            errors.push(FieldError::invalid(&path.child("hostPort"), host, why));
        }
        needed_one_of(errors, &path.child("protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]);
    }
}

fn unique_host_ports(errors: &mut Errors, path: &Path, container: &Value, seen: &mut BTreeSet<String>) {
    for (index, port) in list(&container["ports"]).iter().enumerate() {
        let host = int(&port["hostPort"]);
        if host == 0 {
            continue;
        }
        let shown = format!("{}/{}/{host}", text(&port["protocol"]), text(&port["hostIP"]));
        if !seen.insert(shown.clone()) {
            let path = path.child("ports").index(index).child("hostPort");
            errors.push(FieldError::duplicate(&path, shown));
        }
    }
}

fn env(errors: &mut Errors, path: &Path, variable: &Value) {
    let name = text(&variable["name"]);
    if errors.required(&path.child("name"), &variable["name"]) {
        errors.invalid(&path.child("name"), name, names::env_var_name(name));
    }
    let (path, from) = (path.child("valueFrom"), &variable["valueFrom"]);
    if from.is_null() {
        return;
    }
    let given: Vec<_> = SOURCES.into_iter().filter(|source| !from[*source].is_null()).collect();
    let mut complain = |why: &str| errors.push(FieldError::invalid(&path, "", why));
    match given.as_slice() {
        [] => complain(
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        _ if is_set(&variable["value"]) => complain("may not be specified when `value` is not empty"),
        [_] => {}
        _ => complain("may not have more than one field specified at a time"),
    }
    for source in given {
        let (path, from) = (path.child(source), &from[source]);
        match source {
            "fieldRef" => field_ref(errors, &path, from, &FIELD_PATHS),
            "resourceFieldRef" => {
                errors.required(&path.child("resource"), &from["resource"]);
            }
            _ => {
                if errors.required(&path.child("key"), &from["key"]) {
                    let key = text(&from["key"]);
                    errors.invalid(&path.child("key"), key, names::config_map_key(key));
                }
            }
        }
    }
}

/// A reference to a field of the pod.
pub fn field_ref(errors: &mut Errors, path: &Path, reference: &Value, supported: &[&str]) {
    let field = text(&reference["fieldPath"]);
    let path = path.child("fieldPath");
    if field.is_empty() {
        errors.push(FieldError::required(&path, ""));
        return;
    }
    if let Some((map, key)) = field.strip_suffix("']").and_then(|field| field.split_once("['")) {
        match map {
            "metadata.annotations" => errors.invalid(&path, key, names::qualified_name(&key.to_lowercase())),
            "metadata.labels" => errors.invalid(&path, key, names::qualified_name(key)),
            _ => {
                errors.push(FieldError::invalid(&path, field, format!("{field} does not support subscript")))
            }
        }
        return;
    }
    if supported.contains(&field) {
        return;
    }
    let known = FIELD_PATHS.contains(&field)
        || matches!(
            field,
            "metadata.labels" | "metadata.annotations" | "status.phase" | "spec.restartPolicy"
        );
    if known {
        errors.push(FieldError::not_supported(&path, field, supported));
    } else {
        let why = format!("error converting fieldPath: field label not supported: {field}");
        errors.push(FieldError::invalid(&path, field, why));
    }
}

fn env_from(errors: &mut Errors, path: &Path, source: &Value) {
    let prefix = text(&source["prefix"]);
    if !prefix.is_empty() {
        errors.invalid(&path.child("prefix"), prefix, names::env_var_name(prefix));
    }
    let given: Vec<_> =
        ["configMapRef", "secretRef"].into_iter().filter(|field| !source[*field].is_null()).collect();
    match given.as_slice() {
        [] => {
            let why = "must specify one of: `configMapRef` or `secretRef`";
            errors.push(FieldError::invalid(path, "", why));
        }
        [field] => {
            errors.required(&path.child(field).child("name"), &source[*field]["name"]);
        }
        _ => {
            errors.push(FieldError::invalid(path, "", "may not have more than one field specified at a time"))
        }
    }
}

fn mounts(errors: &mut Errors, path: &Path, container: &Value, spec: &Value) {
    let mut seen = BTreeSet::new();
    for (index, mount) in list(&container["volumeMounts"]).iter().enumerate() {
        let path = path.index(index);
        let name = text(&mount["name"]);
        if errors.required(&path.child("name"), &mount["name"])
            && !list(&spec["volumes"]).iter().any(|volume| volume["name"] == name)
        {
            errors.push(FieldError::not_found(&path.child("name"), name));
        }
        let target = text(&mount["mountPath"]);
        if errors.required(&path.child("mountPath"), &mount["mountPath"]) && !seen.insert(target) {
            errors.push(FieldError::invalid(&path.child("mountPath"), target, "must be unique"));
        }
        for field in ["subPath", "subPathExpr"] {
            super::volumes::relative(errors, &path.child(field), text(&mount[field]));
        }
        if is_set(&mount["subPath"]) && is_set(&mount["subPathExpr"]) {
            let why = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(&path.child("subPathExpr"), text(&mount["subPathExpr"]), why));
        }
        if is_set(&mount["mountPropagation"]) {
            let path = path.child("mountPropagation");
            errors.one_of(&path, &mount["mountPropagation"], &["Bidirectional", "HostToContainer", "None"]);
            if mount["mountPropagation"] == "Bidirectional"
                && !flag(&container["securityContext"]["privileged"])
            {
                let why = "Bidirectional mount propagation is available only to privileged containers";
                errors.push(FieldError::forbidden(&path, why));
            }
        }
    }
}

fn security(errors: &mut Errors, path: &Path, context: &Value) {
    user(errors, &path.child("runAsUser"), &context["runAsUser"]);
    user(errors, &path.child("runAsGroup"), &context["runAsGroup"]);
    if context["allowPrivilegeEscalation"] == false && flag(&context["privileged"]) {
        let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errors.push(FieldError::invalid(path, context.clone(), why));
    }
    if is_set(&context["procMount"]) {
        errors.one_of(&path.child("procMount"), &context["procMount"], &["Default", "Unmasked"]);
    }
}

/// The number of a user or group.
pub fn user(errors: &mut Errors, path: &Path, value: &Value) {
    let most = i64::from(i32::MAX);
    if let Some(id) = value.as_i64().filter(|id| !(0..=most).contains(id)) {
        errors.push(FieldError::invalid(path, id, names::in_range(0, most)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::validate::tests::shown;
    use serde_json::json;

    /// A pod of one container with these fields more, after defaulting.
    fn check(fields: Value, expected: &str) {
        let mut container = json!({"name": "a", "image": "x"});
        for (field, value) in fields.as_object().unwrap() {
            container[field] = value.clone();
        }
        let mut pod = json!({"spec": {"containers": [container], "volumes": [{"name": "v"}]}});
        super::super::defaults::pod(&mut pod);
        let mut errors = Errors::default();
        all(&mut errors, &Path::new("spec"), &pod["spec"]);
        let expected = expected.replace("@", "spec.containers[0]");
        assert_eq!(shown(&errors.0), expected, "{pod}");
    }

    #[test]
    fn containers() {
        check(json!({}), "");
        check(json!({"name": ""}), "@.name: Required value");
        check(json!({"name": "a.b"}), "@.name: Invalid value: \"a.b\": must not contain dots");
        check(json!({"image": ""}), "@.image: Required value");
        check(
            json!({"image": " x"}),
            "@.image: Invalid value: \" x\": must not have leading or trailing whitespace",
        );
        check(
            json!({"imagePullPolicy": "Maybe"}),
            "@.imagePullPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        );
        check(json!({"ports": [{}]}), "@.ports[0].containerPort: Required value");
        check(
            json!({"ports": [{"containerPort": 70000}]}),
            "@.ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        );
        check(
            json!({"ports": [{"name": "p", "containerPort": 80}, {"name": "p", "containerPort": 81}]}),
            "@.ports[1].name: Duplicate value: \"p\"",
        );
        check(
            json!({"ports": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81, "hostPort": 8080}]}),
            "@.ports[1].hostPort: Duplicate value: \"TCP//8080\"",
        );
    }

    #[test]
    fn environments_and_mounts() {
        check(json!({"env": [{"value": "x"}]}), "@.env[0].name: Required value");
        check(
            json!({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
            "@.env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        );
        check(
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]}),
            "@.env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: field label \
             not supported: spec.x",
        );
        check(
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}}]}),
            "",
        );
        check(
            json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]}),
            "@.env[0].valueFrom.secretKeyRef.key: Required value",
        );
        check(json!({"volumeMounts": [{"name": "v", "mountPath": "/x"}]}), "");
        check(
            json!({"volumeMounts": [{"name": "w", "mountPath": "/x"}]}),
            "@.volumeMounts[0].name: Not found: \"w\"",
        );
        check(
            json!({"volumeMounts": [{"name": "v", "mountPath": "/x"}, {"name": "v", "mountPath": "/x"}]}),
            "@.volumeMounts[1].mountPath: Invalid value: \"/x\": must be unique",
        );
        check(
            json!({"volumeMounts": [{"name": "v", "mountPath": "/x", "subPath": "../y"}]}),
            "@.volumeMounts[0].subPath: Invalid value: \"../y\": must not contain '..'",
        );
    }
}
