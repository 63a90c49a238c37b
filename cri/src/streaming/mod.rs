//! Byte streams between a client and a runtime: exec, attach, port-forward.
//!
//! Nothing is buffered beyond a frame. What the client speaks decides how: SPDY and the old WebSocket protocols pass
//! through untouched ([`splice`]), since runtimes speak them; v5 WebSockets, which can half-close, are translated to
//! SPDY ([`remote_command`]); port-forward tunnels are unwrapped ([`tunnel`]).

mod command; // v5.channel.k8s.io to SPDY
pub mod spdy; // SPDY/3.1, as far as runtimes speak it
mod splice; // bytes both ways
mod tunnel; // SPDY inside WebSocket messages
mod upgrade; // HTTP/1.1 upgrades, both sides
pub mod websocket; // which protocol a client wants

pub use command::{Wanted, remote_command};
pub use splice::splice;
pub use tunnel::tunnel;
pub use upgrade::{Opened, open};

/// How a stream fails.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The streaming server cannot be reached or does not speak HTTP.
    #[error("open stream at {url}")]
    Connect {
        /// Where, without its token.
        url: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The streaming server says no.
    #[error("open stream at {url}: {status} {body}")]
    Refused {
        /// Where, without its token.
        url: String,
        /// The HTTP status.
        status: http::StatusCode,
        /// What it says.
        body: String,
    },
    /// A SPDY peer breaks the protocol.
    #[error("read SPDY frames from the runtime")]
    Spdy(#[from] spdy::SpdyError),
    /// The client's WebSocket broke.
    #[error("read messages from the client")]
    WebSocket(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// Bytes could not be moved.
    #[error("copy between client and runtime")]
    Copy(#[source] std::io::Error),
}

impl From<tokio_tungstenite::tungstenite::Error> for StreamError {
    fn from(source: tokio_tungstenite::tungstenite::Error) -> Self {
        Self::WebSocket(Box::new(source))
    }
}
