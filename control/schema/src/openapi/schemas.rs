//! The definitions of types.

use std::collections::BTreeSet;
use std::io::Write;

use serde_json::{Map, Value, json};

use super::descriptions::Descriptions;
use super::{Flavor, members};
use crate::json::{Zero, zero};
use crate::table::{self, definition_name};
use crate::types::{Field, Kind, ListType, Shape, Type, TypeRef};

/// The types a document speaks of.
pub(super) struct Definitions<'d> {
    flavor: Flavor,
    descriptions: &'d Descriptions,
    /// Messages, by their names in the table.
    messages: BTreeSet<String>,
    /// Types that are no messages, by the names of their definitions.
    plain: BTreeSet<&'static str>,
}

/// A type whose kind, apiVersion and metadata are described as those of any other.
const EVERY_ROOT: &str = "io.k8s.api.core.v1.Pod";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const DURATION: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Duration";
const FIELDS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const JSON: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON";
const OR_ARRAY: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray";
const OR_BOOL: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool";
const OR_STRINGS: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray";

impl<'d> Definitions<'d> {
    pub(super) fn new(flavor: Flavor, descriptions: &'d Descriptions) -> Self {
        Self { flavor, descriptions, messages: BTreeSet::new(), plain: BTreeSet::new() }
    }

    /// A reference to a kind, which from now on is part of the document.
    pub(super) fn kind(&mut self, group: &str, version: &str, kind: &str) -> Option<Value> {
        let ty = table::lookup(group, version, kind)?;
        self.collect(&ty);
        Some(self.reference(&definition_name(&ty.name)))
    }

    fn reference(&self, definition: &str) -> Value {
        let place = if self.flavor == Flavor::V2 { "definitions" } else { "components/schemas" };
        json!({"$ref": format!("#/{place}/{definition}")})
    }

    fn collect(&mut self, ty: &Type) {
        if !self.messages.insert(ty.name.clone().into_owned()) {
            return;
        }
        ty.each_field(&mut |field| match &field.kind {
            Kind::Message(inner) => self.collect(inner),
            kind => {
                if let Some(name) = plain_name(kind, &field.json) {
                    self.plain.insert(name);
                }
            }
        });
    }

    /// Writes every definition, as members of an object.
    pub(super) fn write(self, out: &mut impl Write) -> std::io::Result<()> {
        let mut names: Vec<(String, Option<TypeRef>)> =
            self.messages.iter().map(|name| (definition_name(name), table::message(name))).collect();
        names.extend(self.plain.iter().map(|name| ((*name).to_owned(), None)));
        names.sort_by(|(left, _), (right, _)| left.cmp(right));
        members(
            out,
            names.into_iter().map(|(name, ty)| {
                let schema = match ty {
                    Some(ty) => self.message(&name, &ty),
                    None => self.plain(&name),
                };
                (name, schema)
            }),
        )
    }

    fn message(&self, definition: &str, ty: &Type) -> Value {
        let mut schema = Map::new();
        if let Some(text) = self.descriptions.of(definition) {
            schema.insert("description".into(), Value::String(text));
        }
        schema.insert("type".into(), json!("object"));
        let (mut required, mut properties) = (Vec::new(), Map::new());
        ty.each_field(&mut |field| {
            if field.required {
                required.push(Value::String(field.json.clone().into_owned()));
            }
            properties.insert(field.json.clone().into_owned(), self.property(definition, ty, field));
        });
        if !required.is_empty() {
            schema.insert("required".into(), Value::Array(required));
        }
        if !properties.is_empty() {
            schema.insert("properties".into(), Value::Object(properties));
        }
        if ty.is_atomic {
            schema.insert("x-kubernetes-map-type".into(), json!("atomic"));
        }
        if ty.is_root
            && let Some((package, rest)) = ty.name.split_once('/')
            && let Some((version, kind)) = rest.split_once('.')
        {
            let group = if package == "meta" { "" } else { table::group_of(package) };
            let gvk = json!([{"group": group, "kind": kind, "version": version}]);
            schema.insert("x-kubernetes-group-version-kind".into(), gvk);
        }
        Value::Object(schema)
    }

    fn property(&self, definition: &str, ty: &Type, field: &Field) -> Value {
        let mut schema = match field.shape {
            Shape::One => self.one(&field.kind, &field.json, default(field)),
            Shape::List => {
                let items = self.one(&field.kind, &field.json, element_default(&field.kind));
                Map::from_iter([("type".into(), json!("array")), ("items".into(), Value::Object(items))])
            }
            Shape::Map => {
                let items = self.one(&field.kind, &field.json, element_default(&field.kind));
                Map::from_iter([
                    ("type".into(), json!("object")),
                    ("additionalProperties".into(), Value::Object(items)),
                ])
            }
        };
        let own = self.descriptions.field(definition, &field.json);
        let common = || ty.is_root.then(|| self.descriptions.field(EVERY_ROOT, &field.json)).flatten();
        let text = own.or_else(|| self.inlined_text(ty, &field.json)).or_else(common);
        if let Some(text) = text {
            schema.insert("description".into(), Value::String(text));
        }
        mark(&mut schema, field);
        Value::Object(schema)
    }

    /// The text of a field of an inlined struct, where the library keeps it with that struct.
    fn inlined_text(&self, ty: &Type, name: &str) -> Option<String> {
        let inner = ty.fields.iter().filter_map(Field::inlined).find(|inner| inner.field(name).is_some())?;
        self.descriptions.field(&definition_name(&inner.name), name)
    }

    fn one(&self, kind: &Kind, name: &str, default: Option<Value>) -> Map<String, Value> {
        let referenced = match kind {
            Kind::Message(ty) => Some(definition_name(&ty.name)),
            kind => plain_name(kind, name).map(str::to_owned),
        };
        let mut schema = match (referenced, &default, self.flavor) {
            // in version 3 nothing may stand beside a reference
            (Some(definition), _, Flavor::V3) => {
                Map::from_iter([("allOf".into(), json!([self.reference(&definition)]))])
            }
            (Some(definition), _, Flavor::V2) => object(self.reference(&definition)),
            (None, ..) => object(match kind {
                Kind::Bool => json!({"type": "boolean"}),
                Kind::Int32 => json!({"type": "integer", "format": "int32"}),
                Kind::Int64 => json!({"type": "integer", "format": "int64"}),
                Kind::Double => json!({"type": "number", "format": "double"}),
                Kind::Bytes => json!({"type": "string", "format": "byte"}),
                Kind::Strings => json!({"type": "array", "items": {"type": "string"}}),
                _ => json!({"type": "string"}),
            }),
        };
        if let (Some(default), Flavor::V3) = (default, self.flavor) {
            schema.insert("default".into(), default);
        }
        schema
    }

    fn plain(&self, definition: &str) -> Value {
        let v3 = self.flavor == Flavor::V3;
        let mut schema = object(match definition {
            QUANTITY if v3 => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            INT_OR_STRING if v3 => {
                json!({"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"})
            }
            INT_OR_STRING => json!({"type": "string", "format": "int-or-string"}),
            TIME | MICRO_TIME => json!({"type": "string", "format": "date-time"}),
            QUANTITY | DURATION => json!({"type": "string"}),
            FIELDS | RAW => json!({"type": "object"}),
            _ => json!({}),
        });
        if let Some(text) = self.descriptions.of(definition) {
            schema.insert("description".into(), Value::String(text));
        }
        Value::Object(schema)
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The definition of a type that is no message and no JSON scalar.
fn plain_name(kind: &Kind, field: &str) -> Option<&'static str> {
    Some(match kind {
        Kind::Quantity => QUANTITY,
        Kind::IntOrString => INT_OR_STRING,
        Kind::Time => TIME,
        Kind::MicroTime => MICRO_TIME,
        Kind::Duration => DURATION,
        Kind::Raw => RAW,
        Kind::Json if field == "fieldsV1" => FIELDS,
        Kind::Json => JSON,
        Kind::SchemaOrArray => OR_ARRAY,
        Kind::SchemaOrBool => OR_BOOL,
        Kind::SchemaOrStrings => OR_STRINGS,
        _ => return None,
    })
}

/// The default a field shows: the table's, or the zero that Go puts there.
fn default(field: &Field) -> Option<Value> {
    if let Some(default) = field.default.as_deref() {
        return Some(default.clone());
    }
    match zero(field) {
        _ if field.omitzero || field.pointer => None,
        Zero::Struct(_) => Some(json!({})),
        Zero::Text => Some(json!("")),
        Zero::Number if matches!(field.kind, Kind::IntOrString) => None,
        Zero::Number => Some(json!(0)),
        Zero::False => Some(json!(false)),
        _ => None,
    }
}

fn element_default(kind: &Kind) -> Option<Value> {
    match kind {
        Kind::Message(_) => Some(json!({})),
        Kind::String => Some(json!("")),
        Kind::Int32 | Kind::Int64 => Some(json!(0)),
        _ => None,
    }
}

fn mark(schema: &mut Map<String, Value>, field: &Field) {
    let mut set = |name: &str, value: Value| schema.insert(format!("x-kubernetes-{name}"), value);
    match field.list {
        ListType::Unset => {}
        ListType::Atomic => _ = set("list-type", json!("atomic")),
        ListType::Set => _ = set("list-type", json!("set")),
        ListType::Map => {
            set("list-type", json!("map"));
            set("list-map-keys", json!(field.keys));
        }
    }
    if field.atomic {
        set("map-type", json!("atomic"));
    }
    if field.granular {
        set("map-type", json!("granular"));
    }
    if let Some(key) = &field.merge_key {
        set("patch-merge-key", json!(key));
    }
    let strategies = [
        ("merge", field.patch.merge),
        ("retainKeys", field.patch.retain_keys),
        ("replace", field.patch.replace),
    ];
    let strategies: Vec<&str> = strategies.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    if !strategies.is_empty() {
        set("patch-strategy", json!(strategies.join(",")));
    }
}
