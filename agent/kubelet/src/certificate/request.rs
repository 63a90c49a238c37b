//! A CertificateSigningRequest, and the wait for its answer.

use std::time::Duration;

use coracle_client::{Informer, Params};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use rcgen::KeyPair;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::wish::malformed;
use super::{CertificateError, Wish};

/// How long approvers are waited for, before the request is made anew.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How long one call may take.
const CALL: Duration = Duration::from_secs(30);

/// What an answer holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nobody has decided, or the signer is not done.
    Pending,
    /// The chain, in PEM.
    Issued(String),
    /// Somebody said no.
    Refused { verdict: &'static str, reason: String, message: String },
}

/// Asks for the certificate and waits until it is issued: the chain in PEM. A request of the same `name` that is there
/// already is waited for if it is for the same key.
pub(super) async fn ask(
    client: &kube::Client,
    wish: &Wish,
    key: &KeyPair,
    name: Option<String>,
) -> Result<String, CertificateError> {
    let pem = wish.csr(key)?;
    let api = kube::Api::<CertificateSigningRequest>::all(client.clone());
    let request = object(wish, &pem, name.clone());
    let shown = name.clone().unwrap_or_else(|| "csr-".to_owned());
    let failed = |name: &str, action| {
        let name = name.to_owned();
        move |source| CertificateError::Call { name, action, source: Box::new(source) }
    };
    let posted = within(api.create(&PostParams::default(), &request)).await;
    let name = match (posted, name) {
        (Ok(made), _) => made.metadata.name.unwrap_or_default(),
        (Err(kube::Error::Api(status)), Some(name)) if status.code == 409 => {
            let there = within(api.get(&name)).await.map_err(failed(&name, "read"))?;
            if public_key(&there.spec.request.0) != public_key(pem.as_bytes()) {
                let reason = "a request of this name is there already, for another key";
                return Err(malformed(format!("certificate signing request {name}"), &reason));
            }
            name
        }
        (Err(err), _) => return Err(failed(&shown, "create")(err)),
    };
    tracing::info!(csr = name, signer = wish.signer, "certificate requested, waiting for its approval");
    wait(client, &name).await
}

fn object(wish: &Wish, pem: &str, name: Option<String>) -> CertificateSigningRequest {
    CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: name.is_none().then(|| "csr-".to_owned()),
            name,
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.as_bytes().to_vec()),
            signer_name: wish.signer.to_owned(),
            usages: Some(wish.usages.iter().map(|it| (*it).to_owned()).collect()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    }
}

async fn within<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    tokio::time::timeout(CALL, call).await.unwrap_or_else(|_| {
        let late = std::io::Error::new(std::io::ErrorKind::TimedOut, "the API server did not answer in time");
        Err(kube::Error::Service(late.into()))
    })
}

async fn wait(client: &kube::Client, name: &str) -> Result<String, CertificateError> {
    let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
    let _stop = token.clone().drop_guard();
    let params = Params::<CertificateSigningRequest>::all().fields(format!("metadata.name={name}"));
    let api = kube::Api::<CertificateSigningRequest>::all(client.clone());
    let requests = Informer::start(api, params, &tracker, token);
    let mut changes = requests.subscribe();
    let answered = async {
        loop {
            let now = requests.store().list();
            match now.iter().find(|it| it.metadata.name.as_deref() == Some(name)).map(|it| answer(it)) {
                Some(Answer::Issued(chain)) => return Ok(chain),
                Some(Answer::Refused { verdict, reason, message }) => {
                    return Err(CertificateError::Refused {
                        name: name.to_owned(),
                        verdict,
                        reason,
                        message,
                    });
                }
                Some(Answer::Pending) | None => {}
            }
            if changes.next().await.is_none() {
                return Err(CertificateError::Unanswered { name: name.to_owned() });
            }
        }
    };
    let unanswered = || Err(CertificateError::Unanswered { name: name.to_owned() });
    tokio::time::timeout(PATIENCE, answered).await.unwrap_or_else(|_| unanswered())
}

/// What the object says.
pub(super) fn answer(request: &CertificateSigningRequest) -> Answer {
    let Some(status) = &request.status else { return Answer::Pending };
    let of = |kind: &str| status.conditions.iter().flatten().find(|it| it.type_ == kind);
    let refused = |verdict, condition: &CertificateSigningRequestCondition| Answer::Refused {
        verdict,
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
    };
    if let Some(denied) = of("Denied") {
        return refused("denied", denied);
    }
    if let Some(failed) = of("Failed") {
        return refused("failed", failed);
    }
    match &status.certificate {
        Some(chain) if of("Approved").is_some() && !chain.0.is_empty() => {
            Answer::Issued(String::from_utf8_lossy(&chain.0).into_owned())
        }
        _ => Answer::Pending,
    }
}

/// The public key in a PKCS#10 request.
fn public_key(pem: &[u8]) -> Option<Vec<u8>> {
    use x509_parser::prelude::{FromDer, X509CertificationRequest};
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    Some(request.certification_request_info.subject_pki.raw.to_vec())
}
