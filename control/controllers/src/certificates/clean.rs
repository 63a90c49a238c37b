//! Removes requests that are over: nobody reads their answers any more.

use super::views::Csr;
use super::{REQUESTS, until};
use crate::run::now;
use crate::shared::Context;
use crate::work::{self, Reconcile, Requeue};
use coracle_client::{CallError, Calls, Change, Deletion, Informer, Key, Store, WorkQueue};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// How long an answer stays.
const ANSWERED: SignedDuration = SignedDuration::from_hours(1);
/// How long a request without an answer stays.
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// When a request goes; `None`: it is for somebody else to finish.
fn ends(csr: &Csr) -> Option<Timestamp> {
    let after = |at: Timestamp, time| at.saturating_add(time).unwrap_or(at);
    let created = csr.metadata.creation_timestamp?;
    let answered = |kind: &str| {
        let condition = csr.condition(kind)?;
        let at = condition.last_update_time.or(condition.last_transition_time).unwrap_or(created);
        Some(after(at, ANSWERED))
    };
    let issued = if csr.is_issued() { answered("Approved") } else { None };
    let expired = csr.certificate().as_deref().and_then(not_after);
    let pending = (csr.status.conditions.is_empty() && !csr.is_issued()).then(|| after(created, PENDING));
    [answered("Denied"), answered("Failed"), issued, expired, pending].into_iter().flatten().min()
}

fn not_after(chain: &[u8]) -> Option<Timestamp> {
    let (_, block) = x509_parser::pem::parse_x509_pem(chain).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&block.contents).ok()?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
}

struct Cleaner {
    calls: Calls,
    requests: Store<Csr>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context, requests: &Informer<Csr>) {
    let queue = Arc::new(WorkQueue::new());
    let for_requests = Arc::clone(&queue);
    requests.on_change(move |change| {
        if let Change::Added(csr) | Change::Updated { new: csr, .. } = change {
            for_requests.add(Key::new("", &csr.metadata.name));
        }
    });
    let controller = Cleaner { calls: context.calls.clone(), requests: requests.store() };
    work::start(controller, &queue, 1, &context.tracker, &context.token);
}

impl Reconcile for Cleaner {
    const NAME: &'static str = "certificatesigningrequest-cleaner";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, CallError> {
        let Some(csr) = self.requests.get(key) else { return Ok(Requeue::Done) };
        let (Some(at), now) = (ends(&csr), now()) else { return Ok(Requeue::Done) };
        if at > now {
            return Ok(Requeue::After(until(at, now)));
        }
        let (path, options) = (REQUESTS.object("", &key.name), Deletion::of_uid(&csr.metadata.uid));
        match self.calls.delete(&path, &options).await {
            Err(err) if !err.is_not_found() && !err.is_conflict() => Err(err),
            _ => Ok(Requeue::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn when_requests_go() {
        let check = |status: Value, expected: Option<&str>| {
            let csr: Csr = serde_json::from_value(json!({
                "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}, "status": status}))
            .unwrap();
            assert_eq!(ends(&csr), expected.map(|it| it.parse().unwrap()), "{status}");
        };
        let condition = |kind: &str| json!([{"type": kind, "lastUpdateTime": "2026-01-01T02:00:00Z"}]);
        check(json!({}), Some("2026-01-02T00:00:00Z"));
        check(json!({"conditions": condition("Approved")}), None);
        check(
            json!({"conditions": condition("Approved"), "certificate": "bm90"}),
            Some("2026-01-01T03:00:00Z"),
        );
        check(json!({"conditions": condition("Denied")}), Some("2026-01-01T03:00:00Z"));
        check(json!({"conditions": [{"type": "Failed"}]}), Some("2026-01-01T01:00:00Z"));
    }
}
