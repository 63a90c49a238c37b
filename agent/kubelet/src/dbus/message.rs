//! A message to bytes and back.

use super::DbusError;
use super::value::{Reader, Value, align, signature_of};

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call.
    Call = 1,
    /// Its answer.
    Return = 2,
    /// Its failure.
    Error = 3,
    /// News.
    Signal = 4,
}

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Its number.
    pub serial: u32,
    /// The call that it answers.
    pub reply_to: Option<u32>,
    /// The object.
    pub path: String,
    /// The interface.
    pub interface: String,
    /// The method or signal.
    pub member: String,
    /// The error's name.
    pub error: String,
    /// To whom.
    pub destination: String,
    /// From whom.
    pub sender: String,
    /// How many descriptors come with it.
    pub fds: u32,
    /// What it says.
    pub body: Vec<Value>,
}

/// No message is longer, the specification says.
const LONGEST: usize = 128 << 20;
/// What comes before the fields.
pub(super) const HEAD: usize = 16;

impl Message {
    /// A message of a kind that says nothing yet.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            serial: 0,
            reply_to: None,
            path: String::new(),
            interface: String::new(),
            member: String::new(),
            error: String::new(),
            destination: String::new(),
            sender: String::new(),
            fds: 0,
            body: Vec::new(),
        }
    }

    /// A call of a method.
    pub fn call(destination: &str, path: &str, interface: &str, member: &str, body: Vec<Value>) -> Self {
        Self {
            path: path.to_owned(),
            interface: interface.to_owned(),
            member: member.to_owned(),
            destination: destination.to_owned(),
            body,
            ..Self::new(Kind::Call)
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.body.iter().for_each(|it| it.write(&mut body));
        let signature = signature_of(&self.body);
        let field = |code: u8, value| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
        let mut fields = Vec::new();
        let texts = [
            (2, &self.interface),
            (3, &self.member),
            (4, &self.error),
            (6, &self.destination),
            (7, &self.sender),
        ];
        if !self.path.is_empty() {
            fields.push(field(1, Value::Path(self.path.clone())));
        }
        fields.extend(
            texts.iter().filter(|it| !it.1.is_empty()).map(|(code, text)| field(*code, text.as_str().into())),
        );
        if let Some(serial) = self.reply_to {
            fields.push(field(5, Value::U32(serial)));
        }
        if !signature.is_empty() {
            fields.push(field(8, Value::Signature(signature)));
        }
        if self.fds > 0 {
            fields.push(field(9, Value::U32(self.fds)));
        }
        let mut out = vec![b'l', self.kind as u8, 0, 1];
        out.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend(self.serial.to_le_bytes());
        Value::Array("(yv)".into(), fields).write(&mut out);
        align(&mut out, 8);
        out.extend(body);
        out
    }

    /// The whole length of a message that begins with these [`HEAD`] bytes.
    pub fn length(head: &[u8; HEAD]) -> Result<usize, DbusError> {
        if head[0] != b'l' {
            return Err(DbusError::Malformed("a message in the other byte order"));
        }
        let number =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let whole = (HEAD + number(12)).next_multiple_of(8) + number(4);
        if whole > LONGEST { Err(DbusError::Malformed("a message that is too long")) } else { Ok(whole) }
    }

    /// From its bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DbusError> {
        let mut reader = Reader::new(bytes);
        let head = reader.values("yyyyuua(yv)")?;
        reader.align(8)?;
        let body = bytes.get(reader.position()..).unwrap_or_default();
        let kind = match head[1].number() {
            Some(1) => Kind::Call,
            Some(2) => Kind::Return,
            Some(3) => Kind::Error,
            Some(4) => Kind::Signal,
            _ => return Err(DbusError::Malformed("a message of no kind")),
        };
        let serial = |it: Option<u64>| it.and_then(|it| u32::try_from(it).ok());
        let mut message = Self { serial: serial(head[5].number()).unwrap_or_default(), ..Self::new(kind) };
        let mut signature = String::new();
        let Value::Array(_, fields) = &head[6] else {
            return Err(DbusError::Malformed("a message without fields"));
        };
        for field in fields {
            let Value::Struct(pair) = field else { continue };
            let [code, value] = pair.as_slice() else { continue };
            let text = || value.text().unwrap_or_default().to_owned();
            match code.number() {
                Some(1) => message.path = text(),
                Some(2) => message.interface = text(),
                Some(3) => message.member = text(),
                Some(4) => message.error = text(),
                Some(5) => message.reply_to = serial(value.number()),
                Some(6) => message.destination = text(),
                Some(7) => message.sender = text(),
                Some(8) => signature = text(),
                Some(9) => message.fds = serial(value.number()).unwrap_or_default(),
                _ => {}
            }
        }
        message.body = Reader::new(body).values(&signature)?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_it_went() {
        let body = vec!["shutdown".into(), Value::Bool(true)];
        let message = Message {
            serial: 9,
            reply_to: Some(3),
            fds: 1,
            sender: ":1.5".into(),
            ..Message::call("org.freedesktop.login1", "/org", "org.M", "Inhibit", body)
        };
        let bytes = message.encode();
        assert_eq!(Message::length(bytes[..HEAD].try_into().unwrap()).unwrap(), bytes.len());
        assert_eq!(Message::decode(&bytes).unwrap(), message);
        for end in 0..bytes.len() {
            assert!(Message::decode(&bytes[..end]).is_err(), "{end}");
        }
    }
}
