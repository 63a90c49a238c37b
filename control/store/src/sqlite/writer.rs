//! The writer: one thread that owns the file and does everything that changes it, many requests at a time.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::compaction::{self, Compaction};
use super::file::{Opened, engine_error};
use super::leases::{self, Leases};
use super::readers::compacted_revision;
use super::txn::{self, Refused};
use super::watch::{Live, Watchers};
use super::{Queued, Shared};
use crate::error::StoreError;
use crate::store::{Event, LeaseId, Revision, Txn, TxnOutcome};

/// Requests taken into one commit.
const BATCH: usize = 512;
/// Quiet time after a write before the log is folded into the main file.
const IDLE: Duration = Duration::from_secs(2);
/// Pages in the log below which folding can wait.
const WORTH_FOLDING: i64 = 250;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What can be asked of the writer.
pub enum Command {
    /// Write.
    Txn {
        /// What.
        txn: Txn,
        /// To whom.
        reply: Reply<TxnOutcome>,
    },
    /// Join the watchers.
    Watch {
        /// Of which keys.
        prefix: String,
        /// From when on.
        from: Revision,
        /// To whom.
        reply: Reply<Live>,
    },
    /// Forget the past.
    Compact {
        /// Up to when.
        revision: Revision,
        /// To whom.
        reply: Reply<()>,
    },
    /// Grant a lease.
    Grant {
        /// For how long.
        ttl_seconds: i64,
        /// To whom.
        reply: Reply<LeaseId>,
    },
    /// End a lease.
    Revoke {
        /// Which.
        id: LeaseId,
        /// To whom.
        reply: Reply<()>,
    },
}

/// The thread's state.
pub struct Writer {
    connection: Connection,
    shared: Arc<Shared>,
    watchers: Watchers,
    watch_queue: usize,
    leases: Leases,
    revision: Revision,
    compacted: Revision,
    compaction: Option<(Compaction, Reply<()>)>,
    /// Something was written since the log was last folded.
    written: bool,
    /// Dropped after the connection.
    _lock: File,
}

/// What a batch has done so far; void if it is rolled back.
#[derive(Default)]
struct Batch {
    revision: Revision,
    changes: Vec<(Revision, Vec<Event>)>,
    granted: Vec<(LeaseId, i64)>,
    revoked: Vec<LeaseId>,
    answers: Vec<Answer>,
    compact: Option<(Compaction, Revision, Reply<()>)>,
}

/// An answer that waits for the commit.
enum Answer {
    Txn(Reply<TxnOutcome>, Result<TxnOutcome, StoreError>),
    Lease(Reply<LeaseId>, LeaseId),
    Unit(Reply<()>),
}

impl Answer {
    /// Sends it, or what went wrong with the commit. Whoever has stopped waiting gets none.
    fn send(self, commit: Result<(), StoreError>) {
        match self {
            Self::Txn(reply, result) => drop(reply.send(commit.and(result))),
            Self::Lease(reply, id) => drop(reply.send(commit.map(|()| id))),
            Self::Unit(reply) => drop(reply.send(commit)),
        }
    }
}

impl Writer {
    /// Over an open file.
    pub fn new(opened: Opened, shared: Arc<Shared>, watch_queue: usize) -> Result<Self, StoreError> {
        Ok(Self {
            leases: Leases::load(&opened.connection, &shared.path)?,
            compacted: compacted_revision(&opened.connection, &shared.path)?,
            connection: opened.connection,
            shared,
            watchers: Watchers::default(),
            watch_queue,
            revision: opened.revision,
            compaction: None,
            written: false,
            _lock: opened.lock,
        })
    }

    /// Works until the last sender is gone.
    pub fn run(mut self, requests: &Receiver<Queued>) {
        loop {
            let mut taken = Vec::new();
            match self.wait(requests) {
                Ok(first) => taken.push(first.command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !taken.is_empty() {
                let more = requests.try_iter().take(BATCH - 1);
                taken.extend(more.map(|queued| queued.command));
            }
            let ended = self.leases.ended(leases::now_ms());
            if !taken.is_empty() || !ended.is_empty() {
                self.commit(taken, &ended);
            } else if self.compaction.is_none() && self.written {
                self.fold();
            }
            self.compact_a_piece();
        }
        if let Err(error) = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE);") {
            tracing::warn!(path = %self.shared.path.display(), %error, "could not fold the log at close");
        }
    }

    /// The next request, or the time when there is something else to do.
    fn wait(&self, requests: &Receiver<Queued>) -> Result<Queued, RecvTimeoutError> {
        if self.compaction.is_some() {
            return requests.try_recv().map_err(|error| match error {
                std::sync::mpsc::TryRecvError::Empty => RecvTimeoutError::Timeout,
                std::sync::mpsc::TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            });
        }
        let idle = self.written.then_some(IDLE);
        let lease = self.leases.next_end(leases::now_ms());
        match idle.into_iter().chain(lease).min() {
            Some(timeout) => requests.recv_timeout(timeout),
            None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn engine_error(&self, what: &'static str, error: &rusqlite::Error) -> StoreError {
        engine_error(what, &self.shared.path, error)
    }

    /// Carries requests out in one SQLite transaction, then tells the watchers, then those who asked.
    fn commit(&mut self, commands: Vec<Command>, ended: &[LeaseId]) {
        let mut batch = Batch { revision: self.revision, ..Batch::default() };
        let result = self.fill(&mut batch, commands, ended);
        let result = match result {
            Ok(true) => self
                .connection
                .execute_batch("COMMIT")
                .map_err(|error| self.engine_error("commit", &error))
                .map(|()| self.keep(&mut batch)),
            // Nothing to write: nothing to sync.
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(path = %self.shared.path.display(), %error, "could not roll back");
        }
        if let Some((_, _, reply)) = batch.compact.take() {
            batch.answers.push(Answer::Unit(reply));
        }
        for answer in batch.answers {
            answer.send(result.clone());
        }
        if result.is_err() && !ended.is_empty() {
            self.leases.hold(leases::now_ms());
        }
    }

    /// Does everything short of the commit; says whether there is something to commit.
    fn fill(
        &mut self,
        batch: &mut Batch,
        commands: Vec<Command>,
        ended: &[LeaseId],
    ) -> Result<bool, StoreError> {
        let mut failed =
            self.connection.execute_batch("BEGIN IMMEDIATE").map_err(|e| self.engine_error("begin", &e));
        for id in ended {
            failed = failed.and_then(|()| self.revoke(batch, *id));
        }
        for command in commands {
            // After a failure of the engine the rest is only collected: all get the same answer.
            let healthy = failed.is_ok();
            let step = match command {
                Command::Watch { prefix, from, reply } => {
                    self.join(prefix, from, reply);
                    Ok(())
                }
                Command::Txn { txn, reply } if healthy => self.write(batch, txn, reply),
                Command::Txn { reply, .. } => {
                    batch.answers.push(Answer::Txn(reply, Err(StoreError::Closed)));
                    Ok(())
                }
                Command::Grant { ttl_seconds, reply } => {
                    let granted = match healthy {
                        true => leases::grant(&self.connection, &self.shared.path, ttl_seconds),
                        false => Ok((0, 0)),
                    };
                    batch.answers.push(Answer::Lease(reply, granted.as_ref().map_or(0, |(id, _)| *id)));
                    granted.map(|granted| batch.granted.push(granted))
                }
                Command::Revoke { id, reply } => {
                    batch.answers.push(Answer::Unit(reply));
                    if healthy { self.revoke(batch, id) } else { Ok(()) }
                }
                Command::Compact { revision, reply } => {
                    self.begin_compaction(batch, revision, reply, healthy)
                }
            };
            failed = failed.and(step);
        }
        failed.map(|()| {
            let quiet = batch.changes.is_empty() && batch.granted.is_empty() && batch.revoked.is_empty();
            !quiet || batch.compact.is_some()
        })
    }

    /// The commit has happened: what the batch did becomes the truth.
    fn keep(&mut self, batch: &mut Batch) {
        self.written = true;
        self.revision = batch.revision;
        for (id, end) in batch.granted.drain(..) {
            self.leases.add(id, end);
        }
        for id in batch.revoked.drain(..) {
            self.leases.remove(id);
        }
        if let Some((compaction, revision, reply)) = batch.compact.take() {
            self.compacted = revision;
            self.compaction = Some((compaction, reply));
        }
        self.shared.revision.store(self.revision, Ordering::Release);
        self.watchers.publish(&batch.changes);
    }

    fn join(&mut self, prefix: String, from: Revision, reply: Reply<Live>) {
        let joined = if from < self.compacted {
            Err(StoreError::Compacted { asked: from, oldest: self.compacted })
        } else {
            // As of the last commit: what this batch has written so far comes through the queue.
            Ok(self.watchers.join(prefix, from, self.revision, self.watch_queue))
        };
        drop(reply.send(joined));
    }

    fn write(&self, batch: &mut Batch, txn: Txn, reply: Reply<TxnOutcome>) -> Result<(), StoreError> {
        let known = |id| {
            let revoked = batch.revoked.contains(&id);
            !revoked && (self.leases.contains(id) || batch.granted.iter().any(|granted| granted.0 == id))
        };
        match txn::apply(&self.connection, &self.shared.path, txn, batch.revision, known) {
            Ok(applied) => {
                note(batch, applied.events);
                batch.answers.push(Answer::Txn(reply, Ok(applied.outcome)));
                Ok(())
            }
            Err(Refused::Request(error)) => {
                batch.answers.push(Answer::Txn(reply, Err(error)));
                Ok(())
            }
            Err(Refused::Engine(error)) => {
                batch.answers.push(Answer::Txn(reply, Err(error.clone())));
                Err(error)
            }
        }
    }

    fn revoke(&self, batch: &mut Batch, id: LeaseId) -> Result<(), StoreError> {
        let path = &self.shared.path;
        let ops = leases::revoke(&self.connection, path, id, batch.revision)?;
        batch.revoked.push(id);
        let txn = Txn { compares: Vec::new(), ops };
        match txn::apply(&self.connection, path, txn, batch.revision, |_| true) {
            Ok(applied) => {
                note(batch, applied.events);
                Ok(())
            }
            Err(Refused::Engine(error) | Refused::Request(error)) => Err(error),
        }
    }

    fn begin_compaction(
        &self,
        batch: &mut Batch,
        revision: Revision,
        reply: Reply<()>,
        healthy: bool,
    ) -> Result<(), StoreError> {
        let compacted = batch.compact.as_ref().map_or(self.compacted, |(_, revision, _)| *revision);
        let refused = if revision > self.revision {
            Some(StoreError::Future { asked: revision, newest: self.revision })
        } else if revision < compacted {
            Some(StoreError::Compacted { asked: revision, oldest: compacted })
        } else if self.compaction.is_some() || batch.compact.is_some() {
            Some(StoreError::Engine {
                what: "compact",
                path: self.shared.path.display().to_string(),
                reason: "a compaction is already under way".to_owned(),
            })
        } else {
            None
        };
        if let Some(error) = refused {
            drop(reply.send(Err(error)));
            return Ok(());
        }
        if !healthy {
            batch.answers.push(Answer::Unit(reply));
            return Ok(());
        }
        match compaction::begin(&self.connection, &self.shared.path, revision) {
            Ok(compaction) => {
                batch.compact = Some((compaction, revision, reply));
                Ok(())
            }
            Err(error) => {
                batch.answers.push(Answer::Unit(reply));
                Err(error)
            }
        }
    }

    /// Goes on with a compaction, in a transaction of its own.
    fn compact_a_piece(&mut self) {
        let Some((mut compaction, reply)) = self.compaction.take() else { return };
        let path = &self.shared.path;
        let piece = self
            .connection
            .unchecked_transaction()
            .map_err(|error| engine_error("compact", path, &error))
            .and_then(|transaction| {
                let complete = compaction.piece(&transaction, path)?;
                transaction.commit().map_err(|error| engine_error("compact", path, &error))?;
                Ok(complete)
            });
        match piece {
            Ok(false) => self.compaction = Some((compaction, reply)),
            Ok(true) => drop(reply.send(Ok(()))),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Folds the log into the main file while nobody waits.
    fn fold(&mut self) {
        self.written = false;
        let pages = self.connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get::<_, i64>(1));
        if pages.is_ok_and(|pages| pages < WORTH_FOLDING) {
            return;
        }
        if let Err(error) = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::warn!(path = %self.shared.path.display(), %error, "could not fold the log");
        }
    }
}

/// Gives the changes their revision, if there are any.
fn note(batch: &mut Batch, events: Vec<Event>) {
    if !events.is_empty() {
        batch.revision += 1;
        batch.changes.push((batch.revision, events));
    }
}
