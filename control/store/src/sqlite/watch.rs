//! Watches: a bounded queue per watcher, filled by the writer at commit, and before it the replay of the past.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use tokio::sync::mpsc;

use super::file::{after, engine_error};
use super::readers::{Reader, Readers};
use super::rows::{self, RowId};
use crate::error::StoreError;
use crate::store::{Event, EventBatch, Revision, WatchStream};

/// Rows replayed from the past in one read.
const PIECE: usize = 500;

/// The watchers, as the writer sees them.
#[derive(Default)]
pub struct Watchers {
    all: Vec<Watcher>,
}

struct Watcher {
    prefix: String,
    from: Revision,
    queue: mpsc::Sender<EventBatch>,
    lagged: Arc<AtomicBool>,
}

/// The receiving end of a watch.
pub struct Live {
    /// Everything after this revision comes through the queue.
    joined: Revision,
    queue: mpsc::Receiver<EventBatch>,
    lagged: Arc<AtomicBool>,
}

impl Watchers {
    /// A watcher that gets everything after `newest` (and not before `from`).
    pub fn join(&mut self, prefix: String, from: Revision, newest: Revision, capacity: usize) -> Live {
        let (sender, queue) = mpsc::channel(capacity.max(1));
        let lagged = Arc::new(AtomicBool::new(false));
        self.all.push(Watcher { prefix, from, queue: sender, lagged: lagged.clone() });
        Live { joined: newest, queue, lagged }
    }

    /// Hands the changes of a commit out. A watcher without room left is cut off; one that has gone is forgotten.
    pub fn publish(&mut self, changes: &[(Revision, Vec<Event>)]) {
        self.all.retain(|watcher| watcher.take(changes));
    }
}

impl Watcher {
    /// Whether it goes on.
    fn take(&self, changes: &[(Revision, Vec<Event>)]) -> bool {
        let mut told = true;
        for (revision, events) in changes.iter().filter(|(revision, _)| *revision >= self.from) {
            let events: Vec<_> =
                events.iter().filter(|e| key(e).starts_with(&self.prefix)).cloned().collect();
            told = !events.is_empty();
            if told && !self.send(EventBatch { revision: *revision, events }) {
                return false;
            }
        }
        match changes.last() {
            // Nothing of the last one concerned it: it still learns how far it has come.
            Some((revision, _)) if !told => self.send(EventBatch { revision: *revision, events: Vec::new() }),
            _ => !self.queue.is_closed(),
        }
    }

    fn send(&self, batch: EventBatch) -> bool {
        match self.queue.try_send(batch) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.lagged.store(true, Ordering::Release);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

fn key(event: &Event) -> &str {
    match event {
        Event::Put { kv, .. } => &kv.key,
        Event::Delete { key, .. } => key,
    }
}

/// Where a watch stands.
enum State {
    /// Replaying; the next row to look at.
    Past(RowId),
    Live,
    Ended,
}

/// The past from `from` up to where the queue begins, then the queue.
pub fn stream(readers: Arc<Readers>, prefix: String, from: Revision, live: Live) -> WatchStream {
    let state = if from <= live.joined { State::Past(RowId::first_of(from)) } else { State::Live };
    futures::stream::unfold((state, live, readers, prefix), |(state, mut live, readers, prefix)| async move {
        let (item, state) = match state {
            State::Past(next) => {
                let (wanted, end) = (prefix.clone(), live.joined);
                match readers.run(move |reader| replay(reader, &wanted, next, end)).await {
                    Ok((batches, Some(next))) => (Ok(batches), State::Past(next)),
                    Ok((batches, None)) => (Ok(batches), State::Live),
                    Err(error) => (Err(error), State::Ended),
                }
            }
            State::Live => match live.queue.recv().await {
                Some(batch) => (Ok(vec![batch]), State::Live),
                None if live.lagged.load(Ordering::Acquire) => (Err(StoreError::Lagged), State::Ended),
                None => (Err(StoreError::Closed), State::Ended),
            },
            State::Ended => return None,
        };
        Some((item, (state, live, readers, prefix)))
    })
    .flat_map(|item| {
        futures::stream::iter(match item {
            Ok(batches) => batches.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    })
    .boxed()
}

type Replayed = (Vec<EventBatch>, Option<RowId>);

/// The changes from `next` up to the revision `end`: whole revisions only, and where to go on if there are more.
fn replay(reader: &Reader<'_>, prefix: &str, next: RowId, end: Revision) -> Result<Replayed, StoreError> {
    if next.revision() < reader.compacted {
        return Err(StoreError::Compacted { asked: next.revision(), oldest: reader.compacted });
    }
    let engine = |error: rusqlite::Error| engine_error("replay the past", reader.path, &error);
    let sql = format!("SELECT {} FROM log WHERE id >= ?1 AND id < ?2 ORDER BY id", rows::COLUMNS);
    let mut statement = rows::prepare(reader.connection, reader.path, &sql)?;
    let mut found = statement.query((next.0, after(end).0)).map_err(engine)?;
    let (mut batches, mut seen): (Vec<EventBatch>, usize) = (Vec::new(), 0);
    while let Some(row) = found.next().map_err(engine)? {
        let row = rows::read(row, reader.path)?;
        let revision = row.id.revision();
        if batches.last().is_none_or(|last| last.revision != revision) {
            if seen >= PIECE {
                return Ok((batches, Some(RowId::first_of(revision))));
            }
            batches.push(EventBatch { revision, events: Vec::new() });
        }
        seen += 1;
        if row.kv.key.starts_with(prefix) {
            let prev = rows::living(reader.connection, reader.path, &row.kv.key, RowId::first_of(revision))?;
            if let Some(last) = batches.last_mut() {
                last.events.push(rows::event(row, prev));
            }
        }
    }
    batches.retain(|batch| !batch.events.is_empty() || batch.revision == end);
    Ok((batches, None))
}
