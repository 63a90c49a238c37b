//! Opening the file: who may, whether it is ours, whether it is whole.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::rows::{self, RowId};
use super::{Options, readers, wal};
use crate::error::StoreError;
use crate::store::Revision;

/// Marks the file as ours ("cora").
const APPLICATION_ID: i32 = 0x636f_7261;
/// The layout below.
const SCHEMA_VERSION: i32 = 1;
const PAGE_SIZE: u64 = 4096;

const SCHEMA: &str = "
    CREATE TABLE log (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        created INTEGER NOT NULL,
        lease INTEGER NOT NULL,
        value BLOB NOT NULL,
        checksum INTEGER NOT NULL
    );
    CREATE INDEX log_key ON log (key);
    CREATE INDEX log_lease ON log (lease) WHERE lease <> 0;
    CREATE TABLE lease (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        ttl_seconds INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL
    );
    CREATE TABLE fact (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO fact VALUES ('compacted', 0);
";

/// A file that is open for writing.
pub struct Opened {
    /// The writer's connection.
    pub connection: Connection,
    /// The newest committed revision.
    pub revision: Revision,
    /// Nobody else opens the file while this is held. To be dropped after the connection.
    pub lock: File,
}

/// Translates the engine's failure.
pub fn engine_error(what: &'static str, path: &Path, error: &rusqlite::Error) -> StoreError {
    let path = path.display().to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::NoSpace { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Corrupt { path, reason: error.to_string() }
        }
        _ => StoreError::Engine { what, path, reason: error.to_string() },
    }
}

/// Opens or makes the file.
pub fn open(path: &Path, options: &Options) -> Result<Opened, StoreError> {
    let io_error = |what, error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::StorageFull => StoreError::NoSpace { path: path.display().to_string() },
        _ => StoreError::Engine { what, path: path.display().to_string(), reason: error.to_string() },
    };
    let mut lock = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| io_error("open the file", &error))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => StoreError::Engine {
            what: "lock the file",
            path: path.display().to_string(),
            reason: "another process has it open".to_owned(),
        },
        TryLockError::Error(error) => io_error("lock the file", &error),
    })?;
    let mut header = [0; 100];
    let length = lock.metadata().map_err(|error| io_error("examine the file", &error))?.len();
    if length == 0 && !beside(path, "-wal").exists() {
        create(path)?;
    } else {
        lock.read_exact(&mut header)
            .map_err(|_| corrupt(path, format!("the file has {length} bytes, less than a header")))?;
        check_header(path, &header)?;
        let log = beside(path, "-wal");
        if let Some(reason) = wal::damage(&log).map_err(|error| io_error("read the log", &error))? {
            return Err(corrupt(path, reason));
        }
        check_content(path)?;
    }
    let connection = connect(path, options)?;
    let revision = readers::newest_revision(&connection, path)?;
    Ok(Opened { connection, revision, lock })
}

fn corrupt(path: &Path, reason: impl Into<String>) -> StoreError {
    StoreError::Corrupt { path: path.display().to_string(), reason: reason.into() }
}

/// The path of a file that SQLite keeps beside the main one.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Lays the tables out in an empty file, all or nothing.
fn create(path: &Path) -> Result<(), StoreError> {
    let engine = |error: rusqlite::Error| engine_error("create the tables", path, &error);
    let connection = Connection::open(path).map_err(engine)?;
    // Not yet in WAL mode: the marks must be in the main file's header.
    connection
        .execute_batch(&format!(
            "PRAGMA page_size = {PAGE_SIZE};
             PRAGMA synchronous = FULL;
             BEGIN EXCLUSIVE;
             PRAGMA application_id = {APPLICATION_ID};
             PRAGMA user_version = {SCHEMA_VERSION};
             {SCHEMA}
             COMMIT;"
        ))
        .map_err(engine)
}

/// What can be seen without trusting anything: the magic, whose file it is, which layout.
fn check_header(path: &Path, header: &[u8; 100]) -> Result<(), StoreError> {
    if &header[..16] != b"SQLite format 3\0" {
        return Err(corrupt(path, "the header is not one of a store file"));
    }
    let word = |at: usize| i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if word(68) != APPLICATION_ID {
        return Err(corrupt(path, format!("application id {:#x}: not a store of ours", word(68))));
    }
    if word(60) != SCHEMA_VERSION {
        return Err(corrupt(
            path,
            format!("layout {}, this program knows only layout {SCHEMA_VERSION}", word(60)),
        ));
    }
    Ok(())
}

/// Reads everything once, without the right to write: the pages' structure, then each row's checksum.
fn check_content(path: &Path) -> Result<(), StoreError> {
    let engine = |error: rusqlite::Error| engine_error("check the file", path, &error);
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(engine)?;
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(engine)?;
    if verdict != "ok" {
        return Err(corrupt(path, verdict));
    }
    let mut statement = rows::prepare(&connection, path, &format!("SELECT {} FROM log", rows::COLUMNS))?;
    let mut found = statement.query([]).map_err(engine)?;
    while let Some(row) = found.next().map_err(engine)? {
        rows::read(row, path)?;
    }
    Ok(())
}

/// The writer's connection.
fn connect(path: &Path, options: &Options) -> Result<Connection, StoreError> {
    let engine = |error: rusqlite::Error| engine_error("open the database", path, &error);
    let connection = Connection::open(path).map_err(engine)?;
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(engine)?;
    if mode != "wal" {
        return Err(StoreError::Engine {
            what: "switch to write-ahead logging",
            path: path.display().to_string(),
            reason: format!("the file system only allows {mode}"),
        });
    }
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL;
             PRAGMA cache_size = -2048;
             PRAGMA wal_autocheckpoint = 4000;
             PRAGMA journal_size_limit = 8388608;",
        )
        .map_err(engine)?;
    if let Some(bytes) = options.max_bytes {
        connection
            .query_row(&format!("PRAGMA max_page_count = {}", (bytes / PAGE_SIZE).max(1)), [], |_| Ok(()))
            .map_err(engine)?;
    }
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// The first row id after everything that was committed up to a revision.
pub fn after(revision: Revision) -> RowId {
    RowId::first_of(revision.saturating_add(1))
}

/// Bytes of all its files.
pub fn size(path: &Path) -> Result<u64, StoreError> {
    let mut sum = 0;
    for path in [path.to_owned(), beside(path, "-wal")] {
        match std::fs::metadata(&path) {
            Ok(found) => sum += found.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(StoreError::Engine {
                    what: "examine the file",
                    path: path.display().to_string(),
                    reason: error.to_string(),
                });
            }
        }
    }
    Ok(sum)
}
