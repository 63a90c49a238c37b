//! Strategic merge: objects are merged field by field, lists by the key that the table names, and directives in the
//! patch say what plain merging can not.

use serde_json::{Map, Value};

use super::PatchError;
use super::order::{arrange, identity, place};
use crate::types::{Field, Kind, Shape, Type};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// Lays `patch` over `document`, an object of type `ty`.
pub fn strategic_merge(ty: &Type, document: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::Malformed("cannot unmarshal patch: an object is wanted".into()));
    };
    if !document.is_object() {
        *document = Value::Object(Map::new());
    }
    if let Value::Object(document) = document {
        merge_object(Some(ty), document, patch)?;
    }
    Ok(())
}

/// Merges `patch` into `target`. Without a type only the directives of objects have a meaning.
fn merge_object(
    ty: Option<&Type>,
    target: &mut Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<(), PatchError> {
    match directive(patch)? {
        Some("replace") => {
            target.clear();
            target.extend(
                patch.iter().filter(|(key, _)| *key != DIRECTIVE).map(|(k, v)| (k.clone(), v.clone())),
            );
            return Ok(());
        }
        Some("delete") => {
            target.clear();
            return Ok(());
        }
        _ => {}
    }
    retain_keys(target, patch)?;
    for (key, value) in patch {
        if key == DIRECTIVE || key == RETAIN_KEYS || key.starts_with(ORDER) {
            continue;
        }
        if let Some(name) = key.strip_prefix(DELETE_FROM) {
            delete_from(target, name, value)?;
            continue;
        }
        if value.is_null() {
            target.remove(key);
            continue;
        }
        let field = ty.and_then(|ty| ty.field(key));
        let order = patch.get(&format!("{ORDER}{key}"));
        merge_value(field, target, key, value, order)?;
    }
    for (key, order) in patch {
        let Some(name) = key.strip_prefix(ORDER).filter(|name| !patch.contains_key(*name)) else { continue };
        let field = ty.and_then(|ty| ty.field(name));
        reorder(field, target, name, order)?;
    }
    Ok(())
}

fn directive(patch: &Map<String, Value>) -> Result<Option<&str>, PatchError> {
    match patch.get(DIRECTIVE) {
        None => Ok(None),
        Some(Value::String(text)) if matches!(text.as_str(), "replace" | "delete" | "merge") => {
            Ok(Some(text))
        }
        Some(other) => Err(PatchError::Malformed(format!("unknown patch type found: {other}"))),
    }
}

fn retain_keys(target: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), PatchError> {
    let Some(keys) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keys) = keys else {
        return Err(PatchError::Malformed(format!("{RETAIN_KEYS} must be a list")));
    };
    let is_kept = |name: &str| keys.iter().any(|key| key == name);
    let own = |key: &str| !key.starts_with('$');
    if let Some((key, _)) = patch.iter().find(|(key, value)| own(key) && !value.is_null() && !is_kept(key)) {
        return Err(PatchError::Malformed(format!(
            "{RETAIN_KEYS} list does not contain field {key} of the patch"
        )));
    }
    target.retain(|key, _| is_kept(key));
    Ok(())
}

fn delete_from(target: &mut Map<String, Value>, name: &str, gone: &Value) -> Result<(), PatchError> {
    let Value::Array(gone) = gone else {
        return Err(PatchError::Malformed(format!("{DELETE_FROM}{name} must be a list")));
    };
    if let Some(Value::Array(list)) = target.get_mut(name) {
        list.retain(|item| !gone.contains(item));
    }
    Ok(())
}

fn merge_value(
    field: Option<&Field>,
    target: &mut Map<String, Value>,
    key: &str,
    value: &Value,
    order: Option<&Value>,
) -> Result<(), PatchError> {
    let replaces = field.is_some_and(|field| field.patch.replace);
    match value {
        Value::Object(patch) if !replaces => {
            let slot = target.entry(key).or_insert_with(|| Value::Object(Map::new()));
            if !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            if let Value::Object(slot) = slot {
                return merge_under(field, slot, patch);
            }
            Ok(())
        }
        Value::Array(patch) if field.is_some_and(|field| field.patch.merge) && !replaces => {
            let slot = target.entry(key).or_insert_with(|| Value::Array(Vec::new()));
            if !slot.is_array() {
                *slot = Value::Array(Vec::new());
            }
            if let (Value::Array(list), Some(field)) = (slot, field) {
                *list = merge_list(field, std::mem::take(list), patch, order)?;
            }
            Ok(())
        }
        other => {
            target.insert(key.to_owned(), other.clone());
            Ok(())
        }
    }
}

/// Merges into the object that a field holds: a struct, or a map of them.
fn merge_under(
    field: Option<&Field>,
    slot: &mut Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<(), PatchError> {
    match field {
        Some(field) if field.shape == Shape::Map && field.message().is_some() => {
            // each value of the map is of the field's type
            let entries = Type::default();
            for (key, value) in patch {
                match value {
                    Value::Object(inner) => {
                        let entry = slot.entry(key.as_str()).or_insert_with(|| Value::Object(Map::new()));
                        if let Value::Object(entry) = entry {
                            merge_object(field.message(), entry, inner)?;
                        }
                    }
                    other => {
                        let one = Map::from_iter([(key.clone(), other.clone())]);
                        merge_object(Some(&entries), slot, &one)?;
                    }
                }
            }
            Ok(())
        }
        Some(Field { shape: Shape::One, kind: Kind::Message(ty), .. }) => merge_object(Some(ty), slot, patch),
        _ => merge_object(None, slot, patch),
    }
}

fn merge_list(
    field: &Field,
    before: Vec<Value>,
    patch: &[Value],
    order: Option<&Value>,
) -> Result<Vec<Value>, PatchError> {
    let key = field.merge_key.as_deref();
    let mut merged = before.clone();
    let mut items = Vec::new();
    let mut replaced = false;
    for item in patch {
        let directive = item.as_object().map(directive).transpose()?.flatten();
        match directive {
            Some("replace") => replaced = true,
            Some("delete") => {
                required(item, key)?;
                merged.retain(|other| identity(other, key) != identity(item, key));
            }
            _ => items.push(item),
        }
    }
    if replaced {
        return Ok(items.into_iter().cloned().collect());
    }
    for item in items {
        required(item, key)?;
        let at = place(&merged, item, key);
        match (at.and_then(|at| merged.get_mut(at)), item) {
            (Some(Value::Object(found)), Value::Object(inner)) => {
                merge_object(field.message(), found, inner)?
            }
            (Some(_), _) => {}
            (None, Value::Object(inner)) => {
                let mut fresh = Map::new();
                merge_object(field.message(), &mut fresh, inner)?;
                merged.push(Value::Object(fresh));
            }
            (None, other) => merged.push(other.clone()),
        }
    }
    let wanted = match order {
        Some(Value::Array(order)) => order.as_slice(),
        _ => patch,
    };
    Ok(arrange(merged, wanted, &before, key))
}

fn required(item: &Value, key: Option<&str>) -> Result<(), PatchError> {
    match key {
        Some(key) if item.get(key).is_none() => {
            Err(PatchError::MissingMergeKey { item: item.to_string(), key: key.to_owned() })
        }
        _ => Ok(()),
    }
}

fn reorder(
    field: Option<&Field>,
    target: &mut Map<String, Value>,
    name: &str,
    order: &Value,
) -> Result<(), PatchError> {
    let Value::Array(order) = order else {
        return Err(PatchError::Malformed(format!("{ORDER}{name} must be a list")));
    };
    if let (Some(Value::Array(list)), Some(field)) = (target.get_mut(name), field) {
        let before = list.clone();
        *list = arrange(std::mem::take(list), order, &before, field.merge_key.as_deref());
    }
    Ok(())
}
