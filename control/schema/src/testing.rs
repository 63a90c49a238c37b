//! Random objects of any type, for property tests.

use proptest::prelude::Rng;
use proptest::test_runner::TestRng;
use serde_json::{Map, Value, json};

use crate::types::{Field, Kind, Shape, Type};

/// Makes values that every decoder takes.
pub(crate) struct Values<'r> {
    pub(crate) rng: &'r mut TestRng,
    /// Leaves out what protobuf does not hold, but for kind and apiVersion.
    pub(crate) tagged_only: bool,
}

impl Values<'_> {
    pub(crate) fn object(&mut self, ty: &Type, depth: usize) -> Value {
        let mut value = self.inner(ty, depth);
        if ty.is_root && self.below(2) == 0 {
            value["kind"] = Value::String(self.text()); // only the outermost one is kept in protobuf
        }
        value
    }

    fn inner(&mut self, ty: &Type, depth: usize) -> Value {
        let mut map = Map::new();
        self.fill(ty, depth, &mut map);
        Value::Object(map)
    }

    fn fill(&mut self, ty: &Type, depth: usize, map: &mut Map<String, Value>) {
        for field in &ty.fields {
            if let Some(inner) = field.inlined() {
                self.fill(inner, depth, map);
                continue;
            }
            if self.tagged_only && field.tag == 0 || self.below(3) == 0 {
                continue;
            }
            if depth == 0 && (field.message().is_some() || field.shape != Shape::One) {
                continue;
            }
            let value = self.field(field, depth);
            map.insert(field.json.clone().into_owned(), value);
        }
    }

    fn below(&mut self, end: u32) -> u32 {
        self.rng.next_u32() % end
    }

    fn field(&mut self, field: &Field, depth: usize) -> Value {
        match field.shape {
            Shape::One => self.one(&field.kind, depth),
            Shape::List => (0..self.below(3)).map(|_| self.one(&field.kind, depth)).collect(),
            Shape::Map => {
                let mut map = Map::new();
                for _ in 0..self.below(3) {
                    map.insert(self.text(), self.one(&field.kind, depth));
                }
                Value::Object(map)
            }
        }
    }

    fn text(&mut self) -> String {
        [
            "",
            "a",
            "b c",
            "\"q\" \\ \n\t\u{1}",
            "grüße",
            "<&>",
            "a-long-name-that-needs-more-room-than-the-others",
        ][self.below(7) as usize]
            .to_owned()
    }

    fn one(&mut self, kind: &Kind, depth: usize) -> Value {
        let small = i64::from(self.below(5)) - 1;
        match kind {
            Kind::String => Value::String(self.text()),
            Kind::Bool => Value::Bool(self.below(2) == 0),
            Kind::Int32 => json!(small),
            Kind::Int64 => json!(small * 10_000_000_000),
            Kind::Double => json!(small as f64 / 4.0 + 0.125),
            Kind::Bytes => json!(["", "aGk=", "AAEC/w=="][self.below(3) as usize]),
            Kind::Quantity => json!(["0", "0.1", "1024Mi", "2", "1e3"][self.below(5) as usize]),
            Kind::IntOrString => [json!(80), json!("web"), json!("")][self.below(3) as usize].clone(),
            Kind::Time => json!("2024-02-29T23:59:58Z"),
            Kind::MicroTime => json!("2024-02-29T23:59:58.012345Z"),
            Kind::Duration => json!("1m30s"),
            Kind::Raw => json!({"kind": "X", "n": [1, null, {"a": 1.5}]}),
            Kind::Json => [json!({"f:a": {}}), json!([1]), json!("x")][self.below(3) as usize].clone(),
            Kind::Strings => (0..self.below(3)).map(|_| self.text()).collect(),
            Kind::SchemaOrArray if self.below(2) == 0 => json!([{"type": "string"}, {}]),
            Kind::SchemaOrBool if self.below(2) == 0 => json!(self.below(2) == 0),
            Kind::SchemaOrStrings if self.below(2) == 0 => json!(["a"]),
            Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => json!({"type": "object"}),
            Kind::Message(ty) => self.inner(ty, depth.saturating_sub(1)),
            Kind::Nested(field) => self.field(field, depth),
        }
    }
}
