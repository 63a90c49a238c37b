//! An object's forms: the bytes at rest, the tree that one request works on, and what goes over the wire.
//!
//! At rest an object is its protobuf form without envelope, without `apiVersion` and `kind`, and without its revision;
//! those are spliced in when it is written out.

use bytes::Bytes;
use coracle_schema::{TypeRef, proto};
use coracle_store::Revision;
use serde_json::Value;

use crate::cache::Object;
use crate::error::{ApiError, Outcome};

/// How objects of one type rest and travel.
#[derive(Clone)]
pub struct Codec {
    ty: TypeRef,
    api_version: String,
    kind: &'static str,
}

impl Codec {
    /// Of a type, shown under this version and kind.
    pub fn new(ty: TypeRef, api_version: String, kind: &'static str) -> Self {
        Self { ty, api_version, kind }
    }

    /// The type.
    pub fn ty(&self) -> &TypeRef {
        &self.ty
    }

    /// `apiVersion` of what it shows.
    pub fn api_version(&self) -> &str {
        &self.api_version
    }

    /// `kind` of what it shows.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The form at rest.
    pub fn encode(&self, value: &Value) -> Bytes {
        proto::encode(&self.ty, value).into()
    }

    /// The tree, complete with version, kind and revision.
    pub fn decode(&self, object: &Object) -> Outcome<Value> {
        let mut value = proto::decode(&self.ty, &object.bytes).map_err(|err| {
            ApiError::internal(format!("stored object {} is unreadable: {err}", object.key))
        })?;
        self.stamp(&mut value, object.revision);
        Ok(value)
    }

    /// Puts version, kind and revision into a tree.
    pub fn stamp(&self, value: &mut Value, revision: Revision) {
        let Some(map) = value.as_object_mut() else { return };
        map.insert("apiVersion".to_owned(), self.api_version.clone().into());
        map.insert("kind".to_owned(), self.kind.into());
        if revision > 0
            && let Some(meta) =
                map.entry("metadata").or_insert_with(|| Value::Object(Default::default())).as_object_mut()
        {
            meta.insert("resourceVersion".to_owned(), revision.to_string().into());
        }
    }

    /// Appends the object as JSON.
    pub fn write_json(&self, bytes: &[u8], revision: Revision, out: &mut Vec<u8>) -> Outcome<()> {
        self.splice(bytes, revision, (&self.api_version, self.kind), out)
    }

    /// Appends the object as an item of a list, which shows neither kind nor version.
    pub fn write_item(&self, bytes: &[u8], revision: Revision, out: &mut Vec<u8>) -> Outcome<()> {
        self.splice(bytes, revision, ("", ""), out)
    }

    fn splice(
        &self,
        bytes: &[u8],
        revision: Revision,
        shown: (&str, &str),
        out: &mut Vec<u8>,
    ) -> Outcome<()> {
        let version = if revision > 0 { revision.to_string() } else { String::new() };
        let splice = proto::Splice { api_version: shown.0, kind: shown.1, resource_version: &version };
        proto::write_json(&self.ty, bytes, splice, out)
            .map_err(|err| ApiError::internal(format!("stored object is unreadable: {err}")))
    }

    /// The object as bare protobuf, with its revision. A second `metadata` field is merged into the first by every
    /// reader of the format, so nothing has to be decoded.
    pub fn write_proto(bytes: &[u8], revision: Revision, out: &mut Vec<u8>) {
        out.extend_from_slice(bytes);
        if revision > 0 {
            let text = revision.to_string();
            let mut meta = Vec::with_capacity(text.len() + 2);
            field_bytes(6, text.as_bytes(), &mut meta);
            field_bytes(1, &meta, out);
        }
    }

    /// All labels.
    pub fn labels<'b>(&self, object: &'b Object) -> Vec<(&'b str, &'b str)> {
        proto::labels(&object.bytes).collect()
    }

    /// The value at a field path, as selectors compare it; absent is empty.
    pub fn field(&self, object: &Object, path: &str) -> String {
        match path {
            "metadata.name" => object.name().to_owned(),
            "metadata.namespace" => object.namespace().to_owned(),
            // Two names under which users select are not where the value stands.
            "source" => self.at(object, "source.component"),
            "status.successful" => self.at(object, "status.succeeded"),
            _ => self.at(object, path),
        }
    }

    fn at(&self, object: &Object, path: &str) -> String {
        let zero = match path {
            "spec.hostNetwork" | "spec.unschedulable" => "false",
            "status.replicas" | "status.succeeded" => "0",
            _ => "",
        };
        proto::read_str(&self.ty, &object.bytes, path).map_or_else(|| zero.to_owned(), Into::into)
    }
}

/// Appends a varint.
pub fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push((n as u8 & 0x7f) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a length-delimited field.
pub fn field_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends a varint field.
pub fn field_varint(number: u32, value: u64, out: &mut Vec<u8>) {
    varint(u64::from(number) << 3, out);
    varint(value, out);
}

/// Four bytes that start every protobuf body.
pub const MAGIC: &[u8] = b"k8s\0";

/// Wraps a message as `runtime.Unknown`, without the four bytes before it.
pub fn unknown(api_version: &str, kind: &str, raw: &[u8], out: &mut Vec<u8>) {
    let mut meta = Vec::with_capacity(api_version.len() + kind.len() + 4);
    field_bytes(1, api_version.as_bytes(), &mut meta);
    field_bytes(2, kind.as_bytes(), &mut meta);
    field_bytes(1, &meta, out);
    field_bytes(2, raw, out);
    field_bytes(3, b"", out);
    field_bytes(4, b"", out);
}
