//! Which protocol a WebSocket client wants, and the handshake's answer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// Exec and attach with half-close.
pub const V5: &str = "v5.channel.k8s.io";
/// A SPDY connection inside binary messages.
pub const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// Whether the request wants a WebSocket.
pub fn is_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, UPGRADE, "websocket") && has_token(headers, CONNECTION, "upgrade")
}

/// Whether the request wants any upgrade.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE) && has_token(headers, CONNECTION, "upgrade")
}

/// Whether the client offers the subprotocol.
pub fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    has_token(headers, SEC_WEBSOCKET_PROTOCOL, protocol)
}

fn has_token(headers: &HeaderMap, name: http::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .any(|it| it.trim().eq_ignore_ascii_case(token))
}

/// The answer to a WebSocket request, accepting `protocol`; 400 when the handshake lacks its key.
pub fn accept(headers: &HeaderMap, protocol: &str) -> http::Response<()> {
    let mut response = http::Response::new(());
    let key =
        headers.get(SEC_WEBSOCKET_KEY).filter(|key| STANDARD.decode(key).is_ok_and(|it| it.len() == 16));
    let Some(key) = key else {
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
        return response;
    };
    *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
    let values = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-accept", &derive_accept_key(key.as_bytes())),
        ("sec-websocket-protocol", protocol),
    ];
    for (name, value) in values {
        if let Ok(value) = http::HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// The server's side of an upgraded connection.
pub async fn server<S: AsyncRead + AsyncWrite + Unpin>(io: S) -> WebSocketStream<S> {
    let mut config = WebSocketConfig::default();
    config.read_buffer_size = 16 << 10;
    config.write_buffer_size = 0;
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// A binary message of a channel.
pub(super) fn message(channel: u8, payload: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(payload.len() + 1);
    bytes.push(channel);
    bytes.extend_from_slice(payload);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn protocols_are_found_in_lists_of_any_form() {
        let request = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io"),
        ]);
        assert!(
            is_websocket(&request)
                && is_upgrade(&request)
                && offers(&request, V5)
                && !offers(&request, TUNNEL)
        );
        assert!(!is_websocket(&headers(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")])));
        assert!(is_upgrade(&headers(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")])));
        assert!(!is_upgrade(&headers(&[("upgrade", "SPDY/3.1")])));
    }

    #[test]
    fn the_answer_proves_that_the_key_was_read() {
        // The example of RFC 6455.
        let answer = accept(&headers(&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]), V5);
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accept(&headers(&[]), V5).status(), 400);
        assert_eq!(accept(&headers(&[("sec-websocket-key", "short")]), V5).status(), 400);
    }
}
