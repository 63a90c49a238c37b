//! Short words for reading and filling JSON trees. Reading goes by `tree["field"]`, which is null for what is absent.

use serde_json::{Map, Value};

/// A string, or empty.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A whole number, or zero.
pub fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// Whether it is true.
pub fn flag(value: &Value) -> bool {
    value.as_bool().unwrap_or_default()
}

/// The items of a list, or none.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The entries of a map, or none.
pub fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// Whether it is there: neither null nor an empty string, list or map.
pub fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

/// Sets a field that is absent; null sets nothing.
pub fn default(object: &mut Value, field: &str, value: impl Into<Value>) {
    let value = value.into();
    if let Some(map) = object.as_object_mut()
        && map.get(field).is_none_or(Value::is_null)
        && !value.is_null()
    {
        map.insert(field.to_owned(), value);
    }
}

/// Sets a field that is absent, an empty string or zero: one whose Go form cannot tell these apart.
pub fn default_zero(object: &mut Value, field: &str, value: impl Into<Value>) {
    let zero = |value: &Value| value.as_str() == Some("") || value.as_i64() == Some(0);
    if let Some(map) = object.as_object_mut()
        && map.get(field).is_none_or(|value| value.is_null() || zero(value))
    {
        map.insert(field.to_owned(), value.into());
    }
}

/// The map at a field, made when it is absent; `None` when the tree has something else there.
pub fn map<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Map<String, Value>> {
    default(object, field, Map::new());
    object.get_mut(field)?.as_object_mut()
}

/// What is at a field, made an empty map when it is absent.
pub fn made<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    default(object, field, Map::new());
    object.get_mut(field)
}

/// Does something to each item of the list at a field.
pub fn each(object: &mut Value, field: &str, mut change: impl FnMut(&mut Value)) {
    for item in object.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
        change(item);
    }
}

/// Does something to what is at a field, if it is a map.
pub fn with(object: &mut Value, field: &str, change: impl FnOnce(&mut Value)) {
    if let Some(value) = object.get_mut(field)
        && value.is_object()
    {
        change(value);
    }
}

/// Takes a field away.
pub fn remove(object: &mut Value, field: &str) -> Option<Value> {
    object.as_object_mut()?.remove(field)
}

/// Gives a field the value it has in `from`.
pub fn copy(to: &mut Value, from: &Value, field: &str) {
    if let Some(map) = to.as_object_mut() {
        match from.get(field) {
            Some(value) => {
                map.insert(field.to_owned(), value.clone());
            }
            None => {
                map.remove(field);
            }
        }
    }
}

/// Brings an old field and the list that came after it into agreement: the field is the list's first item (or the
/// `inner` field of it), and where they differ the old field is meant.
pub fn first_of_list(object: &mut Value, field: &str, list_field: &str, inner: Option<&str>) {
    let first = list(&object[list_field]).first().map(|item| match inner {
        Some(inner) => text(&item[inner]).to_owned(),
        None => text(item).to_owned(),
    });
    let single = text(&object[field]).to_owned();
    match (single.is_empty(), first) {
        (true, Some(first)) => object[field] = first.into(),
        (false, first) if first.as_deref() != Some(&single) => {
            object[list_field] = match inner {
                Some(inner) => serde_json::json!([{ inner: single }]),
                None => serde_json::json!([single]),
            };
        }
        _ => {}
    }
}
