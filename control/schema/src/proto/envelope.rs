//! The frame upstream puts around an object: four magic bytes, then a message with kind and content.

use super::ProtoError;
use super::wire::{Reader, Wire, put_bytes, put_message};

const MAGIC: &[u8; 4] = b"k8s\0";

/// An object out of its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'b> {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// The object's own message.
    pub raw: &'b [u8],
}

/// Takes the frame off.
pub fn split_envelope(bytes: &[u8]) -> Result<Envelope<'_>, ProtoError> {
    let inner = bytes.strip_prefix(MAGIC).ok_or(ProtoError::NoEnvelope)?;
    let mut envelope = Envelope { api_version: String::new(), kind: String::new(), raw: &[] };
    let mut reader = Reader::new(inner);
    while let Some((tag, wire)) = reader.next()? {
        match (tag, wire) {
            (1, Wire::Bytes(meta)) => {
                let mut reader = Reader::new(meta);
                while let Some((tag, wire)) = reader.next()? {
                    let text = || wire.bytes().map(|it| String::from_utf8_lossy(it).into_owned());
                    match tag {
                        1 => envelope.api_version = text().unwrap_or_default(),
                        2 => envelope.kind = text().unwrap_or_default(),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(raw)) => envelope.raw = raw,
            _ => {}
        }
    }
    Ok(envelope)
}

/// Puts the frame around an object at rest, with the resourceVersion when one is given (the object must have its
/// metadata as field 1, as all with a resourceVersion do).
pub fn join_envelope(api_version: &str, kind: &str, raw: &[u8], resource_version: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + 64);
    out.extend_from_slice(MAGIC);
    put_message(&mut out, 1, |out| {
        put_bytes(out, 1, api_version.as_bytes());
        put_bytes(out, 2, kind.as_bytes());
    });
    if resource_version.is_empty() {
        put_bytes(&mut out, 2, raw);
    } else {
        // a message that comes in two parts is merged by every reader
        let mut whole = Vec::with_capacity(raw.len() + 32);
        whole.extend_from_slice(raw);
        let is_list = kind.ends_with("List");
        let version_tag = if is_list { 2 } else { 6 };
        put_message(&mut whole, 1, |out| put_bytes(out, version_tag, resource_version.as_bytes()));
        put_bytes(&mut out, 2, &whole);
    }
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    out
}

/// One event of a watch as protobuf clients read it: length, then type and object in its envelope.
pub fn watch_frame(event: &str, envelope: &[u8]) -> Vec<u8> {
    let mut inner = Vec::with_capacity(envelope.len() + 32);
    put_bytes(&mut inner, 1, event.as_bytes());
    put_message(&mut inner, 2, |out| put_bytes(out, 1, envelope));
    let mut out = Vec::with_capacity(inner.len() + 4);
    out.extend_from_slice(&u32::try_from(inner.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&inner);
    out
}
