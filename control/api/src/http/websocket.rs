//! Watches and logs for WebSocket clients, as browsers are: the same stream, a message for each of its pieces.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::{Body, RequestBody};
use super::info::Info;
use crate::error::{ApiError, Outcome};

/// The subprotocols of a stream without channels.
const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

/// How a stream becomes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// A text message a line: an event of a watch.
    Lines,
    /// A binary message a piece.
    Binary,
    /// A text message a piece, in base64.
    Base64,
}

/// The streams under way; they end with the server.
#[derive(Default)]
pub struct Sockets {
    tracker: TaskTracker,
    token: CancellationToken,
}

impl Sockets {
    /// Cuts the streams and waits for their end.
    pub async fn shutdown(&self) {
        self.token.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// A client that waits for a stream of messages.
pub struct Socket {
    upgrade: OnUpgrade,
    accept: HeaderValue,
    protocol: Option<&'static str>,
    watch: bool,
}

impl Socket {
    /// Takes the connection of a WebSocket client that asks for a watch or a log; `None` when it is none.
    ///
    /// # Errors
    /// When the handshake is no valid one.
    pub fn take(request: &mut Request<RequestBody>, info: &Info) -> Outcome<Option<Self>> {
        let watch = info.verb == "watch";
        let log = info.resource == "pods" && info.subresource == "log";
        if request.method() != Method::GET || !(watch || log) || !is_websocket(request.headers()) {
            return Ok(None);
        }
        let key = request.headers().get(SEC_WEBSOCKET_KEY);
        let key = key.filter(|key| STANDARD.decode(key).is_ok_and(|it| it.len() == 16));
        let accept = key.and_then(|key| HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok());
        let accept = accept
            .ok_or_else(|| ApiError::bad_request("websocket: Sec-WebSocket-Key is not 16 bytes in base64"))?;
        let protocol = subprotocol(request.headers(), watch)?;
        let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else { return Ok(None) };
        // From here on it is an ordinary request.
        let headers = request.headers_mut();
        let own: Vec<HeaderName> =
            headers.keys().filter(|name| name.as_str().starts_with("sec-websocket-")).cloned().collect();
        for name in own.into_iter().chain([CONNECTION, UPGRADE]) {
            headers.remove(name);
        }
        Ok(Some(Self { upgrade, accept, protocol, watch }))
    }

    /// Sends the answer's body over the connection when it is a stream; anything else is answered as it is.
    pub fn answer(self, sockets: &Sockets, response: Response<Body>) -> Response<Body> {
        if response.status() != StatusCode::OK {
            return response;
        }
        let content = response.headers().get("content-type").and_then(|it| it.to_str().ok());
        let framing = match (self.watch, self.protocol) {
            (true, _) if content.is_some_and(|it| it.contains("json")) => Framing::Lines,
            (_, Some(BASE64)) => Framing::Base64,
            _ => Framing::Binary,
        };
        let (upgrade, body, token) = (self.upgrade, response.into_body(), sockets.token.clone());
        sockets.tracker.spawn(async move {
            // A server that stops cuts its streams; clients come back.
            token.run_until_cancelled(carry(upgrade, body, framing)).await;
        });
        let mut switching = Response::new(Body::empty());
        *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = switching.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(protocol) = self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        }
        switching
    }
}

fn is_websocket(headers: &HeaderMap) -> bool {
    let has = |name, token: &str| values(headers, name).any(|it| it.eq_ignore_ascii_case(token));
    has(UPGRADE, "websocket") && has(CONNECTION, "upgrade")
}

fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let texts = headers.get_all(name).into_iter().filter_map(|it| it.to_str().ok());
    texts.flat_map(|it| it.split(',')).map(str::trim).filter(|it| !it.is_empty())
}

/// The first subprotocol that both sides speak; a client that names only others is refused. Watches have none.
fn subprotocol(headers: &HeaderMap, watch: bool) -> Outcome<Option<&'static str>> {
    let mut offered = values(headers, SEC_WEBSOCKET_PROTOCOL).peekable();
    if watch || offered.peek().is_none() {
        return Ok(None);
    }
    let known = offered.find_map(|it| [BINARY, BASE64].into_iter().find(|known| *known == it));
    known.map(Some).ok_or_else(|| {
        ApiError::bad_request(format!("websocket: none of the offered subprotocols is {BINARY} or {BASE64}"))
    })
}

async fn carry(upgrade: OnUpgrade, mut body: Body, framing: Framing) {
    let Ok(io) = upgrade.await else { return };
    let mut config = WebSocketConfig::default();
    config.read_buffer_size = 4 << 10;
    config.write_buffer_size = 0;
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, Some(config)).await;
    let (mut sink, mut source) = socket.split();
    loop {
        // Both arms only wait.
        tokio::select! {
            frame = body.frame() => {
                let Some(Ok(frame)) = frame else { break };
                let Ok(data) = frame.into_data() else { continue };
                for message in messages(&data, framing) {
                    if sink.send(message).await.is_err() {
                        return;
                    }
                }
            }
            said = source.next() => match said {
                // Pings are answered by the library; what else a client says is not asked for.
                Some(Ok(message)) if !message.is_close() => {}
                _ => return,
            }
        }
    }
    drop(sink.close().await);
}

fn messages(data: &Bytes, framing: Framing) -> Vec<Message> {
    match framing {
        Framing::Binary => vec![Message::Binary(data.clone())],
        Framing::Base64 => vec![Message::text(STANDARD.encode(data))],
        Framing::Lines => {
            let lines = data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            lines.map(|line| Message::text(String::from_utf8_lossy(line).into_owned())).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn subprotocols() {
        let choice = |offered: &[(&'static str, &str)], watch| subprotocol(&headers(offered), watch);
        let name = "sec-websocket-protocol";
        assert_eq!(choice(&[], false).unwrap(), None);
        assert_eq!(choice(&[(name, "x, binary.k8s.io")], false).unwrap(), Some(BINARY));
        assert_eq!(choice(&[(name, "base64.binary.k8s.io")], false).unwrap(), Some(BASE64));
        assert!(choice(&[(name, "v5.channel.k8s.io")], false).is_err());
        assert_eq!(choice(&[(name, "whatever")], true).unwrap(), None);
    }

    #[test]
    fn an_event_is_a_message() {
        let data = Bytes::from_static(b"{\"a\":1}\n{\"b\":2}\n");
        let texts = messages(&data, Framing::Lines);
        assert_eq!(texts, [Message::text("{\"a\":1}"), Message::text("{\"b\":2}")]);
        assert_eq!(messages(&Bytes::from_static(b"hi"), Framing::Base64), [Message::text("aGk=")]);
        assert_eq!(messages(&data, Framing::Binary), [Message::Binary(data)]);
    }

    #[test]
    fn only_a_websocket_is_one() {
        let yes = headers(&[("upgrade", "websocket"), ("connection", "keep-alive, Upgrade")]);
        assert!(is_websocket(&yes));
        assert!(!is_websocket(&headers(&[("upgrade", "SPDY/3.1"), ("connection", "Upgrade")])));
    }
}
