//! Questions to a server that is not trusted yet, and what its answers, or the lack of them, mean.

use std::io::ErrorKind;
use std::time::Duration;

use http::header::DATE;
use http::{Request, StatusCode, Uri};
use jiff::Timestamp;
use kube::client::Body;
use kube::config::AuthInfo;
use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use super::error::JoinError;
use super::token::BootstrapToken;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How far clocks may be apart: new certificates count from five minutes before they are made.
const CLOCKS: i64 = 300;

/// A server, asked with or without trust, with or without a token.
pub(super) struct Probe {
    server: String,
    client: kube::Client,
}

/// An answer.
pub(super) struct Answer {
    pub(super) code: StatusCode,
    pub(super) body: Value,
    /// The server's clock.
    pub(super) date: Option<Timestamp>,
}

impl Probe {
    /// Asks `server` whoever it is, without saying who asks: for what proves itself by other means.
    pub(super) fn untrusting(server: &str) -> Result<Self, JoinError> {
        Self::new(server, |config| config.accept_invalid_certs = true)
    }

    /// Asks `server` if its certificate is by `ca`, showing the token.
    pub(super) fn trusting(
        server: &str,
        ca: &CertificateDer<'_>,
        token: &BootstrapToken,
    ) -> Result<Self, JoinError> {
        Self::new(server, |config| {
            config.root_cert = Some(vec![ca.to_vec()]);
            config.auth_info = AuthInfo { token: Some(token.bearer().into()), ..AuthInfo::default() };
        })
    }

    fn new(server: &str, set: impl FnOnce(&mut kube::Config)) -> Result<Self, JoinError> {
        let bad = |reason: String| JoinError::Server { server: server.to_owned(), reason };
        let uri: Uri = server.parse().map_err(|err: http::uri::InvalidUri| bad(err.to_string()))?;
        let mut config = kube::Config::new(uri);
        config.connect_timeout = Some(PATIENCE);
        config.read_timeout = Some(PATIENCE);
        config.default_retry = false;
        set(&mut config);
        let client = kube::Client::try_from(config).map_err(|err| bad(err.to_string()))?;
        Ok(Self { server: server.to_owned(), client })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, JoinError> {
        let request =
            Request::get(path).body(Body::empty()).map_err(|err| self.no_server(err.to_string()))?;
        let asked = async {
            let response = self.client.send(request).await.map_err(|err| failure(&self.server, &err))?;
            let (code, date) = (response.status(), date(response.headers()));
            let body = response.into_body().collect_bytes().await;
            let body = body.map_err(|err| failure(&self.server, &err))?;
            Ok(Answer { code, body: serde_json::from_slice(&body).unwrap_or_default(), date })
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(JoinError::Unreachable {
                server: self.server.clone(),
                reason: format!("no answer within {} s", PATIENCE.as_secs()),
            }),
        }
    }

    pub(super) fn no_server(&self, reason: impl Into<String>) -> JoinError {
        JoinError::NotAServer { server: self.server.clone(), reason: reason.into() }
    }
}

fn date(headers: &http::HeaderMap) -> Option<Timestamp> {
    let text = headers.get(DATE)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text).ok().map(|it| it.timestamp())
}

/// Whether two clocks are near enough.
pub(super) fn compare_clocks(ours: Timestamp, servers: Timestamp) -> Result<(), JoinError> {
    let ahead = ours.as_second() - servers.as_second();
    if ahead.abs() <= CLOCKS {
        return Ok(());
    }
    let apart = coracle_apimachinery::duration::human(ahead.abs());
    Err(JoinError::Clock { apart, direction: if ahead < 0 { "behind" } else { "ahead of" } })
}

/// What an attempt that got no answer means: looked for in the whole chain of causes.
fn failure(server: &str, error: &(dyn std::error::Error + 'static)) -> JoinError {
    let server = server.to_owned();
    let mut last = error.to_string();
    let mut at = Some(error);
    while let Some(cause) = at {
        last = cause.to_string();
        if let Some(tls) = tls_cause(cause) {
            return match tls {
                rustls::Error::InvalidCertificate(why) => certificate(server, why),
                other => JoinError::NotAServer { server, reason: format!("TLS fails: {other}") },
            };
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            let reason = match io.kind() {
                ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                ErrorKind::TimedOut => "no answer in time".to_owned(),
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "no route to it".to_owned(),
                _ => io.to_string(),
            };
            return JoinError::Unreachable { server, reason };
        }
        at = cause.source();
    }
    JoinError::Unreachable { server, reason: last }
}

fn tls_cause<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    // One kind of error of I/O may carry another.
    let inner = cause.downcast_ref::<std::io::Error>()?.get_ref()?;
    tls_cause(inner)
}

fn certificate(server: String, why: &CertificateError) -> JoinError {
    let reason = match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired, or this machine's clock is ahead".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it does not count yet: this machine's clock is behind".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "it is not by the cluster's CA: somebody stands between".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("it is not for this name or address: name the server as it calls itself ({why})")
        }
        other => other.to_string(),
    };
    JoinError::Certificate { server, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_a_little() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(compare_clocks(at(1000), at(1300)).is_ok());
        let text = |ours, servers| compare_clocks(at(ours), at(servers)).err().unwrap().to_string();
        assert!(text(0, 7200).contains("clock is 120m behind the server's"), "{}", text(0, 7200));
        assert!(text(8000, 0).contains("ahead of the server's"));
    }

    #[tokio::test]
    async fn silence_and_strangers_are_told_apart() {
        let ask = async |url: String| {
            Probe::untrusting(&url).unwrap().get("/version").await.err().map(|it| it.to_string())
        };
        // A port that nobody listens on.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let text = ask(format!("https://{address}")).await.unwrap();
        assert!(text.contains("cannot reach") && text.contains("connection refused"), "{text}");
        // Somebody who speaks no TLS.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stranger = async {
            use tokio::io::AsyncWriteExt;
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2 hello there\r\n").await;
        };
        let (text, ()) = tokio::join!(ask(format!("https://{address}")), stranger);
        let text = text.unwrap();
        assert!(text.contains("does not answer as a cluster's API server"), "{text}");
    }
}
