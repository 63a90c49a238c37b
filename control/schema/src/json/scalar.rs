//! The kinds of single values: what JSON they are read from, and their canonical form.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_apimachinery::{GoDuration, Quantity};
use jiff::Timestamp;
use serde_json::{Number, Value};

use crate::types::Kind;

/// Why a value was not taken.
pub(super) enum Refusal {
    /// It is of another type; this is the JSON one.
    Mismatch(String),
    /// Its parser refused it, with this text.
    Text(String),
}

pub(super) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

pub(super) fn from_bool(kind: &Kind, given: bool) -> Result<Value, Refusal> {
    match kind {
        Kind::Bool | Kind::SchemaOrBool => Ok(Value::Bool(given)),
        Kind::Quantity => quantity(&given.to_string()),
        _ => Err(Refusal::Mismatch("bool".into())),
    }
}

pub(super) fn from_number(kind: &Kind, given: &Number) -> Result<Value, Refusal> {
    let out_of_range = || Refusal::Mismatch(format!("number {given}"));
    match kind {
        Kind::Int64 => given.as_i64().map(Value::from).ok_or_else(out_of_range),
        Kind::Int32 | Kind::IntOrString => {
            let whole = given.as_i64().and_then(|it| i32::try_from(it).ok());
            whole.map(Value::from).ok_or_else(out_of_range)
        }
        Kind::Double => Ok(Value::Number(given.clone())),
        Kind::Quantity => quantity(&given.to_string()),
        _ => Err(Refusal::Mismatch("number".into())),
    }
}

pub(super) fn from_string(kind: &Kind, given: String) -> Result<Value, Refusal> {
    match kind {
        Kind::String | Kind::IntOrString => Ok(Value::String(given)),
        Kind::Quantity => quantity(given.trim()),
        Kind::Bytes => bytes(&given),
        Kind::Time => canonical_time(&given).map(Value::String).ok_or_else(|| no_time(&given, RFC3339)),
        Kind::MicroTime => {
            canonical_micro_time(&given).map(Value::String).ok_or_else(|| no_time(&given, RFC3339_MICRO))
        }
        Kind::Duration => match GoDuration::parse(&given) {
            Ok(duration) => Ok(Value::String(duration.to_string())),
            Err(_) => Err(Refusal::Text(format!("time: invalid duration {given:?}"))),
        },
        _ => Err(Refusal::Mismatch("string".into())),
    }
}

fn quantity(text: &str) -> Result<Value, Refusal> {
    if is_canonical_quantity(text) {
        return Ok(Value::String(text.to_owned()));
    }
    match Quantity::parse(text) {
        Ok(quantity) => Ok(Value::String(quantity.to_string())),
        Err(err) => Err(Refusal::Text(err.to_string())),
    }
}

/// Whether this is an amount that stays as it is. Not all such amounts are seen, but the common ones are.
fn is_canonical_quantity(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let Ok(value) = number.parse::<u32>() else { return false };
    if digits > 6 || number.starts_with('0') {
        return false;
    }
    match suffix {
        "" | "m" | "k" | "M" | "G" => value % 1000 != 0,
        "Ki" | "Mi" | "Gi" => value % 1024 != 0,
        _ => false,
    }
}

/// Whether this is a time in whole seconds, UTC, on a day that every month has.
fn is_canonical_time(text: &[u8]) -> bool {
    let shape = b"dddd-dd-ddTdd:dd:ddZ";
    let fits = |(byte, mark): (&u8, &u8)| if *mark == b'd' { byte.is_ascii_digit() } else { byte == mark };
    if text.len() != shape.len() || !text.iter().zip(shape).all(fits) {
        return false;
    }
    let two = |at: usize| (text[at] - b'0') * 10 + (text[at + 1] - b'0');
    (1..=12).contains(&two(5)) && (1..=28).contains(&two(8)) && two(11) < 24 && two(14) < 60 && two(17) < 60
}

fn bytes(text: &str) -> Result<Value, Refusal> {
    if text.bytes().any(|byte| byte == b'\n' || byte == b'\r') {
        let joined: String = text.chars().filter(|it| !matches!(it, '\n' | '\r')).collect();
        return bytes(&joined);
    }
    match STANDARD.decode(text) {
        Ok(_) => Ok(Value::String(text.to_owned())),
        Err(err) => Err(Refusal::Text(format!("illegal base64 data at input byte {}", offset(&err, text)))),
    }
}

fn offset(err: &base64::DecodeError, text: &str) -> usize {
    match err {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => *at,
        base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => text.len(),
    }
}

const RFC3339: &str = "2006-01-02T15:04:05Z07:00";
const RFC3339_MICRO: &str = "2006-01-02T15:04:05.000000Z07:00";

fn no_time(given: &str, layout: &str) -> Refusal {
    Refusal::Text(format!("parsing time {given:?} as {layout:?}: cannot parse {given:?} as \"2006\""))
}

/// A time as the API writes it: UTC, whole seconds.
fn canonical_time(text: &str) -> Option<String> {
    if is_canonical_time(text.as_bytes()) {
        return Some(text.to_owned());
    }
    let at: Timestamp =
        if text.as_bytes().get(10) == Some(&b'T') { text.parse().ok()? } else { return None };
    Some(coracle_apimachinery::time::rfc3339(at))
}

/// A micro-time as the API writes it: UTC, six digits.
fn canonical_micro_time(text: &str) -> Option<String> {
    let at: Timestamp =
        if text.as_bytes().get(10) == Some(&b'T') { text.parse().ok()? } else { return None };
    Some(coracle_apimachinery::time::micro(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_taken_for_canonical_is(number in 0u32..3_000_000, suffix in "(|m|k|M|G|T|Ki|Mi|Gi|x)") {
            let text = format!("{number}{suffix}");
            if is_canonical_quantity(&text) {
                prop_assert_eq!(Quantity::parse(&text).unwrap().to_string(), text);
            }
        }

        #[test]
        fn times_that_stay_are_times(text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]Z") {
            if is_canonical_time(text.as_bytes()) {
                prop_assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
            }
        }
    }
}
