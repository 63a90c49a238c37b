//! Paths into an object, and what can be wrong at the end of one.

use std::fmt;

use serde_json::Value;

/// A place in an object, e.g. `spec.containers[0].name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Path(String);

impl Path {
    /// A path of one field; may contain dots.
    #[must_use]
    pub fn new(first: &str) -> Self {
        Self(first.to_owned())
    }

    /// The field `name` of what is at this path.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// Item `index` of the list at this path.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// Entry `key` of the map at this path.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// It names something that does not exist.
    NotFound,
    /// It is missing.
    Required,
    /// It was there before.
    Duplicate,
    /// It is malformed or out of bounds.
    Invalid,
    /// It is not one of the values allowed here.
    NotSupported,
    /// It is well-formed, but not allowed under these conditions.
    Forbidden,
    /// It has too many bytes.
    TooLong,
    /// The list has too many items.
    TooMany,
    /// It is of the wrong JSON type.
    TypeInvalid,
    /// The check itself failed.
    Internal,
}

impl ErrorType {
    /// The cause's machine-readable reason.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One complaint about one field. Display gives `field: message`.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// What kind of complaint.
    pub kind: ErrorType,
    /// Where.
    pub field: String,
    /// The offending value; not shown for every kind.
    pub value: Option<Value>,
    /// Why, in words.
    pub detail: String,
}

impl FieldError {
    fn new(kind: ErrorType, path: &Path, value: Option<Value>, detail: impl Into<String>) -> Self {
        Self { kind, field: path.to_string(), value, detail: detail.into() }
    }

    /// A value that must be there is not.
    #[must_use]
    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Required, path, None, detail)
    }

    /// A malformed value.
    #[must_use]
    pub fn invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Invalid, path, Some(value.into()), detail)
    }

    /// A value of the wrong type.
    #[must_use]
    pub fn type_invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::TypeInvalid, path, Some(value.into()), detail)
    }

    /// A value that must be unique and is not.
    #[must_use]
    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::Duplicate, path, Some(value.into()), "")
    }

    /// A reference to something that is not there.
    #[must_use]
    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::NotFound, path, Some(value.into()), "")
    }

    /// A value not allowed under these conditions.
    #[must_use]
    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Forbidden, path, None, detail)
    }

    /// A value outside a closed set; the set is listed in the order given.
    #[must_use]
    pub fn not_supported(path: &Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let detail = if supported.is_empty() {
            String::new()
        } else {
            let quoted: Vec<_> = supported.iter().map(|text| quote(text)).collect();
            format!("supported values: {}", quoted.join(", "))
        };
        Self::new(ErrorType::NotSupported, path, Some(value.into()), detail)
    }

    /// A text of more than `max` bytes.
    #[must_use]
    pub fn too_long(path: &Path, max: usize) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Self::new(ErrorType::TooLong, path, None, format!("may not be more than {max} {unit}"))
    }

    /// A list of `actual` items where `max` are allowed.
    #[must_use]
    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::new(ErrorType::TooMany, path, Some(actual.into()), format!("must have at most {max} {unit}"))
    }

    /// The check could not be made.
    #[must_use]
    pub fn internal(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Internal, path, None, detail)
    }

    /// The complaint without the field: what goes into a Status cause.
    #[must_use]
    pub fn message(&self) -> String {
        let mut text = self.kind.words().to_owned();
        let shown = !matches!(
            self.kind,
            ErrorType::Required | ErrorType::Forbidden | ErrorType::TooLong | ErrorType::Internal
        );
        if let Some(value) = self.value.as_ref().filter(|_| shown) {
            text.push_str(": ");
            match value {
                Value::String(value) => text.push_str(&quote(value)),
                other => text.push_str(&other.to_string()),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message())
    }
}

impl std::error::Error for FieldError {}

/// A text in double quotes with Go's escapes.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Several complaints as one text: one alone, or `[a, b]`; repeated ones once.
#[must_use]
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_read_as_users_know_them() {
        let path = Path::new("spec").child("containers").index(0).child("name");
        assert_eq!(path.to_string(), "spec.containers[0].name");
        assert_eq!(Path::new("data").key("a.b").to_string(), "data[a.b]");
        assert_eq!(Path::default().child("spec").to_string(), "spec");
    }

    #[test]
    fn complaints_in_the_words_users_know() {
        let p = Path::new("f");
        for (error, text) in [
            (FieldError::required(&p, ""), "f: Required value"),
            (FieldError::required(&p, "must be set"), "f: Required value: must be set"),
            (FieldError::invalid(&p, "x", "bad"), "f: Invalid value: \"x\": bad"),
            (FieldError::invalid(&p, -1, "bad"), "f: Invalid value: -1: bad"),
            (FieldError::invalid(&p, json!({"a": 1}), "bad"), "f: Invalid value: {\"a\":1}: bad"),
            (FieldError::invalid(&p, Value::Null, "bad"), "f: Invalid value: null: bad"),
            (FieldError::duplicate(&p, "x"), "f: Duplicate value: \"x\""),
            (FieldError::not_found(&p, "x"), "f: Not found: \"x\""),
            (FieldError::forbidden(&p, "no"), "f: Forbidden: no"),
            (
                FieldError::not_supported(&p, "x", &["a", "b"]),
                "f: Unsupported value: \"x\": supported values: \"a\", \"b\"",
            ),
            (FieldError::too_long(&p, 63), "f: Too long: may not be more than 63 bytes"),
            (FieldError::too_many(&p, 5, 3), "f: Too many: 5: must have at most 3 items"),
        ] {
            assert_eq!(error.to_string(), text);
        }
        assert_eq!(ErrorType::NotSupported.reason(), "FieldValueNotSupported");
    }

    #[test]
    fn quoting_is_gos() {
        assert_eq!(quote("a\"b\\\n\u{1}é"), "\"a\\\"b\\\\\\n\\x01é\"");
    }
}
