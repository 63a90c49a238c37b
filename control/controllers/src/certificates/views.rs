//! The fields of a CertificateSigningRequest that are read.

use crate::views::{Condition, find_condition};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_client::slim_view;
use coracle_client::views::Meta;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Csr {
    pub(crate) metadata: Meta,
    pub(crate) spec: CsrSpec,
    pub(crate) status: CsrStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct CsrSpec {
    /// PEM in base64.
    pub(crate) request: String,
    pub(crate) signer_name: String,
    pub(crate) usages: Vec<String>,
    pub(crate) expiration_seconds: Option<i64>,
    pub(crate) username: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CsrStatus {
    pub(crate) conditions: Vec<Condition>,
    /// PEM in base64.
    pub(crate) certificate: Option<String>,
}

slim_view!(Csr);

impl Csr {
    pub(crate) fn condition(&self, kind: &str) -> Option<&Condition> {
        find_condition(&self.status.conditions, kind)
    }

    /// Whether somebody has approved it and nobody denied it.
    pub(crate) fn is_approved(&self) -> bool {
        self.condition("Approved").is_some() && self.condition("Denied").is_none()
    }

    pub(crate) fn is_issued(&self) -> bool {
        self.status.certificate.as_deref().is_some_and(|it| !it.is_empty())
    }

    /// The request in PEM; nothing that parses when it is no base64.
    pub(crate) fn request(&self) -> Vec<u8> {
        STANDARD.decode(&self.spec.request).unwrap_or_default()
    }

    /// The certificate in PEM.
    pub(crate) fn certificate(&self) -> Option<Vec<u8>> {
        STANDARD.decode(self.status.certificate.as_deref()?).ok()
    }
}
