//! YAML into a [`Value`] of one type, by the rules of [`json`](crate::json).

use serde::Deserialize;
use serde_json::Value;

use crate::json::{self, DecodeError, Decoded, FieldValidation};
use crate::types::Type;

/// Reads one object.
pub fn decode(ty: &Type, bytes: &[u8], validation: FieldValidation) -> Result<Decoded, DecodeError> {
    read(bytes, |reader| json::decode_from(ty, reader, validation))
}

/// Reads an apply configuration: see [`json::decode_applied`].
pub fn decode_applied(ty: &Type, bytes: &[u8], validation: FieldValidation) -> Result<Decoded, DecodeError> {
    read(bytes, |reader| json::decode_applied_from(ty, reader, validation))
}

/// Reads any YAML as a value, for a look at its kind and apiVersion.
pub fn parse(bytes: &[u8]) -> Result<Value, DecodeError> {
    read(bytes, |reader| Value::deserialize(reader).map_err(|err| syntax(&err)))
}

fn syntax(err: &serde_saphyr::Error) -> DecodeError {
    DecodeError::Syntax(format!("error converting YAML to JSON: {err}"))
}

fn read<T>(
    bytes: &[u8],
    object: impl for<'de, 'e> FnOnce(serde_saphyr::Deserializer<'de, 'e>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    // duplicates come through: the table-guided decoder sees them and complains in upstream's words
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    let mut outcome = None;
    let parsed = serde_saphyr::with_deserializer_from_slice_with_options(bytes, options, |reader| {
        outcome = Some(object(reader));
        Ok(())
    });
    match (outcome, parsed) {
        (Some(Err(wrong)), _) => Err(wrong),
        (_, Err(err)) => Err(syntax(&err)),
        (Some(Ok(read)), Ok(())) => Ok(read),
        (None, Ok(())) => Err(DecodeError::Syntax("error converting YAML to JSON: empty document".into())),
    }
}
