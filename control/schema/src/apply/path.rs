//! One step of a path to a field.

use std::fmt;

use serde_json::{Map, Value};

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// A field of a struct, or a key of a map.
    Field(String),
    /// The item of a list that has these keys: JSON of an object, keys sorted.
    Key(String),
    /// The item of a set: its JSON.
    Value(String),
    /// The item at a place.
    Index(u64),
}

impl Step {
    /// The item with these keys.
    pub(super) fn key(keys: Map<String, Value>) -> Self {
        Self::Key(Value::Object(keys).to_string())
    }

    /// As in FieldsV1: `f:name`, `k:{"name":"a"}`, `v:"a"`, `i:0`.
    pub(super) fn encoded(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => format!("k:{keys}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(at) => format!("i:{at}"),
        }
    }

    /// Reads the form of FieldsV1.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (mark, rest) = text.split_once(':')?;
        let json = || serde_json::from_str::<Value>(rest).ok();
        Some(match mark {
            "f" => Self::Field(rest.to_owned()),
            "k" => Self::Key(json().filter(Value::is_object)?.to_string()),
            "v" => Self::Value(json()?.to_string()),
            "i" => Self::Index(rest.parse().ok()?),
            _ => return None,
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(out, ".{name}"),
            Self::Key(keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let parts: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(out, "[{}]", parts.join(","))
            }
            Self::Value(value) => write!(out, "[={value}]"),
            Self::Index(at) => write!(out, "[{at}]"),
        }
    }
}
