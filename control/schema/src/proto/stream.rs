//! Bytes at rest straight into JSON text, without a tree in between: what lists and watches are made of.

use std::io::Write as _;

use base64::engine::general_purpose::STANDARD;
use coracle_apimachinery::GoDuration;

use super::wire::{Reader, Wire};
use super::{MAX_DEPTH, ProtoError, civil};
use crate::json::{Zero, zero};
use crate::table;
use crate::types::{Field, Kind, Shape, Type};

/// What the bytes at rest do not hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Splice<'s> {
    /// `apps/v1`; empty: left out, as for the items of a list.
    pub api_version: &'s str,
    /// `Deployment`; empty: left out.
    pub kind: &'s str,
    /// Goes into metadata; empty: left out.
    pub resource_version: &'s str,
}

/// Appends the object as JSON. The bytes must come from [`encode`](super::encode): repeated fields stand together.
pub fn write_json(ty: &Type, bytes: &[u8], splice: Splice<'_>, out: &mut Vec<u8>) -> Result<(), ProtoError> {
    Writer { out }.object(ty, bytes, splice, MAX_DEPTH)
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

/// The list or map that is being written, by its place among the fields.
type Open = Option<(usize, Shape)>;

impl Writer<'_> {
    fn object(
        &mut self,
        ty: &Type,
        bytes: &[u8],
        splice: Splice<'_>,
        depth: usize,
    ) -> Result<(), ProtoError> {
        self.out.push(b'{');
        let mut first = true;
        for (key, text) in [("kind", splice.kind), ("apiVersion", splice.api_version)] {
            if !text.is_empty() {
                self.key(key, &mut first);
                self.text(text.as_bytes());
            }
        }
        if !ty.is_root && !splice.resource_version.is_empty() {
            self.key("resourceVersion", &mut first);
            self.text(splice.resource_version.as_bytes());
        }
        self.fields(ty, bytes, splice.resource_version, &mut first, depth)?;
        self.out.push(b'}');
        Ok(())
    }

    fn fields(
        &mut self,
        ty: &Type,
        bytes: &[u8],
        version: &str,
        first: &mut bool,
        depth: usize,
    ) -> Result<(), ProtoError> {
        let depth = depth.checked_sub(1).ok_or(ProtoError::TooDeep)?;
        let mut seen = 0u64;
        let mut open: Open = None;
        let mut reader = Reader::new(bytes);
        while let Some((tag, wire)) = reader.next()? {
            let Some((place, field)) = ty.tag(tag) else { continue };
            let bit = 1u64 << (place & 63);
            if open.is_none_or(|(at, _)| at != place) {
                self.close(&mut open);
                if seen & bit != 0 {
                    return Err(ProtoError::Illegal(format!("{}.{}: not at rest", ty.name, field.json)));
                }
            }
            seen |= bit;
            if let Some(inner) = field.inlined() {
                self.fields(inner, nested(field, wire)?, "", first, depth)?;
                continue;
            }
            match field.shape {
                Shape::One if is_silent(ty, field, wire, version) => {}
                Shape::One => {
                    self.key(&field.json, first);
                    let version = if ty.is_root && field.json == "metadata" { version } else { "" };
                    self.value(field, wire, version, depth)?;
                }
                shape => {
                    self.begin(field, shape, &mut open, place, first);
                    if shape == Shape::List {
                        self.value(field, wire, "", depth)?;
                    } else {
                        self.entry(field, nested(field, wire)?, depth)?;
                    }
                }
            }
        }
        self.close(&mut open);
        for (place, field) in ty.shown() {
            if seen & (1u64 << (place & 63)) == 0 {
                self.absent(ty, field, version, first);
            }
        }
        Ok(())
    }

    fn begin(&mut self, field: &Field, shape: Shape, open: &mut Open, place: usize, first: &mut bool) {
        if open.is_some() {
            self.out.push(b',');
            return;
        }
        self.key(&field.json, first);
        self.out.push(if shape == Shape::List { b'[' } else { b'{' });
        *open = Some((place, shape));
    }

    fn close(&mut self, open: &mut Open) {
        match open.take() {
            Some((_, Shape::List)) => self.out.push(b']'),
            Some(_) => self.out.push(b'}'),
            None => {}
        }
    }

    fn entry(&mut self, field: &Field, bytes: &[u8], depth: usize) -> Result<(), ProtoError> {
        let (mut key, mut item): (&[u8], _) = (&[], None);
        let mut reader = Reader::new(bytes);
        while let Some((tag, wire)) = reader.next()? {
            match (tag, wire) {
                (1, Wire::Bytes(name)) => key = name,
                (2, wire) => item = Some(wire),
                _ => {}
            }
        }
        self.text(key);
        self.out.push(b':');
        match item {
            Some(wire) => self.value(field, wire, "", depth),
            None => {
                let zero = crate::json::zero_of_kind(&field.kind);
                _ = write!(self.out, "{zero}");
                Ok(())
            }
        }
    }

    /// What Go prints for a field that is not there.
    fn absent(&mut self, ty: &Type, field: &Field, version: &str, first: &mut bool) {
        if let Some(inner) = field.inlined() {
            for (_, field) in inner.shown() {
                self.absent(inner, field, "", first);
            }
            return;
        }
        let version = if ty.is_root && field.json == "metadata" { version } else { "" };
        let text: &[u8] = match zero(field) {
            Zero::Nothing => return,
            Zero::Null => b"null",
            Zero::EmptyList => b"[]",
            Zero::Text => b"\"\"",
            Zero::Amount => b"\"0\"",
            Zero::Number => b"0",
            Zero::False => b"false",
            Zero::NoTime => b"\"0s\"",
            Zero::Struct(inner) => {
                self.key(&field.json, first);
                self.out.push(b'{');
                let mut first = true;
                if !version.is_empty() {
                    self.key("resourceVersion", &mut first);
                    self.text(version.as_bytes());
                }
                for (_, field) in inner.shown() {
                    self.absent(inner, field, "", &mut first);
                }
                self.out.push(b'}');
                return;
            }
        };
        self.key(&field.json, first);
        self.out.extend_from_slice(text);
    }

    fn value(
        &mut self,
        field: &Field,
        wire: Wire<'_>,
        version: &str,
        depth: usize,
    ) -> Result<(), ProtoError> {
        match (&field.kind, wire) {
            (Kind::String, Wire::Bytes(text)) => self.text(text),
            (Kind::Bytes, Wire::Bytes(bytes)) => {
                self.out.push(b'"');
                _ = write!(self.out, "{}", base64::display::Base64Display::new(bytes, &STANDARD));
                self.out.push(b'"');
            }
            (Kind::Bool, Wire::Varint(given)) => {
                self.out.extend_from_slice(if given == 0 { b"false" } else { b"true" });
            }
            (Kind::Int32 | Kind::Int64, Wire::Varint(given)) => self.number(given.cast_signed()),
            (Kind::Double, Wire::Fixed64(bits)) => {
                let given = f64::from_bits(bits);
                let text =
                    serde_json::Number::from_f64(given).map_or_else(|| "null".into(), |it| it.to_string());
                self.out.extend_from_slice(text.as_bytes());
            }
            (Kind::Message(ty), Wire::Bytes(bytes)) => {
                let api_version = if field.typed { ty.api_version() } else { String::new() };
                let kind = if field.typed { ty.short_name() } else { "" };
                let splice = Splice { api_version: &api_version, kind, resource_version: version };
                self.object(ty, bytes, splice, depth)?;
            }
            (kind, Wire::Bytes(bytes)) => self.wrapped(kind, bytes, depth)?,
            _ => return Err(ProtoError::Illegal(field.json.clone().into_owned())),
        }
        Ok(())
    }

    /// A message that stands for one JSON value.
    fn wrapped(&mut self, kind: &Kind, bytes: &[u8], depth: usize) -> Result<(), ProtoError> {
        let mut parts: [Option<Wire<'_>>; 3] = [None; 3];
        let mut list = Vec::new();
        let mut reader = Reader::new(bytes);
        while let Some((tag, wire)) = reader.next()? {
            match (kind, tag, wire) {
                (Kind::Strings, 1, Wire::Bytes(item))
                | (Kind::SchemaOrStrings | Kind::SchemaOrArray, 2, Wire::Bytes(item)) => list.push(item),
                (_, 1..=3, wire) => parts[tag as usize - 1] = Some(wire),
                _ => {}
            }
        }
        let int = |at: usize| parts[at].and_then(Wire::int).unwrap_or(0);
        let raw = |at: usize| parts[at].and_then(Wire::bytes);
        let schema = table::json_schema();
        match kind {
            Kind::Quantity => self.text(raw(0).filter(|text| !text.is_empty()).unwrap_or(b"0")),
            Kind::IntOrString if int(0) == 1 => self.text(raw(2).unwrap_or_default()),
            Kind::IntOrString => self.number(int(1)),
            Kind::Time | Kind::MicroTime if parts[0].is_none() && parts[1].is_none() => self.null(),
            Kind::Time => self.quoted(|out| civil::write_seconds(out, int(0))),
            Kind::MicroTime => self.quoted(|out| civil::write_micros(out, int(0), int(1))),
            Kind::Duration => self.text(GoDuration::from_nanos(int(0)).to_string().as_bytes()),
            Kind::Raw | Kind::Json => match raw(0) {
                None | Some([]) => self.null(),
                Some(json) => self.out.extend_from_slice(json),
            },
            Kind::SchemaOrArray | Kind::SchemaOrStrings if raw(0).is_some() => {
                self.object(schema, raw(0).unwrap_or_default(), Splice::default(), depth)?;
            }
            Kind::SchemaOrBool => match raw(1) {
                Some(bytes) => self.object(schema, bytes, Splice::default(), depth)?,
                None => self.out.extend_from_slice(if int(0) == 0 { b"false" } else { b"true" }),
            },
            _ => self.list(kind, &list, depth)?,
        }
        Ok(())
    }

    fn list(&mut self, kind: &Kind, items: &[&[u8]], depth: usize) -> Result<(), ProtoError> {
        self.out.push(b'[');
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            if matches!(kind, Kind::SchemaOrArray) {
                self.object(table::json_schema(), item, Splice::default(), depth)?;
            } else {
                self.text(item);
            }
        }
        self.out.push(b']');
        Ok(())
    }

    fn key(&mut self, key: &str, first: &mut bool) {
        if !std::mem::take(first) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes()); // names of the table need no escapes
        self.out.extend_from_slice(b"\":");
    }

    fn null(&mut self) {
        self.out.extend_from_slice(b"null");
    }

    fn number(&mut self, value: i64) {
        let mut digits = [0u8; 20];
        let (mut at, mut rest) = (digits.len(), value.unsigned_abs());
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10).to_le_bytes()[0];
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            self.out.push(b'-');
        }
        self.out.extend_from_slice(&digits[at..]);
    }

    fn quoted(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.push(b'"');
        write(self.out);
        self.out.push(b'"');
    }

    fn text(&mut self, text: &[u8]) {
        self.out.push(b'"');
        let mut done = 0;
        while let Some(at) = text[done..].iter().position(|byte| NEEDS_ESCAPE[usize::from(*byte)]) {
            let at = done + at;
            self.out.extend_from_slice(&text[done..at]);
            match text[at] {
                b'"' => self.out.extend_from_slice(b"\\\""),
                b'\\' => self.out.extend_from_slice(b"\\\\"),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                b'\r' => self.out.extend_from_slice(b"\\r"),
                b'\t' => self.out.extend_from_slice(b"\\t"),
                byte => _ = write!(self.out, "\\u{byte:04x}"),
            }
            done = at + 1;
        }
        self.out.extend_from_slice(&text[done..]);
        self.out.push(b'"');
    }
}

/// The bytes that can not stand in a JSON string as they are.
static NEEDS_ESCAPE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

fn nested<'b>(field: &Field, wire: Wire<'b>) -> Result<&'b [u8], ProtoError> {
    wire.bytes().ok_or_else(|| ProtoError::Illegal(field.json.clone().into_owned()))
}

/// Whether Go would not print this value, or the splice takes its place.
fn is_silent(ty: &Type, field: &Field, wire: Wire<'_>, version: &str) -> bool {
    if !version.is_empty() && !ty.is_root && field.json == "resourceVersion" {
        return true;
    }
    field.omitempty
        && !field.pointer
        && match wire {
            Wire::Varint(value) => value == 0 && matches!(field.kind, Kind::Bool | Kind::Int32 | Kind::Int64),
            Wire::Bytes(bytes) => bytes.is_empty() && matches!(field.kind, Kind::String | Kind::Bytes),
            Wire::Fixed64(_) | Wire::Fixed32(_) => false,
        }
}
