//! Reads: on a few connections of their own, each read on one snapshot.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags, OptionalExtension};
use tokio::sync::Semaphore;

use super::file::{after, engine_error};
use super::rows::{self, RowId};
use crate::error::StoreError;
use crate::store::{KeyValue, RangeRequest, RangeResponse, Revision};

/// Reads at once.
const AT_ONCE: usize = 4;
/// Connections kept for the next read.
const KEPT: usize = 1;

/// The reading side of the store.
pub struct Readers {
    path: PathBuf,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

/// A connection inside a read transaction, with what is true on its snapshot.
pub struct Reader<'c> {
    /// The connection.
    pub connection: &'c Connection,
    /// The file, for errors.
    pub path: &'c Path,
    /// The newest revision.
    pub newest: Revision,
    /// The oldest revision that can be read.
    pub compacted: Revision,
}

impl Readers {
    /// Over a file that is already open for writing.
    pub fn new(path: PathBuf) -> Self {
        Self { path, places: Arc::new(Semaphore::new(AT_ONCE)), idle: Mutex::new(Vec::new()) }
    }

    /// Lets no further read begin and closes the idle connections.
    pub fn close(&self) {
        self.places.close();
        self.idle().clear();
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on a snapshot, off the async threads.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Reader<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let readers = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let _place = place;
            readers.on_snapshot(work)
        });
        task.await.map_err(|_| StoreError::Closed)?
    }

    fn on_snapshot<T>(
        &self,
        work: impl FnOnce(&Reader<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let kept = self.idle().pop();
        let connection = match kept {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let result = {
            let engine = |error: rusqlite::Error| engine_error("begin a read", &self.path, &error);
            let snapshot = connection.unchecked_transaction().map_err(engine)?;
            let reader = Reader {
                newest: newest_revision(&snapshot, &self.path)?,
                compacted: compacted_revision(&snapshot, &self.path)?,
                connection: &snapshot,
                path: &self.path,
            };
            work(&reader)
        };
        let mut idle = self.idle();
        if idle.len() < KEPT && !self.places.is_closed() {
            idle.push(connection);
        }
        result
    }

    fn connect(&self) -> Result<Connection, StoreError> {
        let engine = |error: rusqlite::Error| engine_error("open a reader", &self.path, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(engine)?;
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -512;").map_err(engine)?;
        Ok(connection)
    }
}

/// The newest revision on a connection's snapshot.
pub fn newest_revision(connection: &Connection, path: &Path) -> Result<Revision, StoreError> {
    let mut statement = rows::prepare(connection, path, "SELECT max(id) FROM log")?;
    let newest: Option<i64> = statement
        .query_row([], |row| row.get(0))
        .map_err(|error| engine_error("read the newest revision", path, &error))?;
    Ok(newest.map_or(0, |id| RowId(id).revision()))
}

/// The oldest revision that can be read on a connection's snapshot.
pub fn compacted_revision(connection: &Connection, path: &Path) -> Result<Revision, StoreError> {
    let mut statement = rows::prepare(connection, path, "SELECT value FROM fact WHERE name = 'compacted'")?;
    let found: Option<i64> = statement
        .query_row([], |row| row.get(0))
        .optional()
        .map_err(|error| engine_error("read the compacted revision", path, &error))?;
    found.ok_or_else(|| StoreError::Corrupt {
        path: path.display().to_string(),
        reason: "the compacted revision is missing".to_owned(),
    })
}

/// Answers a range request on a snapshot.
pub fn range(reader: &Reader<'_>, request: &RangeRequest) -> Result<RangeResponse, StoreError> {
    let revision = request.revision.unwrap_or(reader.newest);
    if revision > reader.newest {
        return Err(StoreError::Future { asked: revision, newest: reader.newest });
    }
    if revision < reader.compacted {
        return Err(StoreError::Compacted { asked: revision, oldest: reader.compacted });
    }
    let Some(end) = &request.end else {
        let kv = rows::living(reader.connection, reader.path, &request.start, after(revision))?;
        let count = u64::from(kv.is_some());
        let kvs = if request.count_only { Vec::new() } else { kv.into_iter().collect() };
        return Ok(RangeResponse { revision, kvs, more: false, count });
    };
    let mut response = RangeResponse { revision, kvs: Vec::new(), more: false, count: 0 };
    let engine = |error: rusqlite::Error| engine_error("read a range", reader.path, &error);
    // The index holds keys and row ids: what is alive is found without touching a value.
    let sql = "SELECT max(id) FROM log WHERE key >= ?1 AND key < ?2 AND id < ?3 GROUP BY key ORDER BY key";
    let mut newest = rows::prepare(reader.connection, reader.path, sql)?;
    let mut found = newest.query((&request.start, end, after(revision).0)).map_err(engine)?;
    while let Some(row) = found.next().map_err(engine)? {
        let id = RowId(row.get(0).map_err(engine)?);
        if id.is_deleted() {
            continue;
        }
        response.count += 1;
        if request.count_only {
            continue;
        }
        if request.limit > 0 && response.kvs.len() == request.limit {
            response.more = true;
            continue;
        }
        response.kvs.push(by_id(reader, id)?);
    }
    Ok(response)
}

fn by_id(reader: &Reader<'_>, id: RowId) -> Result<KeyValue, StoreError> {
    let sql = format!("SELECT {} FROM log WHERE id = ?1", rows::COLUMNS);
    let mut statement = rows::prepare(reader.connection, reader.path, &sql)?;
    let row = statement
        .query_row([id.0], |row| Ok(rows::read(row, reader.path)))
        .map_err(|error| engine_error("read a row", reader.path, &error))?;
    row.map(|row| row.kv)
}
