//! The embedded engine: one SQLite file, one writer thread, readers on connections of their own.
//!
//! Every change is a row of one log table, never updated, only compacted away. The writer takes all queued requests,
//! applies them in one SQLite transaction with one fsync, publishes the changes to the watchers and then answers.

mod compaction; // forgetting what was overwritten
mod file; // opening: lock, header, creation, integrity
mod leases; // keys with an end
mod readers; // range reads
mod rows; // one row of the log
mod txn; // applying one transaction
mod wal; // the log as it lies on disk
mod watch; // live queues and the replay of the past
mod writer; // the thread that owns the file

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::StoreError;
use crate::store::{LeaseId, RangeRequest, RangeResponse, Revision, Store, Txn, TxnOutcome, WatchStream};
use readers::Readers;
use writer::Command;

/// How the engine behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Changes that may wait for one watcher before it is cut off.
    pub watch_queue: usize,
    /// Requests that may wait for the writer; further ones wait before it.
    pub write_queue: usize,
    /// The file may not grow beyond so many bytes; `None`: as far as the disk goes.
    pub max_bytes: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { watch_queue: 4096, write_queue: 1024, max_bytes: None }
    }
}

/// The store in one SQLite file. Dropping it finishes what is queued and closes the file.
pub struct Sqlite {
    shared: Arc<Shared>,
    readers: Arc<Readers>,
    places: Arc<Semaphore>,
    queue: Option<std::sync::mpsc::Sender<Queued>>,
    thread: Option<JoinHandle<()>>,
}

/// What the writer and everybody else see.
struct Shared {
    path: PathBuf,
    /// The newest committed revision.
    revision: AtomicI64,
}

/// A request on its way to the writer; its place in the queue is free again when the writer has taken it up.
struct Queued {
    command: Command,
    _place: OwnedSemaphorePermit,
}

impl Sqlite {
    /// Opens the file, or makes it. Refuses a file that is damaged, that is not a store, or that another process has
    /// open; such a file is left as it is.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let opened = file::open(path.as_ref(), &options)?;
        let shared =
            Arc::new(Shared { path: path.as_ref().to_owned(), revision: AtomicI64::new(opened.revision) });
        let readers = Arc::new(Readers::new(shared.path.clone()));
        let (queue, requests) = std::sync::mpsc::channel();
        let places = Arc::new(Semaphore::new(options.write_queue));
        let writer = writer::Writer::new(opened, shared.clone(), options.watch_queue)?;
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(&requests))
            .map_err(|error| StoreError::Engine {
                what: "start the writer",
                path: shared.path.display().to_string(),
                reason: error.to_string(),
            })?;
        Ok(Self { shared, readers, places, queue: Some(queue), thread: Some(thread) })
    }

    /// Sends a command to the writer and waits for its answer.
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.send(Queued { command: command(reply), _place: place }).map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.readers.close();
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(path = %self.shared.path.display(), "store writer panicked");
        }
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.readers.run(move |reader| readers::range(reader, &request)).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        self.ask(|reply| Command::Txn { txn, reply }).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        let prefix = prefix.to_owned();
        let live = self.ask(|reply| Command::Watch { prefix: prefix.clone(), from, reply }).await?;
        Ok(watch::stream(self.readers.clone(), prefix, from, live))
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.ask(|reply| Command::Compact { revision, reply }).await
    }

    async fn lease_grant(&self, ttl_seconds: i64) -> Result<LeaseId, StoreError> {
        self.ask(|reply| Command::Grant { ttl_seconds, reply }).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), StoreError> {
        self.ask(|reply| Command::Revoke { id, reply }).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.shared.revision.load(Ordering::Acquire))
    }

    async fn size(&self) -> Result<u64, StoreError> {
        let path = self.shared.path.clone();
        let sum = tokio::task::spawn_blocking(move || file::size(&path));
        sum.await.map_err(|_| StoreError::Closed)?
    }
}
