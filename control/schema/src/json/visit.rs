//! One visitor for every kind of value a field can hold.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::context::{Context, Step};
use super::message::read_message;
use super::{Mode, scalar, zero};
use crate::table;
use crate::types::{Field, Kind, Shape};

/// Reads the value of a field, or of one element of it. `None`: null, which leaves the field absent.
pub(super) struct ValueSeed<'c, 't> {
    pub(super) context: &'c mut Context<'t>,
    pub(super) field: &'t Field,
    pub(super) element: bool,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_, '_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        if self.is_one() && matches!(self.field.kind, Kind::Raw | Kind::Json) {
            return Value::deserialize(reader).map(|value| (!value.is_null()).then_some(value));
        }
        if let (true, Kind::Nested(inner)) = (self.is_one(), &self.field.kind) {
            return ValueSeed { context: self.context, field: inner, element: false }.deserialize(reader);
        }
        reader.deserialize_any(self)
    }
}

impl<'t> ValueSeed<'_, 't> {
    fn is_one(&self) -> bool {
        self.element || self.field.shape == Shape::One
    }

    fn refuse<T, E: Error>(self, got: &str) -> Result<T, E> {
        if self.is_one() && self.field.message().is_none() {
            self.context.mismatch_of(got, &self.field.kind.go_type());
        } else {
            self.context.mismatch(got, self.field, self.element);
        }
        Err(E::custom("stopped"))
    }

    fn keep<E: Error>(self, parsed: Result<Value, scalar::Refusal>) -> Result<Option<Value>, E> {
        match parsed {
            Ok(value) => Ok(Some(value)),
            Err(scalar::Refusal::Mismatch(got)) => self.refuse(&got),
            Err(scalar::Refusal::Text(text)) => {
                self.context.fail(text);
                Err(E::custom("stopped"))
            }
        }
    }

    fn element(&mut self) -> ValueSeed<'_, 't> {
        ValueSeed { context: &mut *self.context, field: self.field, element: true }
    }

    fn read_list<'de, A: SeqAccess<'de>>(&mut self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::with_capacity(access.size_hint().unwrap_or(0).min(4096));
        loop {
            self.context.enter(Step::Index(list.len()));
            let item = access.next_element_seed(self.element())?;
            self.context.leave();
            let Some(item) = item else { break };
            list.push(item.unwrap_or_else(|| zero::of_kind(&self.field.kind)));
        }
        Ok(Value::Array(list))
    }

    fn read_dictionary<'de, A: MapAccess<'de>>(&mut self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                self.context.duplicate(&key);
            }
            self.context.enter(Step::Key(key.clone()));
            let item = access.next_value_seed(self.element())?;
            self.context.leave();
            map.insert(key, item.unwrap_or_else(|| zero::of_kind(&self.field.kind)));
        }
        Ok(Value::Object(map))
    }

    fn read_strings<'de, A: SeqAccess<'de>>(self, mut access: A) -> Result<Option<Value>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = access.next_element::<Value>()? {
            match item {
                Value::String(_) => list.push(item),
                Value::Null => list.push(Value::String(String::new())),
                other => {
                    self.context.mismatch_of(scalar::json_type(&other), "string");
                    return Err(A::Error::custom("stopped"));
                }
            }
        }
        Ok(Some(Value::Array(list)))
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_, '_> {
    type Value = Option<Value>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a value for {}", self.field.json)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, given: bool) -> Result<Self::Value, E> {
        if !self.is_one() {
            return self.refuse("bool");
        }
        let parsed = scalar::from_bool(&self.field.kind, given);
        self.keep(parsed)
    }

    fn visit_i64<E: Error>(self, given: i64) -> Result<Self::Value, E> {
        if !self.is_one() {
            return self.refuse("number");
        }
        let parsed = scalar::from_number(&self.field.kind, &Number::from(given));
        self.keep(parsed)
    }

    fn visit_u64<E: Error>(self, given: u64) -> Result<Self::Value, E> {
        if !self.is_one() {
            return self.refuse("number");
        }
        let parsed = scalar::from_number(&self.field.kind, &Number::from(given));
        self.keep(parsed)
    }

    fn visit_f64<E: Error>(self, given: f64) -> Result<Self::Value, E> {
        let Some(number) = Number::from_f64(given).filter(|_| self.is_one()) else {
            return self.refuse("number");
        };
        let parsed = scalar::from_number(&self.field.kind, &number);
        self.keep(parsed)
    }

    fn visit_str<E: Error>(self, given: &str) -> Result<Self::Value, E> {
        self.visit_string(given.to_owned())
    }

    fn visit_string<E: Error>(self, given: String) -> Result<Self::Value, E> {
        if !self.is_one() {
            return self.refuse("string");
        }
        let parsed = scalar::from_string(&self.field.kind, given);
        self.keep(parsed)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, access: A) -> Result<Self::Value, A::Error> {
        if !self.is_one() {
            return match self.field.shape {
                Shape::List => self.read_list(access).map(Some),
                _ => self.refuse("array"),
            };
        }
        match &self.field.kind {
            Kind::Strings | Kind::SchemaOrStrings => self.read_strings(access),
            Kind::SchemaOrArray => {
                let field = table::json_schema_list();
                ValueSeed { context: self.context, field, element: false }.read_list(access).map(Some)
            }
            _ => self.refuse("array"),
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, access: A) -> Result<Self::Value, A::Error> {
        if !self.is_one() {
            return match self.field.shape {
                Shape::Map => self.read_dictionary(access).map(Some),
                _ => self.refuse("object"),
            };
        }
        match &self.field.kind {
            Kind::Message(ty) => {
                self.context.enter_struct(ty);
                let mut read = read_message(self.context, ty, access)?;
                self.context.leave_struct();
                if self.field.typed && self.context.mode == Mode::Whole {
                    ty.set_kind(&mut read);
                }
                Ok(Some(Value::Object(read)))
            }
            Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => {
                let ty = table::json_schema();
                read_message(self.context, ty, access).map(|read| Some(Value::Object(read)))
            }
            Kind::Raw | Kind::Json => Value::deserialize(MapAccessDeserializer::new(access)).map(Some),
            _ => self.refuse("object"),
        }
    }
}
