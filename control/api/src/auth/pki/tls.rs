//! TLS of the API server and of its calls.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};

use super::{Credential, Pki, PkiError};

impl Pki {
    /// The API server's TLS: HTTP/2 and HTTP/1.1, client certificates asked for but not required. A certificate of a
    /// stranger passes the handshake, so that the caller reads a proper 401 instead of a broken connection; its
    /// chain is the [`Authenticator`](crate::auth::Authenticator)'s to verify.
    pub fn server_config(&self) -> Result<ServerConfig, PkiError> {
        let (chain, key) = self.serving.parsed()?;
        let asking = AskOnly { roots: self.client_verifier()?, provider: Arc::new(ring::default_provider()) };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_client_cert_verifier(Arc::new(asking))
            .with_single_cert(chain, key)
            .map_err(tls)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Verifies chains of client certificates against the CA.
    pub fn client_verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
        WebPkiClientVerifier::builder_with_provider(
            Arc::new(self.roots()?),
            Arc::new(ring::default_provider()),
        )
        .allow_unauthenticated()
        .build()
        .map_err(tls)
    }

    /// TLS of a client that trusts the CA and shows `credential`.
    pub fn client_config(&self, credential: &Credential) -> Result<ClientConfig, PkiError> {
        let (chain, key) = credential.parsed()?;
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(self.roots()?),
            Arc::new(ring::default_provider()),
        )
        .build()
        .map_err(tls)?;
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_webpki_verifier(verifier)
            .with_client_auth_cert(chain, key)
            .map_err(tls)
    }

    fn roots(&self) -> Result<RootCertStore, PkiError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca_der()?).map_err(tls)?;
        Ok(roots)
    }
}

impl Credential {
    /// The chain and the key as rustls takes them.
    pub fn parsed(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PkiError> {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(tls)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(tls)?;
        Ok((chain, key))
    }
}

fn tls(err: impl std::fmt::Display) -> PkiError {
    PkiError::Tls(err.to_string())
}

/// Asks for a certificate and proves that its key is the peer's; nothing else.
#[derive(Debug)]
struct AskOnly {
    roots: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AskOnly {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.roots.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
