//! How a place in an object is owned: as a whole, or by its parts.

use serde_json::{Map, Value};

use super::path::Step;
use crate::types::{Field, Kind, ListType, Shape, Type};

/// A place in an object.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'t> {
    /// The object itself.
    Object(&'t Type),
    /// The value of a field.
    Whole(&'t Field),
    /// One item of a list or map.
    Item(&'t Field),
}

/// How it is owned.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owned<'t> {
    /// At once.
    AsWhole,
    /// Field by field.
    Struct(&'t Type),
    /// Key by key.
    Map(&'t Field),
    /// Item by item, by their keys.
    Keyed(&'t Field),
    /// Item by item, each a scalar.
    Set(&'t Field),
}

impl<'t> Place<'t> {
    pub(super) fn owned(self) -> Owned<'t> {
        match self {
            Self::Object(ty) => Owned::Struct(ty),
            Self::Whole(field) if field.is_atomic() => Owned::AsWhole,
            Self::Whole(field) => match (field.shape, field.list) {
                (Shape::List, ListType::Map) => Owned::Keyed(field),
                (Shape::List, _) => Owned::Set(field),
                (Shape::Map, _) => Owned::Map(field),
                (Shape::One, _) => field.message().map_or(Owned::AsWhole, Owned::Struct),
            },
            Self::Item(field) => match &field.kind {
                Kind::Message(ty) if !ty.is_atomic || field.granular => Owned::Struct(ty),
                Kind::Nested(inner) => Place::Whole(inner).owned(),
                _ => Owned::AsWhole,
            },
        }
    }
}

/// Which keys an item lacks to be owned for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MissingKey(pub(super) String);

/// The step to an item of a keyed list. Of several keys some may be absent, but not all.
pub(super) fn key_of(field: &Field, item: &Value) -> Result<Step, MissingKey> {
    let mut keys = Map::new();
    for key in &field.keys {
        let given = item.get(key.as_ref()).filter(|value| !value.is_null()).cloned();
        let default = || field.message()?.field(key)?.default.as_deref().cloned();
        if let Some(value) = given.or_else(default) {
            keys.insert(key.clone().into_owned(), value);
        }
    }
    if keys.is_empty() {
        return Err(MissingKey(match field.keys.as_ref() {
            [only] => format!("key field {only:?} (and doesn't have default value)"),
            several => {
                let several: Vec<String> = several.iter().map(|key| format!("{key:?}")).collect();
                let several = several.join(" ");
                format!("all key fields [{several}] (and doesn't have default values for any key fields)")
            }
        }));
    }
    Ok(Step::key(keys))
}

/// The step to an item of a list that is owned by its items.
pub(super) fn step_of(owned: Owned<'_>, item: &Value) -> Result<Step, MissingKey> {
    match owned {
        Owned::Keyed(field) => key_of(field, item),
        _ => Ok(Step::Value(item.to_string())),
    }
}
