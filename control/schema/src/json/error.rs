//! Why an object could not be read.

/// Why an object could not be read, in the words clients know from Go's decoders.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The text is no JSON (or YAML).
    #[error("{0}")]
    Syntax(String),
    /// A value is not of its field's type.
    #[error("{0}")]
    Type(String),
    /// Unknown or duplicate fields, under strict validation.
    #[error("strict decoding error: {}", .0.join(", "))]
    Strict(Vec<String>),
}
