//! The cluster's keys and certificates on disk.
//!
//! Everything is made at the first start, reused afterwards, and made anew when it nears its end, when the names it has
//! to hold have changed or when its CA has. Files are readable by their owner alone and replaced atomically.

mod files; // private files, atomically
mod issue; // what a certificate holds, and whether an old one still does
mod sign; // certificates for keys of others
mod tls; // rustls configurations

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::token::{KeyError, SigningKey, TokenAuthority};
use issue::Wanted;

pub use issue::CertificateUse;
pub use sign::{SignError, Signing, is_usage};

/// What could not be done with keys and certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{verb} {path}")]
    File {
        /// `read`, `write`.
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The CA's files do not belong together or cannot be read. They are not touched.
    #[error("read the certificate authority in {path}: {reason}")]
    Authority {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("make certificate {name}")]
    Issue {
        /// Its file's name.
        name: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// The service-account key cannot be used. It is not touched.
    #[error("read service-account key {path}")]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// A TLS configuration could not be made.
    #[error("configure TLS: {0}")]
    Tls(String),
}

/// What the API server is called and where it answers.
#[derive(Debug, Clone, Default)]
pub struct PkiOptions {
    /// e.g. `cluster.local`.
    pub cluster_domain: String,
    /// The addresses of the `kubernetes` service and of this machine.
    pub addresses: Vec<IpAddr>,
    /// Further DNS names.
    pub names: Vec<String>,
}

/// A certificate with its key, both PEM.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// The folder of keys and certificates.
pub struct Pki {
    folder: PathBuf,
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
    serving: Credential,
}

impl Pki {
    /// Opens the folder, making what is missing and renewing what nears its end. Blocks on files.
    pub fn open(folder: &Path, options: &PkiOptions) -> Result<Self, PkiError> {
        files::make_folder(folder)?;
        let (ca_pem, ca_key) = authority(folder)?;
        let wrong =
            |err: rcgen::Error| PkiError::Authority { path: folder.to_owned(), reason: err.to_string() };
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key).map_err(wrong)?;
        let empty = Credential { certificate: String::new(), key: String::new() };
        let mut pki = Self { folder: folder.to_owned(), ca_pem, issuer, serving: empty };
        pki.serving = pki.credential("apiserver", &serving(options))?;
        Ok(pki)
    }

    /// The CA's certificate as PEM, for kubeconfigs and pods.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The CA's certificate.
    pub fn ca_der(&self) -> Result<CertificateDer<'static>, PkiError> {
        CertificateDer::from_pem_slice(self.ca_pem.as_bytes())
            .map_err(|err| PkiError::Authority { path: self.folder.clone(), reason: err.to_string() })
    }

    /// The API server's serving certificate.
    pub fn serving(&self) -> &Credential {
        &self.serving
    }

    /// The certificate of a client, kept in `<file>.crt` and `<file>.key`; `group` is its organization.
    pub fn client(&self, file: &str, name: &str, group: Option<&str>) -> Result<Credential, PkiError> {
        self.credential(file, &Wanted::client(name, group.map(str::to_owned)))
    }

    /// The certificate of the cluster's first user, who may do everything.
    pub fn admin(&self) -> Result<Credential, PkiError> {
        self.client("admin", "kubernetes-admin", Some("system:masters"))
    }

    /// The certificate by which the API server calls kubelets. It may use the kubelets' API and nothing else: it goes to
    /// whatever address a node reports.
    pub fn kubelet_client(&self) -> Result<Credential, PkiError> {
        self.client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", None)
    }

    /// The certificate by which the kubelet of `node` calls the API server.
    pub fn node(&self, node: &str) -> Result<Credential, PkiError> {
        self.client(&format!("node-{node}"), &format!("system:node:{node}"), Some("system:nodes"))
    }

    /// The certificate with which the kubelet of `node` serves at `addresses`.
    pub fn kubelet_serving(&self, node: &str, addresses: &[IpAddr]) -> Result<Credential, PkiError> {
        let wanted = Wanted {
            organization: Some("system:nodes".to_owned()),
            names: vec![node.to_owned()],
            addresses: addresses.to_vec(),
            ..Wanted::serving(&format!("system:node:{node}"))
        };
        self.credential(&format!("kubelet-{node}"), &wanted)
    }

    /// The authority of service-account tokens, with the key in `sa.key`.
    pub fn token_authority(&self, issuer: &str, audiences: Vec<String>) -> Result<TokenAuthority, PkiError> {
        let path = self.folder.join("sa.key");
        let pem = match files::read(&path)? {
            Some(pem) => pem,
            None => {
                let key = KeyPair::generate()
                    .map_err(|source| PkiError::Issue { name: "sa".to_owned(), source })?;
                files::write(&self.folder.join("sa.pub"), &key.public_key_pem())?;
                let pem = key.serialize_pem();
                files::write(&path, &pem)?;
                pem
            }
        };
        let key = SigningKey::from_pem(&pem).map_err(|source| PkiError::Key { path, source })?;
        Ok(TokenAuthority::new(issuer, audiences, key))
    }

    /// The text of a kubeconfig for `user` with a credential of its own.
    pub fn kubeconfig(&self, server: &str, user: &str, credential: &Credential) -> String {
        use base64::Engine;
        let text = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: coracle\n  cluster:\n    server: {server}\n    \
             certificate-authority-data: {ca}\nusers:\n- name: {user}\n  user:\n    \
             client-certificate-data: {certificate}\n    client-key-data: {key}\ncontexts:\n- name: coracle\n  \
             context:\n    cluster: coracle\n    user: {user}\ncurrent-context: coracle\n",
            ca = text(&self.ca_pem),
            certificate = text(&credential.certificate),
            key = text(&credential.key),
        )
    }

    /// Writes a kubeconfig that only its owner can read; an equal file stays untouched.
    pub fn write_kubeconfig(
        &self,
        path: &Path,
        server: &str,
        user: &str,
        credential: &Credential,
    ) -> Result<(), PkiError> {
        let text = self.kubeconfig(server, user, credential);
        if files::read(path)?.as_deref() == Some(text.as_str()) {
            return Ok(());
        }
        files::write(path, &text)
    }

    /// The credential in `<file>.{crt,key}` when it is as wanted, else a new one.
    fn credential(&self, file: &str, wanted: &Wanted) -> Result<Credential, PkiError> {
        let certificate_path = self.folder.join(format!("{file}.crt"));
        let key_path = self.folder.join(format!("{file}.key"));
        if let (Some(certificate), Some(key)) = (files::read(&certificate_path)?, files::read(&key_path)?) {
            let old = Credential { certificate, key };
            if issue::holds(&old, wanted, &self.ca_pem, issue::today()) {
                return Ok(old);
            }
        }
        let failed = |source| PkiError::Issue { name: file.to_owned(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let certificate =
            wanted.params(issue::today()).and_then(|it| it.signed_by(&key, &self.issuer)).map_err(failed)?;
        let made = Credential { certificate: certificate.pem(), key: key.serialize_pem() };
        files::write(&key_path, &made.key)?;
        files::write(&certificate_path, &made.certificate)?;
        Ok(made)
    }
}

fn serving(options: &PkiOptions) -> Wanted {
    let domain = &options.cluster_domain;
    let mut names = vec![
        "kubernetes".to_owned(),
        "kubernetes.default".to_owned(),
        "kubernetes.default.svc".to_owned(),
        format!("kubernetes.default.svc.{domain}"),
        "localhost".to_owned(),
    ];
    names.extend(options.names.iter().cloned());
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];
    addresses.extend(&options.addresses);
    Wanted { names, addresses, ..Wanted::serving("kube-apiserver") }
}

/// The CA's certificate and key, made when neither file exists. One without the other is an error: a new CA would
/// silently lock out everyone.
fn authority(folder: &Path) -> Result<(String, KeyPair), PkiError> {
    let (certificate_path, key_path) = (folder.join("ca.crt"), folder.join("ca.key"));
    let wrong = |reason: String| PkiError::Authority { path: folder.to_owned(), reason };
    match (files::read(&certificate_path)?, files::read(&key_path)?) {
        (Some(certificate), Some(key)) => {
            let key = KeyPair::from_pem(&key).map_err(|err| wrong(format!("ca.key: {err}")))?;
            if !issue::belong_together(&certificate, &key) {
                return Err(wrong("ca.key is not the key of ca.crt".to_owned()));
            }
            Ok((certificate, key))
        }
        (None, None) => {
            let failed = |source| PkiError::Issue { name: "ca".to_owned(), source };
            let key = KeyPair::generate().map_err(failed)?;
            let params: CertificateParams = issue::authority_params(issue::today()).map_err(failed)?;
            let pem = params.self_signed(&key).map_err(failed)?.pem();
            files::write(&key_path, &key.serialize_pem())?;
            files::write(&certificate_path, &pem)?;
            Ok((pem, key))
        }
        (Some(_), None) => Err(wrong("ca.crt is there, ca.key is missing".to_owned())),
        (None, Some(_)) => Err(wrong("ca.key is there, ca.crt is missing".to_owned())),
    }
}

#[cfg(test)]
mod tests;
