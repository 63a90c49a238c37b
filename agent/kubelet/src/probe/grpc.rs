//! `grpc.health.v1.Health/Check` by hand: one small message over HTTP/2.

use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::Outcome;
use super::http::plain;

/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u8 = 1;

/// Asks whether `service` is served. The caller sets the deadline.
pub async fn check(host: &str, port: u16, service: &str) -> Outcome {
    match ask(host, port, service).await {
        Ok(SERVING) => Outcome::Success,
        Ok(status) => Outcome::Failure(format!("service unhealthy (responded with {:?})", name(status))),
        Err(err) => Outcome::Failure(err),
    }
}

fn name(status: u8) -> &'static str {
    match status {
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    }
}

async fn ask(host: &str, port: u16, service: &str) -> Result<u8, String> {
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let stream = TcpStream::connect((host, port)).await.map_err(|err| {
        let cause = plain(&err);
        format!(
            "timeout: failed to connect service {authority:?} within its deadline: connection error: {cause}"
        )
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|err| err.to_string())?;
    let request = Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(Full::new(Bytes::from(frame(service))))
        .map_err(|err| err.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|err| err.to_string())?;
        refused(response.headers())?;
        let body =
            Limited::new(response.into_body(), 64 * 1024).collect().await.map_err(|err| err.to_string())?;
        if let Some(trailers) = body.trailers() {
            refused(trailers)?;
        }
        Ok(status_in(&body.to_bytes()))
    };
    // The connection ends with the exchange: dropping either is safe, nothing is shared.
    tokio::select! {
        answer = exchange => answer,
        closed = connection => Err(closed.err().map_or_else(|| "connection closed".into(), |err| err.to_string())),
    }
}

/// The request in a gRPC frame: flag, length, `service = 1`.
fn frame(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or(0));
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(0);
    [&[0], length.to_be_bytes().as_slice(), &message].concat()
}

/// The `status = 1` of the response; 0 when the server left it out.
fn status_in(frame: &[u8]) -> u8 {
    match frame.get(5..) {
        Some([0x08, status, ..]) => *status,
        _ => 0,
    }
}

fn refused(headers: &HeaderMap) -> Result<(), String> {
    let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
    match text("grpc-status").as_str() {
        "" | "0" => Ok(()),
        "12" => Err("this server does not implement the grpc health protocol (grpc.health.v1.Health)".into()),
        code => Err(format!("error: health rpc probe failed: code {code}: {}", text("grpc-message"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        assert_eq!(frame(""), [0, 0, 0, 0, 0]);
        assert_eq!(frame("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(status_in(&[0, 0, 0, 0, 2, 8, 1]), SERVING);
        assert_eq!(status_in(&[0, 0, 0, 0, 0]), 0);
    }
}
