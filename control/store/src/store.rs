//! The store as the API server sees it: keys, values, revisions. Shaped after etcd v3, so that etcd fits unchanged.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::error::StoreError;

/// The number of a committed transaction. The first is 1 on an empty store; each commit that changes something
/// takes the next. Never reused, never going back, also after a restart.
pub type Revision = i64;

/// A lease: keys attached to it vanish when it expires. 0 is no lease.
pub type LeaseId = i64;

/// One key as it stood at some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, e.g. `/registry/pods/default/web`.
    pub key: String,
    /// The value: opaque bytes.
    pub value: Bytes,
    /// Revision at which the key came to be (again).
    pub create_revision: Revision,
    /// Revision of the last change.
    pub mod_revision: Revision,
    /// The lease it is attached to, or 0.
    pub lease: LeaseId,
}

/// Which keys, as of when.
#[derive(Debug, Clone, Default)]
pub struct RangeRequest {
    /// First key.
    pub start: String,
    /// Key after the last one; `None`: only `start` itself.
    pub end: Option<String>,
    /// Read as of this revision; `None`: now.
    pub revision: Option<Revision>,
    /// At most so many keys; 0: all.
    pub limit: usize,
    /// Only the count is wanted.
    pub count_only: bool,
}

/// What a range holds.
#[derive(Debug, Clone)]
pub struct RangeResponse {
    /// The store's revision when it was read (the asked-for one when `revision` was given).
    pub revision: Revision,
    /// In order of their keys.
    pub kvs: Vec<KeyValue>,
    /// Whether `limit` cut the answer.
    pub more: bool,
    /// How many keys the whole range holds.
    pub count: u64,
}

/// A condition on one key.
#[derive(Debug, Clone)]
pub enum Compare {
    /// The key's `mod_revision` is this one; 0: the key does not exist.
    ModRevision {
        /// The key.
        key: String,
        /// What it must be.
        equals: Revision,
    },
}

/// A write.
#[derive(Debug, Clone)]
pub enum Op {
    /// Set a key.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Bytes,
        /// The lease it hangs on, or 0.
        lease: LeaseId,
    },
    /// Delete a key; one that is not there is no error.
    Delete {
        /// The key.
        key: String,
    },
}

/// Writes that happen together, if all conditions hold.
#[derive(Debug, Clone, Default)]
pub struct Txn {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// The writes.
    pub ops: Vec<Op>,
}

/// How a transaction ended. It is durable when this is returned.
#[derive(Debug, Clone)]
pub enum TxnOutcome {
    /// All conditions held; everything was written at this revision.
    Committed {
        /// The commit's revision.
        revision: Revision,
    },
    /// A condition did not hold; nothing was written. The compared keys as they stand now (absent ones left out).
    Conflict {
        /// The compared keys' present state.
        current: Vec<KeyValue>,
    },
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The key was set; `prev` is what stood before, `None` when it is new.
    Put {
        /// As it stands now.
        kv: KeyValue,
        /// As it stood before.
        prev: Option<KeyValue>,
    },
    /// The key was deleted at `revision`; `prev` is what stood before.
    Delete {
        /// The key.
        key: String,
        /// Revision of the deletion.
        revision: Revision,
        /// As it stood before.
        prev: Option<KeyValue>,
    },
}

/// All changes of one revision that fall under a watch, or the news that there were none up to a revision.
#[derive(Debug, Clone)]
pub struct EventBatch {
    /// Everything up to this revision has been delivered.
    pub revision: Revision,
    /// In order of commit. May be empty: progress only.
    pub events: Vec<Event>,
}

/// Batches in order of their revisions. Ends with an error when the watcher fell too far behind
/// ([`StoreError::Lagged`]) or the store stopped.
pub type WatchStream = BoxStream<'static, Result<EventBatch, StoreError>>;

/// An MVCC key-value store. Every implementation passes `crate::contract`.
#[async_trait]
pub trait Store: Send + Sync {
    /// Reads a range. [`StoreError::Compacted`] when the asked-for revision is gone, [`StoreError::Future`] when it
    /// has not happened yet.
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError>;
    /// Writes, atomically and durably.
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError>;
    /// Every change under `prefix` with a revision of at least `from`, past ones first, then as they are committed.
    /// Published by the writer itself at commit.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError>;
    /// Forgets what was overwritten before `revision`; reads and watches from before it fail from then on.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;
    /// A new lease of `ttl` seconds.
    async fn lease_grant(&self, ttl_seconds: i64) -> Result<LeaseId, StoreError>;
    /// Ends a lease and deletes its keys.
    async fn lease_revoke(&self, id: LeaseId) -> Result<(), StoreError>;
    /// The newest committed revision.
    async fn revision(&self) -> Result<Revision, StoreError>;
    /// Bytes on disk, for metrics and for the health report.
    async fn size(&self) -> Result<u64, StoreError>;
}
