//! How the store fails.

use crate::store::Revision;

/// What went wrong, on which file or revision.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The revision asked for was compacted away.
    #[error("revision {asked} has been compacted; the oldest is {oldest}")]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// What there still is.
        oldest: Revision,
    },
    /// The revision asked for has not been committed yet.
    #[error("revision {asked} is in the future; the newest is {newest}")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// What there is.
        newest: Revision,
    },
    /// The watcher did not keep up and must list again.
    #[error("watcher fell behind and was cut off")]
    Lagged,
    /// The files are damaged. Nothing was changed.
    #[error("store {path} is corrupt: {reason}")]
    Corrupt {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk is full: nothing was written, reads go on.
    #[error("no space left for store {path}")]
    NoSpace {
        /// The file.
        path: String,
    },
    /// Any other failure of the engine.
    #[error("{what} in store {path}: {reason}")]
    Engine {
        /// What was tried.
        what: &'static str,
        /// The file or endpoint.
        path: String,
        /// The engine's reason.
        reason: String,
    },
    /// The store has been closed.
    #[error("store is closed")]
    Closed,
}
