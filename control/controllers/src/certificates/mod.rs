//! Certificates for those who ask by a CertificateSigningRequest: approved, signed and cleaned up.

mod approve; // requests of nodes that need no person
mod clean; // requests that are over
mod request; // what a request asks for, and what each signer signs
mod sign; // approved requests get their certificates
mod views; // the fields that are read

pub(crate) use approve::Reserved;
pub(crate) use approve::start as start_approver;
pub(crate) use clean::start as start_cleaner;
pub(crate) use sign::start as start_signer;

use crate::shared::{Context, watch};
use coracle_client::{Informer, Params, Resource};
use jiff::Timestamp;
use std::time::Duration;
use views::Csr;

const REQUESTS: Resource = Resource::new("certificates.k8s.io", "v1", "certificatesigningrequests");

/// A certificate to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The PKCS#10 request in PEM.
    pub request: Vec<u8>,
    /// What it is for, in the words of a CertificateSigningRequest.
    pub usages: Vec<String>,
    /// From when it counts.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

/// Whoever has the cluster's CA key.
pub trait CertificateAuthority: std::fmt::Debug + Send + Sync {
    /// Signs what a request asks for: the chain in PEM, or a sentence that says why not.
    ///
    /// # Errors
    /// When the request is none, or cannot be signed.
    fn sign(&self, order: &Order) -> Result<String, String>;
}

/// All requests: one copy in memory for the three controllers.
pub(crate) async fn requests(context: &Context) -> Informer<Csr> {
    let requests = watch(&context.reader, &REQUESTS, Params::<Csr>::all(), &context.tracker, &context.token);
    requests.synced().await;
    requests
}

/// How long until `at`; nothing when it has passed.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}
