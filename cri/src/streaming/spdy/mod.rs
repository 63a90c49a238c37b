//! SPDY/3.1, the subset that container runtimes and their clients speak.
//!
//! There is no flow control: both ends of this field ignore window updates. Header blocks of one direction share one
//! zlib stream for the whole connection, so frames must be read and written in order, by one reader and one writer.

mod dictionary;
mod frame; // frames as bytes
mod headers; // header blocks
mod io; // frames over a connection

pub use frame::{Frame, Kind};
pub use headers::Headers;
pub use io::{Reader, Writer};

/// How a peer breaks the protocol, or the connection breaks.
#[derive(Debug, thiserror::Error)]
pub enum SpdyError {
    /// The connection broke.
    #[error("connection")]
    Io(#[from] std::io::Error),
    /// Not SPDY/3.
    #[error("frame of version {0}, not 3")]
    Version(u16),
    /// A control frame too short for what it must hold.
    #[error("frame of kind {kind} with {length} bytes is too short")]
    Short {
        /// Its kind's number.
        kind: u16,
        /// Its length.
        length: usize,
    },
    /// More than we are ready to hold.
    #[error("frame of {0} bytes is too long")]
    Long(usize),
    /// A header block that cannot be inflated or taken apart.
    #[error("header block: {0}")]
    Headers(&'static str),
}
