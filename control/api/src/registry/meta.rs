//! What all objects have in common: bookkeeping and checks of `metadata`.

use coracle_apimachinery::{FieldError, Path, Status, names, time};
use serde_json::{Map, Value, json};

use super::Resource;
use crate::error::{ApiError, Outcome};
use crate::value::{self, metadata, text};

/// Most bytes that all annotations of an object may have.
const ANNOTATIONS: usize = 256 * 1024;

/// A random (version 4) UUID.
pub fn new_uid() -> String {
    use ring::rand::SecureRandom;
    let mut b = [0u8; 16];
    // The system's generator does not fail once the machine is up; an all-zero id would be caught as a duplicate.
    let _ = ring::rand::SystemRandom::new().fill(&mut b);
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let hex = |r: &[u8]| r.iter().map(|x| format!("{x:02x}")).collect::<String>();
    format!("{}-{}-{}-{}-{}", hex(&b[..4]), hex(&b[4..6]), hex(&b[6..8]), hex(&b[8..10]), hex(&b[10..]))
}

/// Fits a new object to the namespace and name of its URL.
pub fn place(resource: &Resource, namespace: &str, name: &str, value: &mut Value) -> Outcome<()> {
    let meta = metadata(value);
    let given = meta.get("namespace").and_then(Value::as_str).unwrap_or_default();
    if resource.info.namespaced {
        if !given.is_empty() && given != namespace {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        meta.insert("namespace".to_owned(), namespace.into());
    } else {
        meta.remove("namespace");
    }
    if !name.is_empty() {
        let given = meta.get("name").and_then(Value::as_str).unwrap_or_default();
        if given.is_empty() {
            meta.insert("name".to_owned(), name.into());
        } else if given != name {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({name})"
            )));
        }
    }
    Ok(())
}

/// Metadata that the server alone sets on a new object.
pub fn begin(value: &mut Value) {
    let meta = metadata(value);
    for field in
        ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation", "resourceVersion"]
    {
        meta.remove(field);
    }
    meta.insert("uid".to_owned(), new_uid().into());
    meta.insert("creationTimestamp".to_owned(), time::now_rfc3339().into());
}

/// A name made of `metadata.generateName`.
pub fn generate(base: &str) -> String {
    let short: String = base.chars().take(58).collect();
    format!("{short}{}", coracle_apimachinery::rand_suffix(5))
}

/// Carries over what no update may change.
pub fn carry(new: &mut Value, old: &Value) {
    let Some(was) = old.get("metadata").and_then(Value::as_object) else { return };
    let meta = metadata(new);
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "namespace",
        "name",
        "generateName",
    ] {
        value::put(meta, field, was.get(field).cloned());
    }
    meta.remove("selfLink");
}

/// Bumps `metadata.generation` when anything but metadata and status changed.
pub fn count_generation(new: &mut Value, old: &Value) {
    let differs = |a: &Map<String, Value>, b: &Map<String, Value>| {
        a.iter()
            .filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status" | "apiVersion" | "kind"))
            .any(|(key, value)| b.get(key) != Some(value))
    };
    let (Some(a), Some(b)) = (new.as_object(), old.as_object()) else { return };
    if differs(a, b) || differs(b, a) {
        let generation = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
        metadata(new).insert("generation".to_owned(), json!(generation + 1));
    }
}

/// Checks metadata of a new object.
pub fn check_new(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let at = Path::new("metadata");
    let mut errors = Vec::new();
    let (name, generate_name) = (value::name(object), text(object, "/metadata/generateName"));
    if !generate_name.is_empty() {
        let bad = names::as_prefix(generate_name, resource.ops.validate_name);
        errors.extend(
            bad.into_iter().map(|why| FieldError::invalid(&at.child("generateName"), generate_name, why)),
        );
    }
    if name.is_empty() {
        errors.push(FieldError::required(&at.child("name"), "name or generateName is required"));
    } else {
        let bad = (resource.ops.validate_name)(name);
        errors.extend(bad.into_iter().map(|why| FieldError::invalid(&at.child("name"), name, why)));
    }
    if resource.info.namespaced {
        let namespace = value::namespace(object);
        let bad = names::dns1123_label(namespace);
        errors.extend(bad.into_iter().map(|why| FieldError::invalid(&at.child("namespace"), namespace, why)));
    }
    errors.extend(check_any(object));
    errors
}

/// Checks what may be wrong in any metadata.
fn check_any(object: &Value) -> Vec<FieldError> {
    let at = Path::new("metadata");
    let mut errors = Vec::new();
    let map = |field: &str| object.pointer(&format!("/metadata/{field}")).and_then(Value::as_object);
    for (key, label) in map("labels").into_iter().flatten() {
        let path = at.child("labels");
        errors.extend(
            names::qualified_name(key).into_iter().map(|why| FieldError::invalid(&path, key.as_str(), why)),
        );
        let label = label.as_str().unwrap_or_default();
        errors
            .extend(names::label_value(label).into_iter().map(|why| FieldError::invalid(&path, label, why)));
    }
    let mut size = 0;
    for (key, text) in map("annotations").into_iter().flatten() {
        let path = at.child("annotations");
        let bad = names::qualified_name(&key.to_lowercase());
        errors.extend(bad.into_iter().map(|why| FieldError::invalid(&path, key.as_str(), why)));
        size += key.len() + text.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS {
        errors.push(FieldError::too_long(&at.child("annotations"), ANNOTATIONS));
    }
    for finalizer in value::finalizers(object) {
        let path = at.child("finalizers");
        let bad = names::qualified_name(finalizer);
        errors.extend(bad.into_iter().map(|why| FieldError::invalid(&path, finalizer, why)));
    }
    errors.extend(check_owners(object));
    errors
}

fn check_owners(object: &Value) -> Vec<FieldError> {
    let at = Path::new("metadata").child("ownerReferences");
    let mut errors = Vec::new();
    let mut controller: Option<&str> = None;
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    for (index, owner) in owners.into_iter().flatten().enumerate() {
        let path = at.index(index);
        for (field, word) in [("apiVersion", "version"), ("kind", "kind"), ("name", "name"), ("uid", "uid")] {
            if owner.get(field).and_then(Value::as_str).unwrap_or_default().is_empty() {
                errors.push(FieldError::invalid(&path.child(field), "", format!("{word} must not be empty")));
            }
        }
        if owner.get("controller").and_then(Value::as_bool) == Some(true) {
            let kind = owner.get("kind").and_then(Value::as_str).unwrap_or_default();
            if let Some(first) = controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} \
                     and {kind}"
                );
                errors.push(FieldError::invalid(&at, owner.clone(), why));
            }
            controller = Some(kind);
        }
    }
    errors
}

/// Checks metadata of an update.
pub fn check_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let at = Path::new("metadata");
    let mut errors = check_any(new);
    if value::is_deleting(old) {
        let was = value::finalizers(old);
        let added: Vec<&str> = value::finalizers(new).into_iter().filter(|f| !was.contains(f)).collect();
        if !added.is_empty() {
            errors.push(FieldError::forbidden(
                &at.child("finalizers"),
                format!("no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"),
            ));
        }
    }
    errors
}

/// Refuses an object with what is wrong with it.
pub fn refuse(resource: &Resource, name: &str, errors: &[FieldError]) -> Outcome<()> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid(resource.info.group, resource.info.kind, name, errors).into())
    }
}
