//! Certificates of the server. Files may change under it: they are looked at when somebody connects.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite};
use tokio_rustls::TlsAcceptor;

use super::ServerError;
use crate::certificate::{CertificateStore, SERVER};
use crate::config::{KubeletConfig, TlsSettings};
use crate::report;

/// How old a look at the files may be.
const FRESH: Duration = Duration::from_secs(1);

/// TLS as the files say it now.
pub(super) struct Tls {
    config: Arc<KubeletConfig>,
    state: Mutex<State>,
}

#[derive(Clone)]
struct State {
    looked: Instant,
    stamps: Vec<Stamp>,
    acceptor: Option<TlsAcceptor>,
}

/// A file as it was: inode and time of the last change.
type Stamp = Option<(u64, i64, i64)>;

impl Tls {
    /// With the configured certificate, the one that the cluster signed, or one of our own making.
    pub async fn open(config: Arc<KubeletConfig>) -> Result<Arc<Self>, ServerError> {
        let with = config.clone();
        let loaded = tokio::task::spawn_blocking(move || look(&with)).await;
        let (stamps, acceptor) = loaded.map_err(|err| ServerError::Tls(err.to_string()))?;
        let state = Mutex::new(State { looked: Instant::now(), stamps, acceptor: acceptor? });
        Ok(Arc::new(Self { config, state }))
    }

    /// What to greet the next connection with; none while the cluster has not signed a certificate.
    pub async fn acceptor(&self) -> Option<TlsAcceptor> {
        let State { looked, stamps, acceptor } = self.lock().clone();
        if looked.elapsed() < FRESH {
            return acceptor;
        }
        self.lock().looked = Instant::now();
        let config = self.config.clone();
        let again =
            tokio::task::spawn_blocking(move || (stamps != self::stamps(&config)).then(|| look(&config)));
        let Ok(Some((stamps, loaded))) = again.await else { return acceptor };
        let mut state = self.lock();
        state.stamps = stamps;
        match loaded {
            Ok(acceptor) => {
                tracing::info!("certificates of the server were read again");
                state.acceptor = acceptor;
            }
            Err(err) => {
                tracing::warn!(error = %report(&err), "changed certificates are of no use, kept the old")
            }
        }
        state.acceptor.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn files(config: &KubeletConfig) -> Vec<PathBuf> {
    let settings = &config.server;
    let mut files: Vec<PathBuf> = settings.client_ca_file.iter().cloned().collect();
    if settings.tls_bootstrap {
        files.push(store(config).current_path());
    } else {
        files.extend([&settings.tls_cert_file, &settings.tls_key_file].into_iter().flatten().cloned());
    }
    files
}

fn store(config: &KubeletConfig) -> CertificateStore {
    CertificateStore::new(&config.server.cert_dir, SERVER)
}

fn stamps(config: &KubeletConfig) -> Vec<Stamp> {
    let stamp =
        |path: PathBuf| std::fs::metadata(path).ok().map(|it| (it.ino(), it.ctime(), it.ctime_nsec()));
    files(config).into_iter().map(stamp).collect()
}

/// The stamps first: what changes while we read is then seen as a change.
fn look(config: &KubeletConfig) -> (Vec<Stamp>, Result<Option<TlsAcceptor>, ServerError>) {
    (stamps(config), load(config))
}

fn load(config: &KubeletConfig) -> Result<Option<TlsAcceptor>, ServerError> {
    let settings = &config.server;
    let (certificate, key) = match (&settings.tls_cert_file, &settings.tls_key_file) {
        _ if settings.tls_bootstrap => match store(config).current().map_err(|err| tls(report(&err)))? {
            Some(pair) => (pair.pem.clone(), pair.pem),
            None => return Ok(None),
        },
        (Some(certificate), Some(key)) => (read(certificate)?, read(key)?),
        (None, None) => own(&settings.cert_dir, config)?,
        _ => return Err(ServerError::Tls("a certificate file and a key file belong together".to_owned())),
    };
    let provider = Arc::new(provider(&settings.tls));
    let versions: &[&rustls::SupportedProtocolVersion] =
        if settings.tls.only_13 { &[&rustls::version::TLS13] } else { rustls::ALL_VERSIONS };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(tls)?;
    let builder = match &settings.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in CertificateDer::pem_slice_iter(read(path)?.as_bytes()) {
                roots.add(root.map_err(tls)?).map_err(tls)?;
            }
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
    Ok(Some(TlsAcceptor::from(Arc::new(server))))
}

/// Suites and curves as configured; those of TLS 1.3 are not to be chosen from, as upstream.
fn provider(settings: &TlsSettings) -> CryptoProvider {
    let mut provider = default_provider();
    if !settings.suites.is_empty() {
        let kept = |it: &SupportedCipherSuite| it.tls13().is_some() || settings.suites.contains(&it.suite());
        provider.cipher_suites.retain(kept);
    }
    if !settings.groups.is_empty() {
        provider.kx_groups.retain(|it| settings.groups.contains(&it.name()));
    }
    provider
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
