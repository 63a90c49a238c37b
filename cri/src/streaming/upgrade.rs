//! Upgraded HTTP/1.1 connections to a runtime's streaming server.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::StreamError;

/// How long the streaming server may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How much of a refusal is read.
const REFUSAL: usize = 16 << 10;

/// An upgraded connection.
pub struct Opened {
    /// The headers of the 101 answer.
    pub headers: HeaderMap,
    /// The connection.
    pub io: TokioIo<Upgraded>,
}

/// Opens a stream at a runtime's streaming URL, with the headers of the upgrade that is wanted (`upgrade` among them).
pub async fn open(url: &str, method: Method, headers: &HeaderMap) -> Result<Opened, StreamError> {
    let place = place(url);
    let failed = |source: io::Error| StreamError::Connect { url: place.clone(), source };
    let attempt = tokio::time::timeout(ANSWER, attempt(url, method, headers));
    match attempt.await.map_err(|_elapsed| failed(io::ErrorKind::TimedOut.into()))? {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err((status, body))) => Err(StreamError::Refused { url: place, status, body }),
        Err(err) => Err(failed(err)),
    }
}

/// The URL's host, port and first segment; what follows is a secret.
fn place(url: &str) -> String {
    let segments: Vec<&str> = url.splitn(5, '/').collect();
    segments.get(..4.min(segments.len())).unwrap_or_default().join("/")
}

type Refusal = (StatusCode, String);

async fn attempt(url: &str, method: Method, headers: &HeaderMap) -> io::Result<Result<Opened, Refusal>> {
    let uri: Uri = url.parse().map_err(io::Error::other)?;
    let authority = uri.authority().ok_or_else(|| io::Error::other("URL without a host"))?;
    if uri.scheme_str() != Some("http") {
        return Err(io::Error::other("the runtime's streaming server must speak http"));
    }
    let host = authority.host().trim_matches(['[', ']']);
    let tcp = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    tcp.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.map_err(io::Error::other)?;
    let mut connection = std::pin::pin!(connection.with_upgrades());
    let path = uri.path_and_query().map_or("/", |it| it.as_str());
    let mut request =
        Request::builder().method(method).uri(path).body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    *request.headers_mut() = headers.clone();
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str()).map_err(io::Error::other)?);
    debug_assert!(headers.contains_key(UPGRADE));
    let mut answer = std::pin::pin!(sender.send_request(request));
    // The connection may be done with the upgrade, or broken, before the answer is looked at; the answer says which.
    let (response, ended) = tokio::select! {
        response = &mut answer => (response, false),
        ended = &mut connection => {
            ended.map_err(io::Error::other)?;
            (answer.await, true)
        }
    };
    let response = response.map_err(io::Error::other)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        let body = Limited::new(response.into_body(), REFUSAL).collect();
        let body = tokio::select! {
            body = body => body.map(|it| it.to_bytes()).unwrap_or_default(),
            _ = &mut connection, if !ended => Bytes::new(),
        };
        return Ok(Err((status, String::from_utf8_lossy(&body).trim().to_owned())));
    }
    let headers = response.headers().clone();
    if !ended {
        connection.await.map_err(io::Error::other)?;
    }
    let upgraded = hyper::upgrade::on(response).await;
    Ok(Ok(Opened { headers, io: TokioIo::new(upgraded.map_err(io::Error::other)?) }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn tokens_stay_out_of_errors() {
        assert_eq!(super::place("http://127.0.0.1:4/exec/SECRET"), "http://127.0.0.1:4/exec");
        assert_eq!(super::place("nonsense"), "nonsense");
    }
}
