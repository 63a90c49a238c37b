//! A Value into bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_apimachinery::GoDuration;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::wire::{put_bytes, put_double, put_int, put_message};
use crate::table;
use crate::types::{Field, Kind, Shape, Type};

/// Writes an object for rest: no envelope, no resourceVersion. Equal objects give equal bytes.
///
/// The value must be in the form of [`crate::json::decode`]; what is not of its field's type is left out.
pub fn encode(ty: &Type, value: &Value) -> Vec<u8> {
    encode_root(ty, value, true)
}

/// Writes an object with its resourceVersion, for a client. No envelope.
pub fn encode_with_version(ty: &Type, value: &Value) -> Vec<u8> {
    encode_root(ty, value, false)
}

fn encode_root(ty: &Type, value: &Value, at_rest: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let Value::Object(map) = value else { return out };
    for field in &ty.fields {
        let is_meta = at_rest && ty.is_root && field.json == "metadata";
        match (is_meta, field.message(), map.get(field.json.as_ref())) {
            (true, Some(meta), Some(Value::Object(given))) if given.contains_key("resourceVersion") => {
                let mut given = given.clone();
                given.remove("resourceVersion");
                nested(&mut out, field, meta, &given);
            }
            _ => one_field(&mut out, field, map),
        }
    }
    out
}

fn message(out: &mut Vec<u8>, ty: &Type, map: &Map<String, Value>) {
    for field in &ty.fields {
        one_field(out, field, map);
    }
}

fn one_field(out: &mut Vec<u8>, field: &Field, map: &Map<String, Value>) {
    if field.tag == 0 {
        return;
    }
    if let Some(inner) = field.inlined() {
        nested(out, field, inner, map);
        return;
    }
    let Some(value) = map.get(field.json.as_ref()) else { return };
    match (field.shape, value) {
        (_, Value::Null) => {}
        (Shape::One, value) => match (&field.kind, value) {
            (Kind::Message(ty), Value::Object(given)) => nested(out, field, ty, given),
            _ if !field.pointer && is_zero(&field.kind, value) => {}
            _ => single(out, field.tag, &field.kind, value),
        },
        (Shape::List, Value::Array(list)) => {
            for item in list {
                single(out, field.tag, &field.kind, item);
            }
        }
        (Shape::Map, Value::Object(entries)) => {
            for (key, item) in entries {
                put_message(out, field.tag, |out| {
                    put_bytes(out, 1, key.as_bytes());
                    single(out, 2, &field.kind, item);
                });
            }
        }
        _ => {}
    }
}

/// A struct; an empty one that is no pointer in Go is as good as absent.
fn nested(out: &mut Vec<u8>, field: &Field, ty: &Type, map: &Map<String, Value>) {
    let before = out.len();
    let len = put_message(out, field.tag, |out| message(out, ty, map));
    if len == 0 && !field.pointer {
        out.truncate(before);
    }
}

fn is_zero(kind: &Kind, value: &Value) -> bool {
    match (kind, value) {
        (Kind::String | Kind::Bytes, Value::String(text)) => text.is_empty(),
        (Kind::Bool, Value::Bool(given)) => !given,
        (Kind::Int32 | Kind::Int64 | Kind::Double, Value::Number(number)) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

fn single(out: &mut Vec<u8>, tag: u32, kind: &Kind, value: &Value) {
    match (kind, value) {
        (Kind::String, Value::String(text)) => put_bytes(out, tag, text.as_bytes()),
        (Kind::Bool, Value::Bool(given)) => put_int(out, tag, i64::from(*given)),
        (Kind::Int32 | Kind::Int64, Value::Number(number)) => put_int(out, tag, number.as_i64().unwrap_or(0)),
        (Kind::Double, Value::Number(number)) => put_double(out, tag, number.as_f64().unwrap_or(0.0)),
        (Kind::Bytes, Value::String(text)) => {
            put_bytes(out, tag, &STANDARD.decode(text).unwrap_or_default());
        }
        (Kind::Message(ty), Value::Object(map)) => {
            put_message(out, tag, |out| message(out, ty, map));
        }
        (Kind::Nested(_), _) => {} // never in protobuf
        _ => {
            put_message(out, tag, |out| wrapped(out, kind, value));
        }
    }
}

/// The content of the messages that stand for one JSON value.
fn wrapped(out: &mut Vec<u8>, kind: &Kind, value: &Value) {
    match (kind, value) {
        (Kind::Quantity, Value::String(text)) => put_bytes(out, 1, text.as_bytes()),
        (Kind::IntOrString, Value::String(text)) => {
            put_int(out, 1, 1);
            put_int(out, 2, 0);
            put_bytes(out, 3, text.as_bytes());
        }
        (Kind::IntOrString, Value::Number(number)) => {
            put_int(out, 1, 0);
            put_int(out, 2, number.as_i64().unwrap_or(0));
            put_bytes(out, 3, b"");
        }
        (Kind::Time | Kind::MicroTime, Value::String(text)) => {
            if let Ok(at) = text.parse::<Timestamp>() {
                put_int(out, 1, at.as_second());
                put_int(out, 2, i64::from(at.subsec_nanosecond()));
            }
        }
        (Kind::Duration, Value::String(text)) => {
            put_int(out, 1, GoDuration::parse(text).map_or(0, |it| it.nanos()));
        }
        (Kind::Raw | Kind::Json, value) => put_bytes(out, 1, value.to_string().as_bytes()),
        (Kind::Strings, Value::Array(list)) => texts(out, 1, list),
        (Kind::SchemaOrArray | Kind::SchemaOrStrings, Value::Object(map)) => schema(out, 1, map),
        (Kind::SchemaOrArray, Value::Array(list)) => {
            for item in list.iter().filter_map(Value::as_object) {
                schema(out, 2, item);
            }
        }
        (Kind::SchemaOrStrings, Value::Array(list)) => texts(out, 2, list),
        (Kind::SchemaOrBool, Value::Bool(given)) => put_int(out, 1, i64::from(*given)),
        (Kind::SchemaOrBool, Value::Object(map)) => {
            put_int(out, 1, 1);
            schema(out, 2, map);
        }
        _ => {}
    }
}

fn texts(out: &mut Vec<u8>, tag: u32, list: &[Value]) {
    for text in list.iter().filter_map(Value::as_str) {
        put_bytes(out, tag, text.as_bytes());
    }
}

fn schema(out: &mut Vec<u8>, tag: u32, map: &Map<String, Value>) {
    put_message(out, tag, |out| message(out, table::json_schema(), map));
}
