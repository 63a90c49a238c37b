//! One row of the log: a key as it was set or deleted at a revision.
//!
//! The row id says when and what: revision, place within the transaction, and whether it is a deletion. So the table's
//! own order is the order of history, and the index over keys alone finds the newest row of a key.

use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row};

use super::file;
use crate::error::StoreError;
use crate::store::{Event, KeyValue, LeaseId, Revision};

/// Bits of a row id below the revision: the place within the transaction, and the deletion mark.
const SHIFT: u32 = 20;
/// So many writes fit into one transaction.
pub const MAX_OPS: usize = 1 << (SHIFT - 1);

/// The id of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowId(pub i64);

impl RowId {
    /// The row of the `place`-th write at a revision.
    pub fn new(revision: Revision, place: usize, deleted: bool) -> Self {
        let place = i64::try_from(place).unwrap_or(i64::MAX);
        Self(revision << SHIFT | place << 1 | i64::from(deleted))
    }

    /// The first id any row of this revision can have.
    pub fn first_of(revision: Revision) -> Self {
        Self(revision << SHIFT)
    }

    /// When it was written.
    pub fn revision(self) -> Revision {
        self.0 >> SHIFT
    }

    /// Whether the key was deleted.
    pub fn is_deleted(self) -> bool {
        self.0 & 1 == 1
    }
}

/// A row with its value.
#[derive(Debug, Clone)]
pub struct LogRow {
    /// When and what.
    pub id: RowId,
    /// The key as it stood then; for a deletion, what is left of it.
    pub kv: KeyValue,
}

/// The columns that [`read`] wants, in its order.
pub const COLUMNS: &str = "id, key, created, lease, value, checksum";

/// Takes a row apart and checks that it is what was written.
pub fn read(row: &Row<'_>, path: &std::path::Path) -> Result<LogRow, StoreError> {
    let engine = |error| file::engine_error("read a row", path, &error);
    let id = RowId(row.get(0).map_err(engine)?);
    let key: String = row.get(1).map_err(engine)?;
    let create_revision = row.get(2).map_err(engine)?;
    let lease = row.get(3).map_err(engine)?;
    let value = row.get_ref(4).map_err(engine)?.as_blob().map_err(|error| StoreError::Corrupt {
        path: path.display().to_string(),
        reason: format!("value of revision {}: {error}", id.revision()),
    })?;
    let stored: i64 = row.get(5).map_err(engine)?;
    if stored != checksum(id, &key, create_revision, lease, value) {
        return Err(StoreError::Corrupt {
            path: path.display().to_string(),
            reason: format!("the row of {key} at revision {} fails its checksum", id.revision()),
        });
    }
    let value = Bytes::copy_from_slice(value);
    Ok(LogRow { id, kv: KeyValue { key, value, create_revision, mod_revision: id.revision(), lease } })
}

/// The newest row of a key before `before`, deletion or not.
pub fn newest(
    connection: &Connection,
    path: &std::path::Path,
    key: &str,
    before: RowId,
) -> Result<Option<LogRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM log WHERE key = ?1 AND id < ?2 ORDER BY id DESC LIMIT 1");
    let mut statement = prepare(connection, path, &sql)?;
    let found = statement
        .query_row((key, before.0), |row| Ok(read(row, path)))
        .optional()
        .map_err(|error| file::engine_error("look a key up", path, &error))?;
    found.transpose()
}

/// The key before `before`, when it existed then.
pub fn living(
    connection: &Connection,
    path: &std::path::Path,
    key: &str,
    before: RowId,
) -> Result<Option<KeyValue>, StoreError> {
    Ok(newest(connection, path, key, before)?.filter(|row| !row.id.is_deleted()).map(|row| row.kv))
}

/// Writes one row.
pub fn insert(
    connection: &Connection,
    id: RowId,
    key: &str,
    created: Revision,
    lease: LeaseId,
    value: &[u8],
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO log (id, key, created, lease, value, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let sum = checksum(id, key, created, lease, value);
    connection.prepare_cached(sql)?.execute((id.0, key, created, lease, value, sum))?;
    Ok(())
}

/// The event a row stands for.
pub fn event(row: LogRow, prev: Option<KeyValue>) -> Event {
    if row.id.is_deleted() {
        Event::Delete { key: row.kv.key, revision: row.id.revision(), prev }
    } else {
        Event::Put { kv: row.kv, prev }
    }
}

/// A statement kept ready on its connection.
pub fn prepare<'c>(
    connection: &'c Connection,
    path: &std::path::Path,
    sql: &str,
) -> Result<CachedStatement<'c>, StoreError> {
    connection.prepare_cached(sql).map_err(|error| file::engine_error("prepare a statement", path, &error))
}

/// Over everything in a row. Not against malice: against disks.
fn checksum(id: RowId, key: &str, created: Revision, lease: LeaseId, value: &[u8]) -> i64 {
    let mut sum = 0x9e37_79b9_7f4a_7c15_u64;
    for word in [id.0, created, lease] {
        sum = mix(sum, word.cast_unsigned());
    }
    for bytes in [key.as_bytes(), value] {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            sum = mix(sum, u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        sum = mix(sum, u64::from_le_bytes(last));
        sum = mix(sum, bytes.len() as u64);
    }
    sum.cast_signed()
}

/// One step of a multiply-rotate hash; every step is a bijection of the word, so one changed word always shows.
fn mix(sum: u64, word: u64) -> u64 {
    ((sum ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd)).rotate_left(29).wrapping_mul(0xc4ce_b9fe_1a85_ec53)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_history() {
        let (first, second) = (RowId::new(3, 0, true), RowId::new(3, 1, false));
        assert!(RowId::first_of(3) <= first && first < second && second < RowId::first_of(4));
        assert!(RowId::new(3, MAX_OPS - 1, true) < RowId::first_of(4));
        assert_eq!((first.revision(), first.is_deleted(), second.is_deleted()), (3, true, false));
    }

    #[test]
    fn checksums_see_every_field() {
        let base = checksum(RowId(1), "k", 1, 0, b"value of some length");
        for other in [
            checksum(RowId(2), "k", 1, 0, b"value of some length"),
            checksum(RowId(1), "l", 1, 0, b"value of some length"),
            checksum(RowId(1), "k", 2, 0, b"value of some length"),
            checksum(RowId(1), "k", 1, 1, b"value of some length"),
            checksum(RowId(1), "k", 1, 0, b"value of sOme length"),
            checksum(RowId(1), "k", 1, 0, b"value of some length\0"),
        ] {
            assert_ne!(base, other);
        }
    }
}
