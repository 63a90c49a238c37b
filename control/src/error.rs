//! Why a control plane cannot start, or has ended.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What was tried, on what.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A range of addresses does not parse.
    #[error("{what} {value}: {reason}")]
    Config {
        /// Which setting.
        what: &'static str,
        /// What it is.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder of keys and certificates.
    #[error("open the certificates in {path}")]
    Pki {
        /// The folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<coracle_api::auth::pki::PkiError>,
    },
    /// The store.
    #[error("open the store")]
    Store(#[source] coracle_store::StoreError),
    /// The API server.
    #[error("start the API server: {0}")]
    Api(String),
    /// The port.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A part ended although nobody asked it to.
    #[error("the {part} ended by itself")]
    Ended {
        /// Which.
        part: &'static str,
    },
}
