//! The node's own certificates: asked for by CertificateSigningRequests, kept in files, renewed before they expire.
//!
//! A node that has nothing but a bootstrap kubeconfig gets its client certificate in [`bootstrap()`]; [`keep`] renews
//! client and serving certificates for as long as the kubelet runs. Files have upstream's names, so that a change of
//! kubelet finds them.

mod bootstrap; // the first client certificate
mod keep; // renewal before expiry
mod request; // a CertificateSigningRequest, and the wait for its answer
mod store; // files: kubelet-client-<date>.pem, -current.pem
mod wish; // what a certificate is wanted for; its key

use std::path::PathBuf;

pub use bootstrap::{Bootstrap, bootstrap, import};
pub use keep::{Keeping, keep};
pub use store::{CertificateStore, Pair};
pub use wish::Wish;

/// The name of client certificates' files.
pub const CLIENT: &str = "kubelet-client";
/// The name of serving certificates' files.
pub const SERVER: &str = "kubelet-server";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file of certificates, keys or credentials.
    #[error("{action} {path}", path = path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A file or an answer holds no certificate and key that belong together.
    #[error("{what}: {reason}")]
    Malformed {
        /// Which.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// No client could be made.
    #[error("reach the API server")]
    Client(#[source] coracle_client::TransportError),
    /// The API server did not take the request, or could not be asked about it.
    #[error("certificate signing request {name}: {action}")]
    Call {
        /// The request's name.
        name: String,
        /// What was tried.
        action: &'static str,
        /// The server's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// An approver or the signer said no.
    #[error("certificate signing request {name} is {verdict}, reason: {reason}, message: {message}")]
    Refused {
        /// The request's name.
        name: String,
        /// `denied` or `failed`.
        verdict: &'static str,
        /// Machine readable.
        reason: String,
        /// For people.
        message: String,
    },
    /// Nobody answered in time.
    #[error("certificate signing request {name} was neither approved nor denied in time")]
    Unanswered {
        /// The request's name.
        name: String,
    },
}

#[cfg(test)]
mod tests;
