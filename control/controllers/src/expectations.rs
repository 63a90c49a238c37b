//! Creates and deletes that were made but that the cache has not shown yet.
//!
//! Creating a pod is not idempotent: until the informer has seen what was created, counting pods in the cache would
//! create them again.

use coracle_client::Key;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// After this long an expectation is taken as lost rather than late.
const EXPIRES: Duration = Duration::from_secs(300);

#[derive(Default)]
pub(crate) struct Expectations {
    by_owner: Mutex<HashMap<Key, Expected>>,
}

struct Expected {
    creates: usize,
    /// Uids, so that one deletion seen twice (terminating, then gone) counts once.
    deletes: HashSet<String>,
    since: Instant,
}

impl Expectations {
    /// Whether the cache shows everything that was done for `owner`.
    pub(crate) fn are_met(&self, owner: &Key) -> bool {
        self.lock()
            .get(owner)
            .is_none_or(|it| (it.creates == 0 && it.deletes.is_empty()) || it.since.elapsed() > EXPIRES)
    }

    pub(crate) fn expect_creates(&self, owner: &Key, creates: usize) {
        let expected = Expected { creates, deletes: HashSet::new(), since: Instant::now() };
        self.lock().insert(owner.clone(), expected);
    }

    pub(crate) fn expect_deletes(&self, owner: &Key, uids: impl IntoIterator<Item = String>) {
        let expected = Expected { creates: 0, deletes: uids.into_iter().collect(), since: Instant::now() };
        self.lock().insert(owner.clone(), expected);
    }

    /// One create was seen, or failed.
    pub(crate) fn created(&self, owner: &Key) {
        if let Some(it) = self.lock().get_mut(owner) {
            it.creates = it.creates.saturating_sub(1);
        }
    }

    /// One delete was seen, or failed.
    pub(crate) fn deleted(&self, owner: &Key, uid: &str) {
        if let Some(it) = self.lock().get_mut(owner) {
            it.deletes.remove(uid);
        }
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner: &Key) {
        self.lock().remove(owner);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Expected>> {
        self.by_owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn met_when_all_is_seen_or_too_long_ago() {
        let (all, owner) = (Expectations::default(), Key::new("a", "b"));
        assert!(all.are_met(&owner));
        all.expect_creates(&owner, 2);
        all.created(&owner);
        assert!(!all.are_met(&owner));
        all.created(&owner);
        all.created(&owner);
        assert!(all.are_met(&owner));
        all.expect_deletes(&owner, ["u".to_owned()]);
        all.deleted(&owner, "other");
        assert!(!all.are_met(&owner));
        tokio::time::advance(EXPIRES + Duration::from_secs(1)).await;
        assert!(all.are_met(&owner));
    }
}
