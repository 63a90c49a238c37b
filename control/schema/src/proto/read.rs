//! Single fields out of bytes at rest, by skipping over the others: what selectors and indices need.

use std::borrow::Cow;

use super::wire::{Reader, Wire};
use crate::types::{Kind, Shape, Type};

/// Metadata is field 1 of every root kind; these are fields of it.
const METADATA: u32 = 1;
const LABELS: u32 = 11;
const ANNOTATIONS: u32 = 12;

/// The text of one field, by its path: `spec.nodeName`, `status.phase`. Numbers and bools are given as text.
/// `None`: not there, or no scalar.
pub fn read_str<'b>(ty: &Type, bytes: &'b [u8], path: &str) -> Option<Cow<'b, str>> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    for field in &ty.fields {
        if let Some(inner) = field.inlined() {
            if inner.field(name).is_some() {
                return read_str(inner, find(bytes, field.tag)?.bytes()?, path);
            }
        } else if field.json == name && field.shape == Shape::One {
            let found = find(bytes, field.tag)?;
            return match (&field.kind, rest) {
                (Kind::Message(inner), Some(rest)) => read_str(inner, found.bytes()?, rest),
                (Kind::String, None) => std::str::from_utf8(found.bytes()?).ok().map(Cow::Borrowed),
                (Kind::Bool, None) => Some(Cow::Borrowed(if found.int()? == 0 { "false" } else { "true" })),
                (Kind::Int32 | Kind::Int64, None) => Some(Cow::Owned(found.int()?.to_string())),
                (Kind::Quantity, None) => {
                    std::str::from_utf8(find(found.bytes()?, 1)?.bytes()?).ok().map(Cow::Borrowed)
                }
                _ => None,
            };
        }
    }
    None
}

/// The last value of a field: what counts when it comes more than once.
fn find(bytes: &[u8], tag: u32) -> Option<Wire<'_>> {
    let mut reader = Reader::new(bytes);
    let mut found = None;
    while let Ok(Some((at, wire))) = reader.next() {
        if at == tag {
            found = Some(wire);
        }
    }
    found
}

/// Names of an object at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meta<'b> {
    /// Its name.
    pub name: &'b str,
    /// Its namespace; empty for what has none.
    pub namespace: &'b str,
    /// Its uid.
    pub uid: &'b str,
    /// Counts changes of what is wanted.
    pub generation: i64,
    /// Whether it is being deleted.
    pub is_terminating: bool,
}

/// The names of an object at rest.
pub fn read_meta(bytes: &[u8]) -> Meta<'_> {
    let mut meta = Meta::default();
    let mut reader = Reader::new(find(bytes, METADATA).and_then(Wire::bytes).unwrap_or_default());
    while let Ok(Some((tag, wire))) = reader.next() {
        let text = || wire.bytes().and_then(|it| std::str::from_utf8(it).ok()).unwrap_or_default();
        match tag {
            1 => meta.name = text(),
            3 => meta.namespace = text(),
            5 => meta.uid = text(),
            7 => meta.generation = wire.int().unwrap_or_default(),
            9 => meta.is_terminating = true,
            _ => {}
        }
    }
    meta
}

/// The labels of an object at rest.
pub fn labels(bytes: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    metadata_map(bytes, LABELS)
}

/// The annotations of an object at rest.
pub fn annotations(bytes: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    metadata_map(bytes, ANNOTATIONS)
}

fn metadata_map(bytes: &[u8], wanted: u32) -> impl Iterator<Item = (&str, &str)> {
    let mut reader = Reader::new(find(bytes, METADATA).and_then(Wire::bytes).unwrap_or_default());
    std::iter::from_fn(move || {
        while let Ok(Some((tag, wire))) = reader.next() {
            if tag == wanted {
                let entry = wire.bytes().unwrap_or_default();
                let part = |tag| {
                    let bytes = find(entry, tag).and_then(Wire::bytes).unwrap_or_default();
                    std::str::from_utf8(bytes).unwrap_or_default()
                };
                return Some((part(1), part(2)));
            }
        }
        None
    })
}
