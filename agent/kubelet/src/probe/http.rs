//! GET as upstream's prober does it: no verification, no reuse, redirects followed on the same host only.

use std::sync::{Arc, OnceLock};

use http::header::{ACCEPT, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Outcome;

/// Upstream reads no more of a body than this.
const MAX_BODY: usize = 10 * 1024;
/// And follows no more redirects than this.
const MAX_REDIRECTS: usize = 10;
/// What we call ourselves; servers look for the first word.
const AGENT: &str = "kube-probe/1.36";

/// With or without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// TLS, any certificate.
    Https,
}

/// One GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// With or without TLS.
    pub scheme: Scheme,
    /// Address or name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// With the query, beginning with `/`.
    pub path: String,
    /// Headers that the user asked for; they go before ours.
    pub headers: Vec<(String, String)>,
}

/// The answer: status and the beginning of the body.
struct Answer {
    status: StatusCode,
    location: Option<String>,
    body: String,
}

/// Sends the request and judges the answer: 200 to 399 is success. The caller sets the deadline.
pub async fn get(request: &HttpRequest) -> Outcome {
    let mut at = request.clone();
    for _ in 0..MAX_REDIRECTS {
        let answer = match exchange(&at).await {
            Ok(answer) => answer,
            Err(err) => return Outcome::Failure(format!("Get {:?}: {err}", at.url())),
        };
        let Some(location) = answer.location.as_deref().filter(|_| answer.status.is_redirection()) else {
            return judge(&answer);
        };
        match at.redirect(location) {
            Some(next) if next.host == request.host => at = next,
            _ => {
                return Outcome::Warning(format!(
                    "Probe terminated redirects, Response body: {}",
                    answer.body
                ));
            }
        }
    }
    Outcome::Failure(format!("Get {:?}: stopped after {MAX_REDIRECTS} redirects", request.url()))
}

fn judge(answer: &Answer) -> Outcome {
    if (200..400).contains(&answer.status.as_u16()) {
        Outcome::Success
    } else {
        Outcome::Failure(format!("HTTP probe failed with statuscode: {}", answer.status.as_u16()))
    }
}

impl HttpRequest {
    /// The request's URL.
    pub fn url(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn redirect(&self, location: &str) -> Option<Self> {
        let uri: Uri = location.parse().ok()?;
        let path = uri.path_and_query().map_or("/", |it| it.as_str()).to_owned();
        let Some(host) = uri.host() else { return Some(Self { path, ..self.clone() }) };
        let scheme = if uri.scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http };
        let default = if scheme == Scheme::Https { 443 } else { 80 };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let headers = self.headers.clone();
        Some(Self { scheme, host, port: uri.port_u16().unwrap_or(default), path, headers })
    }
}

async fn exchange(request: &HttpRequest) -> Result<Answer, String> {
    let stream = TcpStream::connect((request.host.as_str(), request.port))
        .await
        .map_err(|err| format!("dial tcp {}: connect: {}", request.authority(), plain(&err)))?;
    match request.scheme {
        Scheme::Http => send(stream, request).await,
        Scheme::Https => {
            let name = rustls::pki_types::ServerName::try_from(request.host.clone())
                .map_err(|err| err.to_string())?;
            let connector = TlsConnector::from(trusting());
            let stream = connector.connect(name, stream).await.map_err(|err| err.to_string())?;
            send(stream, request).await
        }
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: &HttpRequest,
) -> Result<Answer, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|err| err.to_string())?;
    let mut built = Request::get(&request.path).body(Empty::<Bytes>::new()).map_err(|err| err.to_string())?;
    let headers = built.headers_mut();
    for (name, value) in &request.headers {
        let name: HeaderName = name.parse().map_err(|_| format!("invalid header {name:?}"))?;
        headers.append(name, HeaderValue::from_str(value).map_err(|err| err.to_string())?);
    }
    if !headers.contains_key(HOST) {
        headers.insert(HOST, HeaderValue::from_str(&request.authority()).map_err(|err| err.to_string())?);
    }
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    let exchange = async {
        let response = sender.send_request(built).await.map_err(|err| err.to_string())?;
        let status = response.status();
        let location = response.headers().get(LOCATION).and_then(|it| it.to_str().ok()).map(str::to_owned);
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map(|it| String::from_utf8_lossy(&it.to_bytes()).into_owned()).unwrap_or_default();
        Ok(Answer { status, location, body })
    };
    // The connection ends with the exchange: dropping either is safe, nothing is shared.
    tokio::pin!(exchange, connection);
    tokio::select! {
        answer = &mut exchange => answer,
        closed = &mut connection => match closed {
            Ok(()) => exchange.await,
            Err(err) => Err(err.to_string()),
        },
    }
}

/// Go's words for what users know: `connection refused`.
pub(super) fn plain(err: &std::io::Error) -> String {
    match err.raw_os_error() {
        Some(code) => nix::errno::Errno::from_raw(code).desc().to_lowercase(),
        None => err.to_string(),
    }
}

/// A TLS client that takes any certificate: a probe asks whether a server answers, not who it is.
fn trusting() -> Arc<rustls::ClientConfig> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let verifier = Arc::new(AnyServer(provider.clone()));
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("ring has cipher suites for TLS 1.2 and 1.3")
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth();
            Arc::new(config)
        })
        .clone()
}

#[derive(Debug)]
struct AnyServer(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls::pki_types::CertificateDer<'_>,
        _intermediates: &[rustls::pki_types::CertificateDer<'_>],
        _server_name: &rustls::pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
