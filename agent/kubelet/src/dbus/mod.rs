//! The little of D-Bus that a kubelet needs: calls to systemd and logind, and their signals. Blocking.
//!
//! A general library brings an executor, macros and some forty crates for two services and six methods.

mod bus; // one connection
mod message; // a message to bytes and back
mod value; // values by their signatures

use std::path::PathBuf;

pub use bus::{Bus, Hangup};
pub use message::Message;
pub use value::Value;

/// Why the bus did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DbusError {
    /// Nobody listens.
    #[error("connect to D-Bus at {path}", path = path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke, or there was no answer in time.
    #[error("talk to D-Bus")]
    Broken(#[source] std::io::Error),
    /// The bus does not know us.
    #[error("D-Bus refused this process: {0}")]
    Refused(String),
    /// Bytes that are no message.
    #[error("D-Bus sent what is no message: {0}")]
    Malformed(&'static str),
    /// A method answered with an error.
    #[error("D-Bus call {method}: {name}: {message}")]
    Failed {
        /// What was called.
        method: String,
        /// The error's name.
        name: String,
        /// For people.
        message: String,
    },
}

impl DbusError {
    /// Whether a method answered with the error of this name.
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Failed { name, .. } if name == wanted)
    }
}

#[cfg(test)]
pub(crate) mod testing; // a bus of our own, for tests
#[cfg(test)]
mod tests;
