//! Requests and upgrades to another server.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use coracle_apimachinery::Status;
use http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::target::{Target, Transport};
use crate::error::{ApiError, Outcome};
use crate::http::body::{Body, RequestBody, boxed, request_bytes};

/// How long a connection and its TLS handshake may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the other server may think before it answers.
const ANSWER: Duration = Duration::from_secs(60);

/// The way to other servers.
pub(super) struct Backends {
    kubelets: TlsConnector,
    pods: TlsConnector,
    tracker: TaskTracker,
    token: CancellationToken,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Backends {
    pub fn new(kubelets: ClientConfig, tracker: TaskTracker, token: CancellationToken) -> Self {
        let mut kubelets = kubelets;
        // Upgrades are of HTTP/1.1.
        kubelets.alpn_protocols = vec![b"http/1.1".to_vec()];
        let pods = trusting::config();
        let connector = |config: ClientConfig| TlsConnector::from(Arc::new(config));
        Self { kubelets: connector(kubelets), pods: connector(pods), tracker, token }
    }

    /// Sends a request on a connection of its own; the answer's body streams.
    pub async fn send(&self, target: &Target, request: Request<RequestBody>) -> Outcome<Response<Incoming>> {
        let (parts, body) = request.into_parts();
        let mut headers = end_to_end(parts.headers);
        headers.remove(AUTHORIZATION);
        self.exchange(target, parts.method, headers, body).await
    }

    /// Asks for an upgrade with the client's own headers. When the other server agrees, the client's connection is tied
    /// to it; a client in this process takes the connection itself.
    pub async fn upgrade(
        &self,
        target: &Target,
        mut request: Request<RequestBody>,
    ) -> Outcome<Response<Body>> {
        let client = request.extensions_mut().remove::<OnUpgrade>();
        let mut headers = request.headers().clone();
        for private in [AUTHORIZATION, HOST] {
            headers.remove(private);
        }
        let method = request.method().clone();
        let mut answer = self.exchange(target, method, headers, request_bytes("")).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (parts, body) = answer.into_parts();
            let mut response = Response::new(Body::Proxied(boxed(body)));
            *response.status_mut() = parts.status;
            *response.headers_mut() = end_to_end(parts.headers);
            return Ok(response);
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = answer.headers().clone();
        match client {
            Some(client) => self.tie(client, hyper::upgrade::on(&mut answer)),
            None => {
                if let Some(backend) = answer.extensions_mut().remove::<OnUpgrade>() {
                    response.extensions_mut().insert(backend);
                }
            }
        }
        Ok(response)
    }

    fn tie(&self, client: OnUpgrade, backend: OnUpgrade) {
        let token = self.token.clone();
        self.tracker.spawn(async move {
            let (Ok(client), Ok(backend)) = tokio::join!(client, backend) else { return };
            let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
            // A server that stops cuts its streams. Ends of stream travel on, one direction at a time.
            tokio::select! {
                ended = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut backend, 16 << 10, 16 << 10) => {
                    if let Err(err) = ended {
                        tracing::debug!(error = %err, "a stream broke off");
                    }
                }
                () = token.cancelled() => {}
            }
        });
    }

    async fn exchange(
        &self,
        target: &Target,
        method: Method,
        mut headers: HeaderMap,
        body: RequestBody,
    ) -> Outcome<Response<Incoming>> {
        let io = match tokio::time::timeout(CONNECT, self.dial(target)).await {
            Ok(Ok(io)) => io,
            Ok(Err(err)) => return Err(unreachable(target, &err.to_string())),
            Err(_elapsed) => return Err(unreachable(target, "i/o timeout")),
        };
        let broken = |err: hyper::Error| unreachable(target, &err.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
        let token = self.token.clone();
        self.tracker.spawn(async move {
            // Ends with the answer's body, with the upgrade, or with us.
            tokio::select! { ended = connection.with_upgrades() => drop(ended), () = token.cancelled() => {} }
        });
        if let Ok(host) = HeaderValue::from_str(&target.authority()) {
            headers.insert(HOST, host);
        }
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = target.uri()?;
        *request.headers_mut() = headers;
        match tokio::time::timeout(ANSWER, sender.send_request(request)).await {
            Ok(answer) => answer.map_err(broken),
            Err(_elapsed) => Err(Status::timeout("the other server did not answer in time", 0).into()),
        }
    }

    async fn dial(&self, target: &Target) -> io::Result<Box<dyn Io>> {
        let tcp = TcpStream::connect((target.host.as_str(), target.port)).await?;
        tcp.set_nodelay(true)?;
        let connector = match target.transport {
            Transport::Plain => return Ok(Box::new(tcp)),
            Transport::Kubelet => &self.kubelets,
            Transport::Tls => &self.pods,
        };
        let name = ServerName::try_from(target.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(connector.connect(name, tcp).await?))
    }
}

fn unreachable(target: &Target, reason: &str) -> ApiError {
    let words = format!("error trying to reach service: dial tcp {}: {reason}", target.authority());
    if target.transport == Transport::Kubelet {
        return ApiError::internal(words);
    }
    Status::unavailable(words).into()
}

/// Whether the request wants to leave HTTP.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(CONNECTION).iter().filter_map(|it| it.to_str().ok());
    headers.contains_key(UPGRADE)
        && connection.flat_map(|it| it.split(',')).any(|it| it.trim().eq_ignore_ascii_case("upgrade"))
}

/// The headers that are not of one connection only.
pub(super) fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .filter_map(|it| it.trim().parse().ok())
        .collect();
    let keep_alive = HeaderName::from_static("keep-alive");
    let fixed = [
        CONNECTION,
        keep_alive,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        HOST,
    ];
    for name in named.into_iter().chain(fixed) {
        headers.remove(name);
    }
    headers
}

/// TLS to pods and services, whose certificates nobody can know: as upstream, they are not verified.
mod trusting {
    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::ring::default_provider;
    use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    struct Trusting(Arc<CryptoProvider>);

    pub fn config() -> ClientConfig {
        let provider = Arc::new(default_provider());
        ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider knows the default versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
            .with_no_client_auth()
    }

    impl ServerCertVerifier for Trusting {
        fn verify_server_cert(
            &self,
            _leaf: &CertificateDer<'_>,
            _intermediates: &[CertificateDer<'_>],
            _name: &ServerName<'_>,
            _ocsp: &[u8],
            _now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
