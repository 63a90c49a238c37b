//! Objects with known fields.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::context::{Context, Step};
use super::visit::ValueSeed;
use super::{Mode, zero};
use crate::types::{Field, Type};

pub(super) struct MessageSeed<'c, 't> {
    pub(super) context: &'c mut Context<'t>,
    pub(super) ty: &'t Type,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_, '_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

/// What `refuse` stops the reader with; the context holds the real text.
const STOPPED: &str = "stopped";

impl MessageSeed<'_, '_> {
    fn refuse<E: Error>(self, got: &str) -> Result<Map<String, Value>, E> {
        self.context.mismatch_of(got, self.ty.go_name());
        Err(E::custom(STOPPED))
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_, '_> {
    type Value = Map<String, Value>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "an object ({})", self.ty.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Self::Value, A::Error> {
        read_message(self.context, self.ty, access)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        self.refuse("array")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        self.refuse("string")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        self.refuse("bool")
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        self.refuse("number")
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        self.refuse("number")
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        self.refuse("number")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Map::new())
    }
}

/// Reads the entries of an object into a map, pruning as it goes.
pub(super) fn read_message<'de, 't, A: MapAccess<'de>>(
    context: &mut Context<'t>,
    ty: &'t Type,
    mut access: A,
) -> Result<Map<String, Value>, A::Error> {
    let mut map = Map::new();
    let mut seen = Seen::default();
    while let Some(key) = access.next_key_seed(KeySeed(ty))? {
        let (place, field) = match key {
            Key::Known(place, field) => (place, field),
            Key::Unknown(name) if ty.keeps_unknown => {
                map.insert(name, access.next_value()?);
                continue;
            }
            Key::Unknown(name) => {
                context.unknown(&name);
                access.next_value::<IgnoredAny>()?;
                continue;
            }
        };
        if seen.again(place) {
            context.duplicate(&field.json);
        }
        context.enter(Step::Field(&field.json));
        let value = access.next_value_seed(ValueSeed { context: &mut *context, field, element: false })?;
        context.leave();
        match value {
            Some(value) if context.mode == Mode::Applied || !zero::is_dropped(field, &value) => {
                map.insert(field.json.clone().into_owned(), value);
            }
            _ => {
                map.remove(field.json.as_ref());
            }
        }
    }
    if context.mode == Mode::Whole {
        zero::fill(ty, &mut map);
    }
    Ok(map)
}

/// Which fields were met: a bit for each of the first 128, which is all that built-in types have.
#[derive(Default)]
struct Seen {
    bits: u128,
    beyond: Vec<usize>,
}

impl Seen {
    fn again(&mut self, place: usize) -> bool {
        if place >= 128 {
            let again = self.beyond.contains(&place);
            self.beyond.push(place);
            return again;
        }
        let bit = 1u128 << place;
        let again = self.bits & bit != 0;
        self.bits |= bit;
        again
    }
}

enum Key<'t> {
    Known(usize, &'t Field),
    Unknown(String),
}

struct KeySeed<'t>(&'t Type);

impl<'de, 't> DeserializeSeed<'de> for KeySeed<'t> {
    type Value = Key<'t>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'t> Visitor<'_> for KeySeed<'t> {
    type Value = Key<'t>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a field name")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(match self.0.place(key) {
            Some((place, field)) => Key::Known(place, field),
            None => Key::Unknown(key.to_owned()),
        })
    }
}
