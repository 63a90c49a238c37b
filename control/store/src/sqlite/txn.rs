//! Applying one transaction inside the writer's SQLite transaction.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::Connection;

use super::file::{after, engine_error};
use super::rows::{self, RowId};
use crate::error::StoreError;
use crate::store::{Compare, Event, KeyValue, Op, Revision, Txn, TxnOutcome};

/// What a transaction did.
pub struct Applied {
    /// The answer.
    pub outcome: TxnOutcome,
    /// The changes; none means that no revision was used.
    pub events: Vec<Event>,
}

/// Why one was not applied.
pub enum Refused {
    /// The request is at fault; nothing was written, others go on.
    Request(StoreError),
    /// The engine is at fault; nothing of the whole batch may be kept.
    Engine(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Engine(error)
    }
}

/// Checks the conditions as of `newest` and, if they hold, writes everything at the revision after it.
pub fn apply(
    connection: &Connection,
    path: &Path,
    txn: Txn,
    newest: Revision,
    lease_exists: impl Fn(i64) -> bool,
) -> Result<Applied, Refused> {
    check(path, &txn, lease_exists).map_err(Refused::Request)?;
    if let Some(current) = conflict(connection, path, &txn.compares, newest)? {
        return Ok(Applied { outcome: TxnOutcome::Conflict { current }, events: Vec::new() });
    }
    let revision = newest + 1;
    let mut events = Vec::with_capacity(txn.ops.len());
    for op in txn.ops {
        let engine = |error: rusqlite::Error| engine_error("write a row", path, &error);
        match op {
            Op::Put { key, value, lease } => {
                let prev = rows::living(connection, path, &key, after(newest))?;
                let create_revision = prev.as_ref().map_or(revision, |prev| prev.create_revision);
                let id = RowId::new(revision, events.len(), false);
                rows::insert(connection, id, &key, create_revision, lease, &value).map_err(engine)?;
                let kv = KeyValue { key, value, create_revision, mod_revision: revision, lease };
                events.push(Event::Put { kv, prev });
            }
            Op::Delete { key } => {
                let Some(prev) = rows::living(connection, path, &key, after(newest))? else { continue };
                let id = RowId::new(revision, events.len(), true);
                rows::insert(connection, id, &key, prev.create_revision, 0, &[]).map_err(engine)?;
                events.push(Event::Delete { key, revision, prev: Some(prev) });
            }
        }
    }
    let revision = if events.is_empty() { newest } else { revision };
    Ok(Applied { outcome: TxnOutcome::Committed { revision }, events })
}

/// What can be wrong with a request by itself.
fn check(path: &Path, txn: &Txn, lease_exists: impl Fn(i64) -> bool) -> Result<(), StoreError> {
    let refuse =
        |reason: String| Err(StoreError::Engine { what: "write", path: path.display().to_string(), reason });
    if txn.ops.len() > rows::MAX_OPS {
        return refuse(format!("{} writes in one transaction, at most {} fit", txn.ops.len(), rows::MAX_OPS));
    }
    let mut keys = BTreeSet::new();
    for op in &txn.ops {
        let key = match op {
            Op::Put { key, lease, .. } => {
                if *lease != 0 && !lease_exists(*lease) {
                    return refuse(format!("lease {lease} of {key} does not exist"));
                }
                key
            }
            Op::Delete { key } => key,
        };
        if !keys.insert(key) {
            return refuse(format!("{key} is written twice in one transaction"));
        }
    }
    Ok(())
}

/// The present state of the compared keys, if one of the conditions does not hold.
fn conflict(
    connection: &Connection,
    path: &Path,
    compares: &[Compare],
    newest: Revision,
) -> Result<Option<Vec<KeyValue>>, StoreError> {
    let mut current = Vec::with_capacity(compares.len());
    let mut holds = true;
    for Compare::ModRevision { key, equals } in compares {
        let found = rows::living(connection, path, key, after(newest))?;
        holds &= found.as_ref().map_or(0, |kv| kv.mod_revision) == *equals;
        current.extend(found);
    }
    Ok(if holds { None } else { Some(current) })
}
