//! What Go prints for what is absent, and what it leaves out although it is there.

use serde_json::{Map, Value};

use crate::types::{Field, Kind, Shape, Type};

/// What Go prints for a field that has no value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Zero<'t> {
    /// Nothing: the field is left out.
    Nothing,
    /// `null`.
    Null,
    /// `[]`: the items of a list kind.
    EmptyList,
    /// `""`.
    Text,
    /// `"0"`: an amount.
    Amount,
    /// `0`.
    Number,
    /// `false`.
    False,
    /// `"0s"`.
    NoTime,
    /// A struct, with what it prints for its own absent fields.
    Struct(&'t Type),
}

/// What Go prints when `field` is absent.
pub(crate) fn zero(field: &Field) -> Zero<'_> {
    if field.omitzero || field.tag == 0 && field.omitempty {
        return Zero::Nothing;
    }
    let nothing_or = |zero| if field.omitempty { Zero::Nothing } else { zero };
    if field.shape == Shape::List && field.json == "items" {
        return nothing_or(Zero::EmptyList);
    }
    if field.pointer || field.shape != Shape::One {
        return nothing_or(Zero::Null);
    }
    match &field.kind {
        Kind::Message(ty) => Zero::Struct(ty),
        Kind::Time | Kind::MicroTime | Kind::Raw | Kind::Json => Zero::Null,
        Kind::Quantity => Zero::Amount,
        Kind::IntOrString => Zero::Number,
        Kind::Duration => Zero::NoTime,
        Kind::Bytes | Kind::Strings => nothing_or(Zero::Null),
        Kind::String => nothing_or(Zero::Text),
        Kind::Bool => nothing_or(Zero::False),
        Kind::Int32 | Kind::Int64 | Kind::Double => nothing_or(Zero::Number),
        Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings | Kind::Nested(_) => Zero::Null,
    }
}

/// Whether Go prints `field` when it is absent: what [`zero`] tells, without a look at the struct it may be.
pub(crate) fn is_shown(field: &Field) -> bool {
    match &field.kind {
        Kind::Message(_) if field.shape == Shape::One && !field.pointer => {
            !field.omitzero && (field.tag != 0 || !field.omitempty)
        }
        _ => !matches!(zero(field), Zero::Nothing),
    }
}

/// Adds what Go prints for the fields of `ty` that are absent from `map`; nulls are not added.
pub(crate) fn fill(ty: &Type, map: &mut Map<String, Value>) {
    for (_, field) in ty.shown() {
        if let Some(inner) = field.inlined() {
            fill(inner, map);
            continue;
        }
        let value = match zero(field) {
            Zero::Nothing | Zero::Null => continue,
            _ if map.contains_key(field.json.as_ref()) => continue,
            Zero::EmptyList => Value::Array(Vec::new()),
            Zero::Text => Value::String(String::new()),
            Zero::Amount => Value::String("0".into()),
            Zero::Number => Value::from(0),
            Zero::False => Value::Bool(false),
            Zero::NoTime => Value::String("0s".into()),
            Zero::Struct(inner) => empty(inner),
        };
        map.insert(field.json.clone().into_owned(), value);
    }
}

fn empty(ty: &Type) -> Value {
    let mut map = Map::new();
    fill(ty, &mut map);
    Value::Object(map)
}

/// What a null element of a list or map becomes.
pub(crate) fn of_kind(kind: &Kind) -> Value {
    match kind {
        Kind::String | Kind::Bytes => Value::String(String::new()),
        Kind::Bool => Value::Bool(false),
        Kind::Int32 | Kind::Int64 | Kind::Double | Kind::IntOrString => Value::from(0),
        Kind::Quantity => Value::String("0".into()),
        Kind::Duration => Value::String("0s".into()),
        Kind::Message(ty) => empty(ty),
        Kind::Strings => Value::Array(Vec::new()),
        Kind::Time
        | Kind::MicroTime
        | Kind::Raw
        | Kind::Json
        | Kind::SchemaOrArray
        | Kind::SchemaOrBool
        | Kind::SchemaOrStrings
        | Kind::Nested(_) => Value::Null,
    }
}

/// Whether Go would leave this value out when it prints the object, because it cannot tell it from an absent one; or
/// would print null for it once it has been at rest, where an empty list is none.
pub(crate) fn is_dropped(field: &Field, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty() && field.shape == Shape::List,
        Value::Object(map) => map.is_empty() && field.shape == Shape::Map,
        Value::String(text) if text.is_empty() && matches!(field.kind, Kind::Bytes) => true,
        _ if field.pointer || !field.omitempty => false,
        Value::String(text) => text.is_empty() && matches!(field.kind, Kind::String),
        Value::Bool(given) => !given && matches!(field.kind, Kind::Bool),
        Value::Number(number) => {
            matches!(field.kind, Kind::Int32 | Kind::Int64 | Kind::Double) && number.as_f64() == Some(0.0)
        }
    }
}
