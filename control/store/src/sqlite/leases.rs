//! Leases: kept in the file with the wall-clock time of their end, so that they end on time after a restart too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use super::file::{after, engine_error};
use super::rows::{self, RowId};
use crate::error::StoreError;
use crate::store::{LeaseId, Op, Revision};

/// Leases ended in one commit.
const AT_ONCE: usize = 256;
/// Pause before ended leases are tried again when the file took no writes.
const PAUSE_MS: i64 = 1000;

/// The leases there are, and when each ends (milliseconds since 1970).
#[derive(Default)]
pub struct Leases {
    ends: BTreeMap<LeaseId, i64>,
    order: BTreeSet<(i64, LeaseId)>,
    /// None is ended before this time.
    held_until_ms: i64,
}

/// Now, as leases count it.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Leases {
    /// Those in the file.
    pub fn load(connection: &Connection, path: &Path) -> Result<Self, StoreError> {
        let engine = |error: rusqlite::Error| engine_error("read the leases", path, &error);
        let mut statement = rows::prepare(connection, path, "SELECT id, expires_ms FROM lease")?;
        let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(engine)?;
        let mut leases = Self::default();
        for lease in found {
            let (id, end_ms) = lease.map_err(engine)?;
            leases.add(id, end_ms);
        }
        Ok(leases)
    }

    /// Whether it has been granted and not ended.
    pub fn contains(&self, id: LeaseId) -> bool {
        self.ends.contains_key(&id)
    }

    /// How long until the next one ends.
    pub fn next_end(&self, now_ms: i64) -> Option<Duration> {
        let (end, _) = self.order.first()?;
        let wait = (*end).max(self.held_until_ms).saturating_sub(now_ms);
        Some(Duration::from_millis(u64::try_from(wait).unwrap_or(0)))
    }

    /// Some of those that have ended, as many as one commit takes.
    pub fn ended(&self, now_ms: i64) -> Vec<LeaseId> {
        if now_ms < self.held_until_ms {
            return Vec::new();
        }
        self.order.iter().take_while(|(end, _)| *end <= now_ms).take(AT_ONCE).map(|(_, id)| *id).collect()
    }

    /// The file took no writes: a pause before the next try.
    pub fn hold(&mut self, now_ms: i64) {
        self.held_until_ms = now_ms + PAUSE_MS;
    }

    /// Notes one that has been written.
    pub fn add(&mut self, id: LeaseId, end_ms: i64) {
        self.ends.insert(id, end_ms);
        self.order.insert((end_ms, id));
    }

    /// Notes the end of one.
    pub fn remove(&mut self, id: LeaseId) {
        if let Some(end) = self.ends.remove(&id) {
            self.order.remove(&(end, id));
        }
    }
}

/// Writes a new lease; gives its id and its end.
pub fn grant(connection: &Connection, path: &Path, ttl_seconds: i64) -> Result<(LeaseId, i64), StoreError> {
    let end_ms = now_ms().saturating_add(ttl_seconds.max(0).saturating_mul(1000));
    let sql = "INSERT INTO lease (ttl_seconds, expires_ms) VALUES (?1, ?2)";
    rows::prepare(connection, path, sql)?
        .execute((ttl_seconds, end_ms))
        .map_err(|error| engine_error("grant a lease", path, &error))?;
    Ok((connection.last_insert_rowid(), end_ms))
}

/// Deletes the lease; gives the deletions of the keys that hang on it.
pub fn revoke(
    connection: &Connection,
    path: &Path,
    id: LeaseId,
    newest: Revision,
) -> Result<Vec<Op>, StoreError> {
    let engine = |error: rusqlite::Error| engine_error("revoke a lease", path, &error);
    rows::prepare(connection, path, "DELETE FROM lease WHERE id = ?1")?.execute([id]).map_err(engine)?;
    let mut statement =
        rows::prepare(connection, path, "SELECT id, key FROM log WHERE lease = ?1 AND lease <> 0")?;
    let mut found = statement.query([id]).map_err(engine)?;
    let mut ops = Vec::new();
    while let Some(row) = found.next().map_err(engine)? {
        let (row_id, key) = (RowId(row.get(0).map_err(engine)?), row.get::<_, String>(1).map_err(engine)?);
        let newest = rows::newest(connection, path, &key, after(newest))?;
        if newest.is_some_and(|newest| newest.id == row_id) {
            ops.push(Op::Delete { key });
        }
    }
    Ok(ops)
}
