//! Protobuf: the form of objects at rest, and what upstream's components send.
//!
//! At rest an object is its message without envelope, kind and resourceVersion: those are known from where it lies
//! and are spliced in when it is sent.

mod civil; // seconds since 1970 as RFC 3339 text
mod decode; // bytes into a Value
mod encode; // a Value into bytes
mod envelope; // the frame upstream puts around an object
mod read; // single fields out of bytes
mod stream; // bytes straight into JSON text
mod wire; // varints, tags, lengths

pub use decode::decode;
pub use encode::{encode, encode_with_version};
pub use envelope::{Envelope, join_envelope, split_envelope, watch_frame};
pub use read::{Meta, annotations, labels, read_meta, read_str};
pub use stream::{Splice, write_json};

/// Why bytes could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    /// They end in the middle of a field.
    #[error("unexpected EOF")]
    Truncated,
    /// They hold something that no encoder writes.
    #[error("illegal protobuf in {0}")]
    Illegal(String),
    /// Messages in messages beyond any sane depth.
    #[error("protobuf messages nested too deeply")]
    TooDeep,
    /// The envelope's magic bytes are not there.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoEnvelope,
    /// A value inside has no canonical form.
    #[error("illegal value in {0}")]
    Value(String),
}

/// How deep messages may nest: JSON schemas in custom resource definitions go deepest.
const MAX_DEPTH: usize = 200;

#[cfg(test)]
mod tests;
