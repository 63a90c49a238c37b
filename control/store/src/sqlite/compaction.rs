//! Forgetting what was overwritten, a piece at a time, so that writes never wait long.

use std::path::Path;

use rusqlite::Connection;

use super::file::engine_error;
use super::rows::{self, RowId};
use crate::error::StoreError;
use crate::store::Revision;

/// Index entries looked at in one piece.
const PIECE: usize = 2000;

/// A compaction under way.
pub struct Compaction {
    revision: Revision,
    /// Everything up to this entry of the index has been looked at.
    done: (String, i64),
}

/// Notes durably that nothing before `revision` can be read any more.
pub fn begin(connection: &Connection, path: &Path, revision: Revision) -> Result<Compaction, StoreError> {
    rows::prepare(connection, path, "UPDATE fact SET value = ?1 WHERE name = 'compacted'")?
        .execute([revision])
        .map_err(|error| engine_error("compact", path, &error))?;
    Ok(Compaction { revision, done: (String::new(), 0) })
}

impl Compaction {
    /// Does one piece inside the writer's transaction; says whether that was the last.
    pub fn piece(&mut self, connection: &Connection, path: &Path) -> Result<bool, StoreError> {
        let engine = |error: rusqlite::Error| engine_error("compact", path, &error);
        let entries = self.entries(connection, path)?;
        let complete = entries.len() < PIECE;
        let border = RowId::first_of(self.revision).0;
        let newest: Option<i64> =
            connection.query_row("SELECT max(id) FROM log", [], |row| row.get(0)).map_err(engine)?;
        let mut delete = rows::prepare(connection, path, "DELETE FROM log WHERE id = ?1")?;
        for (at, (key, id)) in entries.iter().enumerate() {
            let next = match entries.get(at + 1) {
                Some((next_key, next)) if next_key == key => Some(*next),
                Some(_) => None,
                // The last of the piece: what comes after it is not known yet.
                None if !complete => break,
                None => None,
            };
            // What stands at the border itself is kept, with what it replaced: a watch from there tells the truth.
            let overwritten = next.is_some_and(|next| next < border);
            let buried = RowId(*id).is_deleted() && *id < border;
            // The newest row carries the revision.
            if (overwritten || buried) && Some(*id) != newest {
                delete.execute([id]).map_err(engine)?;
            }
        }
        if !complete && let Some((key, id)) = entries.last() {
            self.done = (key.clone(), id - 1);
        }
        Ok(complete)
    }

    /// The next entries of the index, from any revision: a row may be overwritten by a later one.
    fn entries(&self, connection: &Connection, path: &Path) -> Result<Vec<(String, i64)>, StoreError> {
        let engine = |error: rusqlite::Error| engine_error("compact", path, &error);
        let sql = "SELECT key, id FROM log WHERE (key, id) > (?1, ?2) ORDER BY key, id LIMIT ?3";
        let mut statement = rows::prepare(connection, path, sql)?;
        let limit = i64::try_from(PIECE).unwrap_or(i64::MAX);
        let found = statement
            .query_map((&self.done.0, self.done.1, limit), |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(engine)?;
        found.collect::<Result<_, _>>().map_err(engine)
    }
}
