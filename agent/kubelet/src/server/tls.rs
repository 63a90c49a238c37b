//! Certificates of the server.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::ServerError;
use crate::config::KubeletConfig;

/// TLS with the configured certificate, or one of our own making in the certificate folder.
pub(super) async fn acceptor(config: &Arc<KubeletConfig>) -> Result<TlsAcceptor, ServerError> {
    let config = config.clone();
    let loaded = tokio::task::spawn_blocking(move || load(&config)).await;
    loaded.map_err(|err| ServerError::Tls(err.to_string()))?
}

fn load(config: &KubeletConfig) -> Result<TlsAcceptor, ServerError> {
    let settings = &config.server;
    let (certificate, key) = match (&settings.tls_cert_file, &settings.tls_key_file) {
        (Some(certificate), Some(key)) => (read(certificate)?, read(key)?),
        (None, None) => own(&settings.cert_dir, config)?,
        _ => return Err(ServerError::Tls("a certificate file and a key file belong together".to_owned())),
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(tls)?;
    let builder = match &settings.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in CertificateDer::pem_slice_iter(read(path)?.as_bytes()) {
                roots.add(root.map_err(tls)?).map_err(tls)?;
            }
            let provider = Arc::new(default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(tls)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(tls)?;
    let mut server = builder.with_single_cert(chain.map_err(tls)?, key).map_err(tls)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

/// A self-signed certificate, made once and kept as upstream keeps it.
fn own(folder: &Path, config: &KubeletConfig) -> Result<(String, String), ServerError> {
    let (certificate_path, key_path) = (folder.join("kubelet.crt"), folder.join("kubelet.key"));
    if certificate_path.exists() && key_path.exists() {
        return Ok((read(&certificate_path)?, read(&key_path)?));
    }
    let mut names = vec![config.node.name.clone()];
    names.extend(config.node.ips.iter().map(ToString::to_string));
    let made = rcgen::generate_simple_self_signed(names).map_err(tls)?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ServerError::File { path, source }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    for (path, pem) in [(&key_path, &key), (&certificate_path, &certificate)] {
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        file.and_then(|mut it| it.write_all(pem.as_bytes())).map_err(failed(path))?;
    }
    Ok((certificate, key))
}

fn read(path: &Path) -> Result<String, ServerError> {
    std::fs::read_to_string(path).map_err(|source| ServerError::File { path: path.to_owned(), source })
}

fn tls(err: impl std::fmt::Display) -> ServerError {
    ServerError::Tls(err.to_string())
}
