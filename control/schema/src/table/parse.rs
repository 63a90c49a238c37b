//! One message of the table out of its lines. The text is our own, so what it does not know is taken for a text.

use std::borrow::Cow;

use crate::types::{Field, Kind, ListType, Name, PatchStrategy, Shape, Type, TypeRef};

pub(super) fn message(name: &'static str, marks: &str, lines: &'static str) -> Type {
    let mut fields = Vec::new();
    if marks.contains('k') {
        for json in ["kind", "apiVersion"] {
            fields.push(Field { json: json.into(), omitempty: true, ..Field::default() });
        }
    }
    fields.extend(lines.lines().map(field));
    let mut ty = Type::new(name, fields);
    ty.is_root = marks.contains('k');
    ty.is_atomic = marks.contains('a');
    ty
}

fn field(line: &'static str) -> Field {
    let mut columns = line.trim_start_matches('\t').split('\t');
    // an inlined struct has an empty name, so its tab went with the indent
    let inline = line.starts_with("\t\t");
    let json = if inline { "" } else { columns.next().unwrap_or("") };
    let tag = columns.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let flags = columns.next().unwrap_or("");
    let (shape, kind) = shape(columns.next().unwrap_or(""));
    let has = |flag: char| flags.contains(flag);
    let mut field = Field {
        json: Cow::Borrowed(json),
        tag,
        shape,
        kind,
        inline,
        omitempty: has('o'),
        pointer: has('p'),
        omitzero: has('z'),
        required: has('r'),
        ..Field::default()
    };
    for attribute in columns {
        set_attribute(&mut field, attribute);
    }
    field
}

fn set_attribute(field: &mut Field, attribute: &'static str) {
    let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
    match name {
        "atomic" => field.atomic = true,
        "granular" => field.granular = true,
        "typed" => field.typed = true,
        "default" => field.default = serde_json::from_str(value).ok().map(Box::new),
        "list" => {
            let (list, keys) = value.split_once(':').unwrap_or((value, ""));
            field.list = match list {
                "map" => ListType::Map,
                "set" => ListType::Set,
                _ => ListType::Atomic,
            };
            field.keys = keys.split(',').filter(|key| !key.is_empty()).map(Name::Borrowed).collect();
        }
        "patch" => {
            let (strategy, key) = value.split_once(':').map_or((value, None), |(it, key)| (it, Some(key)));
            field.patch = PatchStrategy {
                merge: strategy.contains("merge"),
                retain_keys: strategy.contains("retainKeys"),
                replace: strategy.contains("replace"),
            };
            field.merge_key = key.map(Name::Borrowed);
        }
        _ => {}
    }
}

fn shape(text: &'static str) -> (Shape, Kind) {
    if let Some(one) = text.strip_prefix("[]") {
        return (Shape::List, kind(one));
    }
    if let Some(one) = text.strip_prefix("{}") {
        return (Shape::Map, kind(one));
    }
    (Shape::One, kind(text))
}

fn kind(text: &str) -> Kind {
    match text {
        "bool" => Kind::Bool,
        "int32" => Kind::Int32,
        "int64" => Kind::Int64,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "quantity" => Kind::Quantity,
        "intstr" => Kind::IntOrString,
        "time" => Kind::Time,
        "microtime" => Kind::MicroTime,
        "duration" => Kind::Duration,
        "raw" => Kind::Raw,
        "json" => Kind::Json,
        "strings" => Kind::Strings,
        "schemaOrArray" => Kind::SchemaOrArray,
        "schemaOrBool" => Kind::SchemaOrBool,
        "schemaOrStrings" => Kind::SchemaOrStrings,
        _ => super::place(text).map_or(Kind::String, |place| Kind::Message(TypeRef::Builtin(place))),
    }
}
