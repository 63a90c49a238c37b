//! JSON (and anything serde can read) into a [`Value`] of one type, the way a Go decoder with these types would.
//!
//! What comes out is what Go would print for the object it had read: unknown fields are gone, amounts and times are in
//! their canonical form, empty `omitempty` fields are left out and the others are there, if only as zero. It holds no
//! null outside of free-form values.

mod context; // where the decoder is, and what it found wrong
mod error; // in the words of Go's decoder
mod message; // objects with known fields
mod scalar; // the kinds of values
mod visit; // one visitor for every kind of value
mod zero; // what Go prints for what is absent

use serde::de::{DeserializeSeed, Deserializer};
use serde_json::Value;

use crate::types::Type;
use context::Context;
use message::MessageSeed;

pub use error::DecodeError;
pub(crate) use zero::{Zero, fill, is_dropped, is_shown, of_kind as zero_of_kind, zero};

/// What to do with fields that the type does not know, and with duplicate ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Drop them.
    Ignore,
    /// Drop them and tell.
    #[default]
    Warn,
    /// Refuse the object.
    Strict,
}

/// An object that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object.
    pub value: Value,
    /// What was dropped, for the `Warning` header: `unknown field "spec.foo"`.
    pub warnings: Vec<String>,
}

/// How complete the outcome is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// As Go would print the object: zero values dropped or added.
    Whole,
    /// As given: what an applier sent, where an empty value says something and an absent one nothing.
    Applied,
}

/// Reads one object.
pub fn decode(ty: &Type, bytes: &[u8], validation: FieldValidation) -> Result<Decoded, DecodeError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let decoded = run(ty, &mut reader, validation, Mode::Whole)?;
    reader.end().map_err(|err| DecodeError::Syntax(err.to_string()))?;
    Ok(decoded)
}

/// Brings a value (a patched object, say) into the form in which [`decode`] would have read it.
pub fn conform(ty: &Type, value: Value, validation: FieldValidation) -> Result<Decoded, DecodeError> {
    run(ty, value, validation, Mode::Whole)
}

/// Checks an apply configuration: types, unknown and duplicate fields. Nothing is added; what is given stays, in
/// canonical form.
pub fn decode_applied(ty: &Type, bytes: &[u8], validation: FieldValidation) -> Result<Decoded, DecodeError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let decoded = run(ty, &mut reader, validation, Mode::Applied)?;
    reader.end().map_err(|err| DecodeError::Syntax(err.to_string()))?;
    Ok(decoded)
}

pub(crate) fn decode_applied_from<'de, D>(
    ty: &Type,
    reader: D,
    validation: FieldValidation,
) -> Result<Decoded, DecodeError>
where
    D: Deserializer<'de>,
    D::Error: std::fmt::Display,
{
    run(ty, reader, validation, Mode::Applied)
}

pub(crate) fn decode_from<'de, D>(
    ty: &Type,
    reader: D,
    validation: FieldValidation,
) -> Result<Decoded, DecodeError>
where
    D: Deserializer<'de>,
    D::Error: std::fmt::Display,
{
    run(ty, reader, validation, Mode::Whole)
}

fn run<'de, D>(ty: &Type, reader: D, validation: FieldValidation, mode: Mode) -> Result<Decoded, DecodeError>
where
    D: Deserializer<'de>,
    D::Error: std::fmt::Display,
{
    let mut context = Context::new(ty, mode, validation != FieldValidation::Ignore);
    let read = MessageSeed { context: &mut context, ty }.deserialize(reader);
    let (found, complaints) = context.finish();
    let value = match (read, found) {
        (Ok(map), None) => Value::Object(map),
        (_, Some(wrong)) => return Err(wrong),
        (Err(syntax), None) => return Err(DecodeError::Syntax(syntax.to_string())),
    };
    if validation == FieldValidation::Strict && !complaints.is_empty() {
        return Err(DecodeError::Strict(complaints));
    }
    Ok(Decoded { value, warnings: complaints })
}

#[cfg(test)]
mod tests;
