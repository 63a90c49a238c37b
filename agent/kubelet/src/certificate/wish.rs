//! What a certificate is wanted for, and the key and request that say so.

use std::net::IpAddr;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use super::CertificateError;

/// A certificate that this node wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Who is to sign.
    pub signer: &'static str,
    /// What it may be used for.
    pub usages: &'static [&'static str],
    /// `system:node:<name>`.
    pub common_name: String,
    /// Names of the server.
    pub dns: Vec<String>,
    /// Addresses of the server.
    pub ips: Vec<IpAddr>,
}

/// The group of all nodes.
pub(super) const NODES: &str = "system:nodes";

impl Wish {
    /// The certificate that a node shows to the API server.
    pub fn client(node: &str) -> Self {
        Self {
            signer: "kubernetes.io/kube-apiserver-client-kubelet",
            usages: &["digital signature", "client auth"],
            common_name: format!("system:node:{node}"),
            dns: Vec::new(),
            ips: Vec::new(),
        }
    }

    /// The certificate that the kubelet's own server shows.
    pub fn serving(node: &str, ips: &[IpAddr]) -> Self {
        let mut ips = ips.to_vec();
        ips.sort_unstable();
        Self {
            signer: "kubernetes.io/kubelet-serving",
            usages: &["digital signature", "server auth"],
            common_name: format!("system:node:{node}"),
            dns: vec![node.to_owned()],
            ips,
        }
    }

    /// The PKCS#10 request in PEM.
    pub(super) fn csr(&self, key: &KeyPair) -> Result<String, CertificateError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, NODES);
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        for name in &self.dns {
            let name = name.as_str().try_into().map_err(|err| malformed("DNS name", &err))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.subject_alt_names.extend(self.ips.iter().map(|it| SanType::IpAddress(*it)));
        let request = params.serialize_request(key).map_err(|err| malformed("request", &err))?;
        request.pem().map_err(|err| malformed("request", &err))
    }
}

/// A new P-256 key.
pub(super) fn new_key() -> Result<KeyPair, CertificateError> {
    KeyPair::generate().map_err(|err| malformed("key", &err))
}

pub(super) fn malformed(what: impl Into<String>, reason: &impl std::fmt::Display) -> CertificateError {
    CertificateError::Malformed { what: what.into(), reason: reason.to_string() }
}
