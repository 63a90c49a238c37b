//! Bytes into a Value.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_apimachinery::{GoDuration, Quantity};
use serde_json::{Map, Value};

use super::wire::{Reader, Wire};
use super::{MAX_DEPTH, ProtoError, civil, envelope};
use crate::json::{fill, is_dropped};
use crate::table;
use crate::types::{Field, Kind, Shape, Type};

/// Reads a message into the form in which JSON would have given it. Unknown fields are dropped.
pub fn decode(ty: &Type, bytes: &[u8]) -> Result<Value, ProtoError> {
    object(ty, bytes, MAX_DEPTH)
}

fn object(ty: &Type, bytes: &[u8], depth: usize) -> Result<Value, ProtoError> {
    let mut map = Map::new();
    fields(ty, bytes, &mut map, depth)?;
    fill(ty, &mut map);
    Ok(Value::Object(map))
}

fn fields(ty: &Type, bytes: &[u8], map: &mut Map<String, Value>, depth: usize) -> Result<(), ProtoError> {
    let depth = depth.checked_sub(1).ok_or(ProtoError::TooDeep)?;
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        let Some((_, field)) = ty.tag(tag) else { continue };
        let illegal = || ProtoError::Illegal(format!("{}.{}", ty.name, field.json));
        if let Some(inner) = field.inlined() {
            fields(inner, wire.bytes().ok_or_else(illegal)?, map, depth)?;
            continue;
        }
        match field.shape {
            Shape::One => {
                if let Some(value) = value(field, wire, depth)? {
                    merge(map, field, value);
                }
            }
            Shape::List => {
                let list = map.entry(field.json.as_ref()).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    items(field, wire, list, depth)?;
                }
            }
            Shape::Map => {
                let (key, item) = entry(field, wire.bytes().ok_or_else(illegal)?, depth)?;
                let entries = map.entry(field.json.as_ref()).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(entries) = entries {
                    entries.insert(key, item);
                }
            }
        }
    }
    Ok(())
}

/// A message that comes twice is one message in two parts.
fn merge(map: &mut Map<String, Value>, field: &Field, value: Value) {
    if is_dropped(field, &value) {
        map.remove(field.json.as_ref());
        return;
    }
    match (map.get_mut(field.json.as_ref()), value) {
        (Some(Value::Object(old)), Value::Object(new)) if field.message().is_some() => old.extend(new),
        (_, value) => _ = map.insert(field.json.clone().into_owned(), value),
    }
}

fn items(field: &Field, wire: Wire<'_>, list: &mut Vec<Value>, depth: usize) -> Result<(), ProtoError> {
    if let (Kind::Bool | Kind::Int32 | Kind::Int64, Wire::Bytes(packed)) = (&field.kind, wire) {
        let mut reader = Reader::new(packed);
        while !reader.is_empty() {
            let item = Wire::Varint(reader.varint()?);
            list.extend(value(field, item, depth)?);
        }
        return Ok(());
    }
    list.push(value(field, wire, depth)?.unwrap_or(Value::Null));
    Ok(())
}

fn entry(field: &Field, bytes: &[u8], depth: usize) -> Result<(String, Value), ProtoError> {
    let (mut key, mut item) = (String::new(), None);
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        match (tag, wire) {
            (1, Wire::Bytes(name)) => key = text(name),
            (2, wire) => item = value(field, wire, depth)?,
            _ => {}
        }
    }
    Ok((key, item.unwrap_or_else(|| crate::json::zero_of_kind(&field.kind))))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One value; `None` where an empty message stands for null.
fn value(field: &Field, wire: Wire<'_>, depth: usize) -> Result<Option<Value>, ProtoError> {
    let illegal = || ProtoError::Illegal(field.json.clone().into_owned());
    let bytes = || wire.bytes().ok_or_else(illegal);
    Ok(Some(match &field.kind {
        Kind::String => Value::String(text(bytes()?)),
        Kind::Bytes => Value::String(STANDARD.encode(bytes()?)),
        Kind::Bool => Value::Bool(wire.int().ok_or_else(illegal)? != 0),
        Kind::Int32 | Kind::Int64 => Value::from(wire.int().ok_or_else(illegal)?),
        Kind::Double => match wire {
            Wire::Fixed64(bits) => Value::from(f64::from_bits(bits)),
            Wire::Fixed32(bits) => Value::from(f64::from(f32::from_bits(bits))),
            _ => return Err(illegal()),
        },
        Kind::Message(ty) => {
            let mut value = object(ty, bytes()?, depth)?;
            if let (true, Value::Object(map)) = (field.typed, &mut value) {
                ty.set_kind(map);
            }
            value
        }
        kind => return wrapped(field, kind, bytes()?, depth),
    }))
}

fn wrapped(field: &Field, kind: &Kind, bytes: &[u8], depth: usize) -> Result<Option<Value>, ProtoError> {
    let mut parts: [Option<Wire<'_>>; 3] = [None; 3];
    let mut reader = Reader::new(bytes);
    let mut list = Vec::new();
    while let Some((tag, wire)) = reader.next()? {
        match (kind, tag, wire) {
            (Kind::Strings, 1, Wire::Bytes(item)) | (Kind::SchemaOrStrings, 2, Wire::Bytes(item)) => {
                list.push(Value::String(text(item)));
            }
            (Kind::SchemaOrArray, 2, Wire::Bytes(item)) => {
                list.push(object(table::json_schema(), item, depth)?)
            }
            (_, 1..=3, wire) => parts[tag as usize - 1] = Some(wire),
            _ => {}
        }
    }
    let bad = || ProtoError::Value(field.json.clone().into_owned());
    let int = |at: usize| parts[at].and_then(Wire::int);
    let raw = |at: usize| parts[at].and_then(Wire::bytes);
    Ok(match kind {
        Kind::Quantity => {
            let given = raw(0).map_or_else(|| "0".to_owned(), text);
            let given = if given.is_empty() { "0".to_owned() } else { given };
            Some(Value::String(Quantity::parse(&given).map_err(|_| bad())?.to_string()))
        }
        Kind::IntOrString => Some(match int(0) {
            Some(1) => Value::String(raw(2).map(text).unwrap_or_default()),
            _ => Value::from(int(1).unwrap_or(0)),
        }),
        Kind::Time | Kind::MicroTime if parts[0].is_none() && parts[1].is_none() => None,
        Kind::Time => Some(Value::String(civil::seconds(int(0).unwrap_or(0)))),
        Kind::MicroTime => Some(Value::String(civil::micros(int(0).unwrap_or(0), int(1).unwrap_or(0)))),
        Kind::Duration => Some(Value::String(GoDuration::from_nanos(int(0).unwrap_or(0)).to_string())),
        Kind::Raw | Kind::Json => match raw(0) {
            None | Some([]) => None,
            Some(given) => Some(raw_object(given).ok_or_else(bad)?).filter(|value| !value.is_null()),
        },
        Kind::Strings => Some(Value::Array(list)),
        Kind::SchemaOrArray | Kind::SchemaOrStrings => Some(match raw(0) {
            Some(schema) => object(table::json_schema(), schema, depth)?,
            None => Value::Array(list),
        }),
        Kind::SchemaOrBool => Some(match raw(1) {
            Some(schema) => object(table::json_schema(), schema, depth)?,
            None => Value::Bool(int(0).unwrap_or(0) != 0),
        }),
        _ => None,
    })
}

/// An object inside of an object: JSON, or protobuf in an envelope.
fn raw_object(bytes: &[u8]) -> Option<Value> {
    let Ok(inner) = envelope::split_envelope(bytes) else { return serde_json::from_slice(bytes).ok() };
    let (group, version) = inner.api_version.split_once('/').unwrap_or(("", &inner.api_version));
    let ty = table::lookup(group, version, &inner.kind)?;
    let mut value = decode(&ty, inner.raw).ok()?;
    let map = value.as_object_mut()?;
    map.insert("apiVersion".into(), Value::String(inner.api_version.clone()));
    map.insert("kind".into(), Value::String(inner.kind));
    Some(value)
}
