//! Approved requests get their certificates.

use super::request::{Asked, CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY, check};
use super::views::Csr;
use super::{CertificateAuthority, Order, REQUESTS};
use crate::run::now;
use crate::shared::Context;
use crate::work::{self, Reconcile, Requeue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_client::{CallError, Calls, Change, Informer, Key, Store, WorkQueue};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

/// How long a certificate lives when nothing is said, and at most: a year.
const LIFE: i64 = 365 * 24 * 3600;
/// The shortest life that is given.
const SHORTEST: i64 = 600;
/// Certificates count a little before they are made, for clocks that are behind.
const BACKDATE: i64 = 300;
/// Below this, the time before does not count as life.
const SHORT: i64 = 8 * 3600;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Plan {
    /// It is not ours, not approved, or done.
    Leave,
    /// It can never be signed, and why.
    Fail(String),
    /// To be signed.
    Sign(Order),
}

fn plan(csr: &Csr, now: Timestamp) -> Plan {
    let signers = [CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY];
    let ours = signers.contains(&csr.spec.signer_name.as_str());
    if !ours || !csr.is_approved() || csr.is_issued() || csr.condition("Failed").is_some() {
        return Plan::Leave;
    }
    let request = csr.request();
    match Asked::parse(&request).and_then(|asked| check(csr, &asked)) {
        Err(why) => Plan::Fail(why),
        Ok(()) => {
            let (not_before, not_after) = validity(csr.spec.expiration_seconds, now);
            Plan::Sign(Order { request, usages: csr.spec.usages.clone(), not_before, not_after })
        }
    }
}

fn validity(asked: Option<i64>, now: Timestamp) -> (Timestamp, Timestamp) {
    let life = asked.map_or(LIFE, |it| it.clamp(SHORTEST, LIFE));
    let lost = if life < SHORT { 0 } else { BACKDATE };
    let at = |seconds| now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(now);
    (at(-BACKDATE), at(life - lost))
}

struct Signer {
    calls: Calls,
    requests: Store<Csr>,
    authority: Arc<dyn CertificateAuthority>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context, requests: &Informer<Csr>, authority: Arc<dyn CertificateAuthority>) {
    let queue = Arc::new(WorkQueue::new());
    let for_requests = Arc::clone(&queue);
    requests.on_change(move |change| {
        if let Change::Added(csr) | Change::Updated { new: csr, .. } = change {
            for_requests.add(Key::new("", &csr.metadata.name));
        }
    });
    let controller = Signer { calls: context.calls.clone(), requests: requests.store(), authority };
    work::start(controller, &queue, 1, &context.tracker, &context.token);
}

impl Reconcile for Signer {
    const NAME: &'static str = "certificatesigningrequest-signing";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, CallError> {
        let Some(csr) = self.requests.get(key) else { return Ok(Requeue::Done) };
        let failed = |reason: &str, message: String| {
            json!({"type": "Failed", "status": "True", "reason": reason, "message": message,
                "lastUpdateTime": now(), "lastTransitionTime": now()})
        };
        match plan(&csr, now()) {
            Plan::Leave => Ok(Requeue::Done),
            Plan::Fail(why) => {
                let failed = failed("SignerValidationFailure", why);
                self.write(&csr, move |object| add_condition(object, failed)).await
            }
            Plan::Sign(order) => match self.authority.sign(&order) {
                Ok(chain) => {
                    let name = &csr.metadata.name;
                    tracing::info!(csr = %name, signer = %csr.spec.signer_name, user = %csr.spec.username,
                        "certificate issued");
                    let chain = STANDARD.encode(chain);
                    self.write(&csr, move |object| object["status"]["certificate"] = chain.into()).await
                }
                Err(why) => {
                    let failed = failed("SigningError", why);
                    self.write(&csr, move |object| add_condition(object, failed)).await
                }
            },
        }
    }
}

fn add_condition(object: &mut Value, condition: Value) {
    match object["status"]["conditions"].as_array_mut() {
        Some(all) => all.push(condition),
        None => object["status"]["conditions"] = json!([condition]),
    }
}

impl Signer {
    /// Writes the status, unless the object is another by now or has got a certificate.
    async fn write(&self, csr: &Csr, change: impl FnOnce(&mut Value) + Send) -> Result<Requeue, CallError> {
        let name = &csr.metadata.name;
        let (path, part) = (REQUESTS.object("", name), REQUESTS.subresource("", name, "status"));
        let written = self.calls.modify(&path, &part, |object| {
            let same = object["metadata"]["uid"] == csr.metadata.uid;
            if same && object["status"]["certificate"].is_null() {
                change(object);
            }
        });
        match written.await {
            Err(err) if err.is_not_found() => Ok(Requeue::Done),
            done => done.map(|()| Requeue::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::{csr, request};
    use super::*;
    use crate::views::Condition;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn only_what_is_approved_and_right_is_signed() {
        let asked = request("system:nodes", "system:node:n1", &[]);
        let with = |signer: &str, usages: &[&str], kinds: &[&str]| {
            let mut csr = csr(signer, usages, &asked, "u");
            csr.status.conditions =
                kinds.iter().map(|it| Condition { kind: (*it).into(), ..Condition::default() }).collect();
            plan(&csr, at(1_000_000))
        };
        let usages = ["digital signature", "client auth"];
        assert_eq!(with(KUBELET_CLIENT, &usages, &[]), Plan::Leave);
        assert_eq!(with(KUBELET_CLIENT, &usages, &["Approved", "Denied"]), Plan::Leave);
        assert_eq!(with(KUBELET_CLIENT, &usages, &["Approved", "Failed"]), Plan::Leave);
        assert_eq!(with("example.com/x", &usages, &["Approved"]), Plan::Leave);
        assert!(matches!(with(KUBELET_CLIENT, &usages, &["Approved"]), Plan::Sign(_)));
        assert!(matches!(with(KUBELET_SERVING, &usages, &["Approved"]), Plan::Fail(_)));
    }

    #[test]
    fn how_long_a_certificate_lives() {
        let now = at(1_000_000);
        for (asked, expected) in [
            (None, LIFE - BACKDATE),
            (Some(60), SHORTEST),
            (Some(3600), 3600),
            (Some(SHORT), SHORT - BACKDATE),
            (Some(LIFE * 2), LIFE - BACKDATE),
        ] {
            assert_eq!(
                validity(asked, now),
                (at(1_000_000 - BACKDATE), at(1_000_000 + expected)),
                "{asked:?}"
            );
        }
    }
}
