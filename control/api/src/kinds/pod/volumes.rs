//! Checks of volumes.

use std::collections::BTreeSet;

use coracle_apimachinery::{FieldError, Path, Quantity, names};
use serde_json::Value;

use super::containers::field_ref;
use crate::kinds::tree::{entries, list, text};
use crate::kinds::validate::Errors;

const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
const DOWNWARD_PATHS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// All volumes of a pod spec.
pub fn all(errors: &mut Errors, path: &Path, volumes: &Value) {
    let mut seen = BTreeSet::new();
    for (index, volume) in list(volumes).iter().enumerate() {
        let path = path.index(index);
        let name = text(&volume["name"]);
        if errors.required(&path.child("name"), &volume["name"]) {
            errors.invalid(&path.child("name"), name, names::dns1123_label(name));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
        }
        let given: Vec<_> =
            entries(volume).filter(|(field, source)| *field != "name" && !source.is_null()).collect();
        match given.as_slice() {
            [] => errors.push(FieldError::required(&path, "must specify a volume type")),
            [(kind, first), rest @ ..] => {
                source(errors, &path.child(kind), kind, first);
                for (kind, _) in rest {
                    let why = "may not specify more than 1 volume type";
                    errors.push(FieldError::forbidden(&path.child(kind), why));
                }
            }
        }
    }
}

fn source(errors: &mut Errors, path: &Path, kind: &str, source: &Value) {
    match kind {
        "hostPath" => {
            if errors.required(&path.child("path"), &source["path"]) {
                no_way_up(errors, &path.child("path"), text(&source["path"]));
            }
            errors.one_of(&path.child("type"), &source["type"], &HOST_PATH_TYPES);
        }
        "emptyDir" => {
            let limit = Quantity::parse(text(&source["sizeLimit"])).ok().filter(Quantity::is_negative);
            if limit.is_some() {
                let why = "SizeLimit field must be a valid resource quantity";
                errors.push(FieldError::forbidden(&path.child("sizeLimit"), why));
            }
        }
        "secret" => {
            errors.required(&path.child("secretName"), &source["secretName"]);
            files(errors, path, source);
        }
        "configMap" => {
            errors.required(&path.child("name"), &source["name"]);
            files(errors, path, source);
        }
        "downwardAPI" => {
            mode(errors, &path.child("defaultMode"), &source["defaultMode"]);
            downward(errors, path, source);
        }
        "projected" => projected(errors, path, source),
        "persistentVolumeClaim" => {
            errors.required(&path.child("claimName"), &source["claimName"]);
        }
        "nfs" => {
            errors.required(&path.child("server"), &source["server"]);
            if errors.required(&path.child("path"), &source["path"])
                && !text(&source["path"]).starts_with('/')
            {
                let why = "must be an absolute path";
                errors.push(FieldError::invalid(&path.child("path"), text(&source["path"]), why));
            }
        }
        "csi" => {
            errors.required(&path.child("driver"), &source["driver"]);
        }
        _ => {}
    }
}

/// Items out of a config map or secret, and their modes.
fn files(errors: &mut Errors, path: &Path, source: &Value) {
    mode(errors, &path.child("defaultMode"), &source["defaultMode"]);
    for (index, item) in list(&source["items"]).iter().enumerate() {
        let path = path.child("items").index(index);
        errors.required(&path.child("key"), &item["key"]);
        if errors.required(&path.child("path"), &item["path"]) {
            relative(errors, &path.child("path"), text(&item["path"]));
        }
        mode(errors, &path.child("mode"), &item["mode"]);
    }
}

fn downward(errors: &mut Errors, path: &Path, source: &Value) {
    for (index, item) in list(&source["items"]).iter().enumerate() {
        let path = path.child("items").index(index);
        if errors.required(&path.child("path"), &item["path"]) {
            relative(errors, &path.child("path"), text(&item["path"]));
        }
        match (item["fieldRef"].is_object(), item["resourceFieldRef"].is_object()) {
            (true, true) => {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(&path, "resource", why));
            }
            (true, false) => field_ref(errors, &path.child("fieldRef"), &item["fieldRef"], &DOWNWARD_PATHS),
            (false, true) => {
                let path = path.child("resourceFieldRef");
                errors.required(&path.child("containerName"), &item["resourceFieldRef"]["containerName"]);
                errors.required(&path.child("resource"), &item["resourceFieldRef"]["resource"]);
            }
            (false, false) => {
                errors.push(FieldError::required(&path, "one of fieldRef and resourceFieldRef is required"));
            }
        }
        mode(errors, &path.child("mode"), &item["mode"]);
    }
}

fn projected(errors: &mut Errors, path: &Path, source: &Value) {
    mode(errors, &path.child("defaultMode"), &source["defaultMode"]);
    for (index, part) in list(&source["sources"]).iter().enumerate() {
        let path = path.child("sources").index(index);
        let given: Vec<_> = entries(part).filter(|(_, source)| !source.is_null()).collect();
        if given.len() > 1 {
            let why = "may not specify more than 1 volume type";
            errors.push(FieldError::forbidden(&path.child(given[1].0), why));
        }
        let Some((kind, first)) = given.first() else { continue };
        let path = path.child(kind);
        match *kind {
            "secret" | "configMap" => {
                errors.required(&path.child("name"), &first["name"]);
                files(errors, &path, first);
            }
            "downwardAPI" => downward(errors, &path, first),
            "serviceAccountToken" => {
                if errors.required(&path.child("path"), &first["path"]) {
                    relative(errors, &path.child("path"), text(&first["path"]));
                }
                let seconds = first["expirationSeconds"].as_i64().unwrap_or(3600);
                if seconds < 600 {
                    let why = "may not specify a duration less than 10 minutes";
                    errors.push(FieldError::invalid(&path.child("expirationSeconds"), seconds, why));
                }
            }
            _ => {}
        }
    }
}

fn mode(errors: &mut Errors, path: &Path, mode: &Value) {
    if let Some(bits) = mode.as_i64().filter(|bits| !(0..=0o777).contains(bits)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(path, bits, why));
    }
}

fn no_way_up(errors: &mut Errors, path: &Path, value: &str) {
    if value.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, value, "must not contain '..'"));
    }
}

/// A path that must stay below where it starts; empty is fine.
pub fn relative(errors: &mut Errors, path: &Path, value: &str) {
    if value.starts_with('/') {
        errors.push(FieldError::invalid(path, value, "must be a relative path"));
    }
    no_way_up(errors, path, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::validate::tests::shown;
    use serde_json::json;

    fn check(volumes: Value, expected: &str) {
        let mut pod = json!({"spec": {"volumes": volumes}});
        super::super::defaults::pod(&mut pod);
        let mut errors = Errors::default();
        all(&mut errors, &Path::new("v"), &pod["spec"]["volumes"]);
        assert_eq!(shown(&errors.0), expected);
    }

    #[test]
    fn volumes() {
        check(json!([{"name": "a"}, {"name": "b", "configMap": {"name": "c"}}]), "");
        check(json!([{"name": "a"}, {"name": "a"}]), "v[1].name: Duplicate value: \"a\"");
        check(json!([{"emptyDir": {}}]), "v[0].name: Required value");
        check(
            json!([{"name": "a", "emptyDir": {}, "hostPath": {"path": "/x"}}]),
            "v[0].hostPath: Forbidden: may not specify more than 1 volume type",
        );
        check(json!([{"name": "a", "secret": {}}]), "v[0].secret.secretName: Required value");
        check(
            json!([{"name": "a", "hostPath": {"path": "/x/../y"}}]),
            "v[0].hostPath.path: Invalid value: \"/x/../y\": must not contain '..'",
        );
        check(
            json!([{"name": "a", "configMap": {"name": "c", "defaultMode": 1000}}]),
            "v[0].configMap.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive",
        );
        check(
            json!([{"name": "a", "configMap": {"name": "c", "items": [{"key": "k", "path": "/abs"}]}}]),
            "v[0].configMap.items[0].path: Invalid value: \"/abs\": must be a relative path",
        );
        check(
            json!([{"name": "a", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 5}}]}}]),
            "v[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a \
             duration less than 10 minutes",
        );
    }
}
