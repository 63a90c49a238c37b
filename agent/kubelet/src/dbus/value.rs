//! Values by their signatures, little endian.

use super::DbusError;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `y`.
    Byte(u8),
    /// `b`.
    Bool(bool),
    /// `i`.
    I32(i32),
    /// `u`.
    U32(u32),
    /// `x`.
    I64(i64),
    /// `t`.
    U64(u64),
    /// `s`.
    Text(String),
    /// `o`.
    Path(String),
    /// `g`.
    Signature(String),
    /// `h`: the place of a descriptor among those that came with the message.
    Fd(u32),
    /// `a`, with the signature of its elements.
    Array(String, Vec<Value>),
    /// `(...)`.
    Struct(Vec<Value>),
    /// `{...}`.
    Entry(Box<(Value, Value)>),
    /// `v`.
    Variant(Box<Value>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Value {
    /// A property as systemd takes it: `(sv)`.
    pub fn property(name: &str, value: Self) -> Self {
        Self::Struct(vec![name.into(), Self::Variant(Box::new(value))])
    }

    /// Its signature.
    pub fn signature(&self) -> String {
        match self {
            Self::Byte(_) => "y".into(),
            Self::Bool(_) => "b".into(),
            Self::I32(_) => "i".into(),
            Self::U32(_) => "u".into(),
            Self::I64(_) => "x".into(),
            Self::U64(_) => "t".into(),
            Self::Text(_) => "s".into(),
            Self::Path(_) => "o".into(),
            Self::Signature(_) => "g".into(),
            Self::Fd(_) => "h".into(),
            Self::Array(of, _) => format!("a{of}"),
            Self::Struct(fields) => format!("({})", signature_of(fields)),
            Self::Entry(pair) => format!("{{{}{}}}", pair.0.signature(), pair.1.signature()),
            Self::Variant(_) => "v".into(),
        }
    }

    /// The text of a string or path.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Path(text) | Self::Signature(text) => Some(text),
            Self::Variant(inner) => inner.text(),
            _ => None,
        }
    }

    /// The number, without a sign.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Byte(it) => Some(u64::from(*it)),
            Self::U32(it) | Self::Fd(it) => Some(u64::from(*it)),
            Self::U64(it) => Some(*it),
            Self::Variant(inner) => inner.number(),
            _ => None,
        }
    }

    /// Appends it to `out`, whose first byte lies on a boundary of eight.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        align(out, alignment(&self.signature()));
        match self {
            Self::Byte(it) => out.push(*it),
            Self::Bool(it) => out.extend(u32::from(*it).to_le_bytes()),
            Self::I32(it) => out.extend(it.to_le_bytes()),
            Self::U32(it) | Self::Fd(it) => out.extend(it.to_le_bytes()),
            Self::I64(it) => out.extend(it.to_le_bytes()),
            Self::U64(it) => out.extend(it.to_le_bytes()),
            Self::Text(it) | Self::Path(it) => {
                out.extend(length(it.len()).to_le_bytes());
                out.extend(it.as_bytes());
                out.push(0);
            }
            Self::Signature(it) => write_signature(it, out),
            Self::Array(of, items) => {
                out.extend([0; 4]);
                let at = out.len();
                align(out, alignment(of));
                let first = out.len();
                items.iter().for_each(|it| it.write(out));
                let size = length(out.len() - first).to_le_bytes();
                out[at - 4..at].copy_from_slice(&size);
            }
            Self::Struct(fields) => fields.iter().for_each(|it| it.write(out)),
            Self::Entry(pair) => {
                pair.0.write(out);
                pair.1.write(out);
            }
            Self::Variant(inner) => {
                write_signature(&inner.signature(), out);
                inner.write(out);
            }
        }
    }
}

/// The signature of several values.
pub(super) fn signature_of(values: &[Value]) -> String {
    values.iter().map(Value::signature).collect()
}

fn write_signature(text: &str, out: &mut Vec<u8>) {
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend(text.as_bytes());
    out.push(0);
}

fn length(it: usize) -> u32 {
    u32::try_from(it).unwrap_or(u32::MAX)
}

pub(super) fn align(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 4,
    }
}

/// Bytes that are being read; the first lies on a boundary of eight.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// No message nests deeper.
const DEEPEST: u32 = 32;

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// All values of a signature.
    pub fn values(&mut self, signature: &str) -> Result<Vec<Value>, DbusError> {
        self.read_all(signature, 0)
    }

    pub fn position(&self) -> usize {
        self.at
    }

    fn read_all(&mut self, mut signature: &str, depth: u32) -> Result<Vec<Value>, DbusError> {
        let mut values = Vec::new();
        while !signature.is_empty() {
            let (first, rest) = split(signature)?;
            values.push(self.read(first, depth)?);
            signature = rest;
        }
        Ok(values)
    }

    fn read(&mut self, signature: &str, depth: u32) -> Result<Value, DbusError> {
        if depth > DEEPEST {
            return Err(DbusError::Malformed("values nest too deep"));
        }
        self.align(alignment(signature))?;
        let inner = || &signature[1..signature.len() - 1];
        Ok(match signature.as_bytes().first() {
            Some(b'y') => Value::Byte(self.take(1)?[0]),
            Some(b'b') => Value::Bool(self.u32()? != 0),
            Some(b'n' | b'q') => {
                let bytes = self.array::<2>()?;
                Value::U32(u32::from(u16::from_le_bytes(bytes)))
            }
            Some(b'i') => Value::I32(i32::from_le_bytes(self.array()?)),
            Some(b'u') => Value::U32(self.u32()?),
            Some(b'x') => Value::I64(i64::from_le_bytes(self.array()?)),
            // A double is only passed over: nobody asks for one.
            Some(b't' | b'd') => Value::U64(u64::from_le_bytes(self.array()?)),
            Some(b's') => Value::Text(self.text()?),
            Some(b'o') => Value::Path(self.text()?),
            Some(b'g') => Value::Signature(self.signature()?),
            Some(b'h') => Value::Fd(self.u32()?),
            Some(b'a') => self.list(&signature[1..], depth)?,
            Some(b'(') => Value::Struct(self.read_all(inner(), depth + 1)?),
            Some(b'{') => {
                let mut pair = self.read_all(inner(), depth + 1)?.into_iter();
                let (Some(key), Some(value)) = (pair.next(), pair.next()) else {
                    return Err(DbusError::Malformed("an entry without key and value"));
                };
                Value::Entry(Box::new((key, value)))
            }
            Some(b'v') => {
                let of = self.signature()?;
                let (first, rest) = split(&of)?;
                if !rest.is_empty() {
                    return Err(DbusError::Malformed("a variant of several types"));
                }
                Value::Variant(Box::new(self.read(first, depth + 1)?))
            }
            _ => return Err(DbusError::Malformed("a type that there is not")),
        })
    }

    fn list(&mut self, of: &str, depth: u32) -> Result<Value, DbusError> {
        let size = self.u32()? as usize;
        self.align(alignment(of))?;
        let end = self.at.checked_add(size).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(DbusError::Malformed("a list longer than its message"))?;
        let mut items = Vec::new();
        while self.at < end {
            items.push(self.read(of, depth + 1)?);
        }
        Ok(Value::Array(of.to_owned(), items))
    }

    fn text(&mut self) -> Result<String, DbusError> {
        let size = self.u32()? as usize;
        let bytes = self.take(size)?.to_vec();
        self.take(1)?;
        String::from_utf8(bytes).map_err(|_| DbusError::Malformed("a text that is not UTF-8"))
    }

    fn signature(&mut self) -> Result<String, DbusError> {
        let size = usize::from(self.take(1)?[0]);
        let bytes = self.take(size)?.to_vec();
        self.take(1)?;
        String::from_utf8(bytes).map_err(|_| DbusError::Malformed("a signature that is not UTF-8"))
    }

    pub fn align(&mut self, to: usize) -> Result<(), DbusError> {
        let next = self.at.next_multiple_of(to);
        self.take(next - self.at).map(|_| ())
    }

    fn u32(&mut self) -> Result<u32, DbusError> {
        self.array().map(u32::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DbusError> {
        self.take(N)?.try_into().map_err(|_| DbusError::Malformed("a number cut off"))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DbusError> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        self.at += count;
        taken.ok_or(DbusError::Malformed("a value cut off"))
    }
}

/// The first complete type of a signature, and the rest.
fn split(signature: &str) -> Result<(&str, &str), DbusError> {
    let bytes = signature.as_bytes();
    let mut at = 0;
    while bytes.get(at) == Some(&b'a') {
        at += 1;
    }
    let mut open = 0;
    loop {
        match bytes.get(at) {
            Some(b'(' | b'{') => open += 1,
            Some(b')' | b'}') => open -= 1,
            Some(it) if it.is_ascii_lowercase() => {}
            _ => return Err(DbusError::Malformed("a signature cut off")),
        }
        at += 1;
        if open == 0 {
            return Ok(signature.split_at(at));
        }
        if open < 0 {
            return Err(DbusError::Malformed("a signature that closes what is not open"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_went() {
        let values = vec![
            Value::Byte(7),
            "text".into(),
            Value::Array(
                "(sv)".into(),
                vec![
                    Value::property("Wants", Value::Array("s".into(), vec!["a".into(), "bc".into()])),
                    Value::property("Memory", Value::U64(1 << 40)),
                ],
            ),
            Value::Bool(true),
            Value::Array("(sa(sv))".into(), vec![]),
            Value::Array(
                "{sv}".into(),
                vec![Value::Entry(Box::new(("k".into(), Value::Variant(Box::new(Value::I32(-1))))))],
            ),
            Value::Path("/a".into()),
            Value::Signature("a{sv}".into()),
            Value::Fd(0),
        ];
        let signature = signature_of(&values);
        assert_eq!(signature, "ysa(sv)ba(sa(sv))a{sv}ogh");
        let mut bytes = Vec::new();
        values.iter().for_each(|it| it.write(&mut bytes));
        assert_eq!(Reader::new(&bytes).values(&signature).unwrap(), values);
        // Whatever is cut off is an error and no panic.
        for end in 0..bytes.len() {
            assert!(Reader::new(&bytes[..end]).values(&signature).is_err(), "{end}");
        }
        for wrong in ["(", ")", "a", "(s", "z", "s)"] {
            assert!(Reader::new(&bytes).values(wrong).is_err(), "{wrong}");
        }
    }
}
