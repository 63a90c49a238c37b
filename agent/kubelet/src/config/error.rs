//! Why a configuration is refused.

use std::path::PathBuf;

/// What is wrong, and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// A file could not be read.
    #[error("read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A file is not YAML or JSON, or names a key twice.
    #[error("{path}: {message}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        message: String,
    },
    /// A file is of another kind.
    #[error("{path}: expected kubelet.config.k8s.io/v1beta1 KubeletConfiguration, found {found:?}", path = path.display())]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// `apiVersion/kind` as found.
        found: String,
    },
    /// Fields that there are not.
    #[error("{path}: strict decoding error: {}", .fields.iter().map(|it| format!("unknown field {it:?}")).collect::<Vec<_>>().join(", "), path = path.display())]
    UnknownFields {
        /// The file.
        path: PathBuf,
        /// Each with its whole path.
        fields: Vec<String>,
    },
    /// A field of another type.
    #[error("{field}: expected {want}, found {found}")]
    WrongType {
        /// Its path.
        field: String,
        /// The type it has.
        want: &'static str,
        /// What was there.
        found: String,
    },
    /// A value that makes no sense.
    #[error("{field}: invalid value {value}: {reason}")]
    Invalid {
        /// Its path.
        field: String,
        /// The value.
        value: String,
        /// Why not.
        reason: String,
    },
    /// A value that asks for what this kubelet does not do.
    #[error("{}", .0.iter().map(|(field, value)| format!("{field}: {value} is not supported by this kubelet")).collect::<Vec<_>>().join("; "))]
    NotSupported(Vec<(String, String)>),
    /// A flag that there is not, or whose value is wrong.
    #[error("--{flag}: {reason}")]
    Flag {
        /// Without dashes.
        flag: String,
        /// Why not.
        reason: String,
    },
}
