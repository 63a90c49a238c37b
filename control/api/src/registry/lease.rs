//! Events vanish after an hour. One lease serves all events of a minute, so that an event costs one write, not two.

use std::time::{Duration, Instant};

use coracle_store::{LeaseId, Store};
use tokio::sync::Mutex;

use super::Resource;
use crate::error::Outcome;

/// Seconds that events live after their last change.
const EVENT_TTL: i64 = 3600;
/// How long a lease is handed out.
const SHARED_FOR: Duration = Duration::from_secs(60);

/// The lease that is being handed out.
#[derive(Default)]
pub struct EventLease(Mutex<Option<(LeaseId, Instant)>>);

impl EventLease {
    /// The lease that a write of this resource hangs on; 0: none.
    pub async fn of(&self, resource: &Resource, store: &dyn Store) -> Outcome<LeaseId> {
        if resource.info.folder != "events" {
            return Ok(0);
        }
        let mut shared = self.0.lock().await;
        let now = Instant::now();
        if let Some((lease, until)) = *shared
            && now < until
        {
            return Ok(lease);
        }
        // Long enough for the last event that gets it.
        let lease = store.lease_grant(EVENT_TTL + SHARED_FOR.as_secs().cast_signed()).await?;
        *shared = Some((lease, now + SHARED_FOR));
        Ok(lease)
    }
}
