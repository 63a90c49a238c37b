//! How calls to a runtime fail.

/// A call that failed: which call, about which object, and the runtime's own words.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CriError {
    /// The runtime answered with an error.
    #[error("{call} {object}: {message}")]
    Refused {
        /// The CRI call, as in the protocol: `RunPodSandbox`.
        call: &'static str,
        /// What it was about: an id, a name, an image.
        object: String,
        /// The gRPC code.
        code: tonic::Code,
        /// The runtime's message, as it came.
        message: String,
    },
    /// The runtime did not answer in time. What was asked for may still happen.
    #[error("{call} {object}: no answer within {after:?}")]
    TimedOut {
        /// The CRI call.
        call: &'static str,
        /// What it was about.
        object: String,
        /// The deadline that passed.
        after: std::time::Duration,
    },
    /// Nobody answers at the endpoint.
    #[error("connect to the container runtime at {endpoint}: {message}")]
    Unreachable {
        /// The endpoint as configured.
        endpoint: String,
        /// The transport's reason.
        message: String,
    },
}

impl CriError {
    /// Whether the runtime says that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: tonic::Code::NotFound, .. })
    }

    /// Whether the runtime does not know the call.
    pub fn is_unimplemented(&self) -> bool {
        matches!(self, Self::Refused { code: tonic::Code::Unimplemented, .. })
    }

    /// Whether the outcome is unknown: the call may have had its effect.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Refused { code, .. } => {
                matches!(
                    code,
                    tonic::Code::DeadlineExceeded | tonic::Code::Unavailable | tonic::Code::Cancelled
                )
            }
            Self::Unreachable { .. } => false,
        }
    }
}
