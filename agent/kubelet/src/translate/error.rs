//! Why a container cannot be configured.

/// Upstream shows the text as the message of the waiting state, with [`ConfigError::reason`] as its reason.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A part that is not there yet.
    #[error("{0} is not supported by this kubelet")]
    NotYet(&'static str),
    /// The spec, or an object that it refers to, does not allow a container: the whole sentence.
    #[error("{0}")]
    Refused(String),
    /// A file for the container could not be made.
    #[error("{action}: {source}")]
    Io {
        /// What was tried, and on what.
        action: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

impl ConfigError {
    /// The reason of the container's waiting state.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotYet(_) | Self::Refused(_) => "CreateContainerConfigError",
            Self::Io { .. } => "CreateContainerError",
        }
    }
}
