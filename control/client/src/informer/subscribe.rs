//! Changes as a bounded stream that says when it missed some.

use super::Change;
use tokio::sync::{broadcast, watch};

/// A stream of changes; a reader that lags too far behind gets [`Change::Resync`] in place of what it missed.
pub struct Subscription<K> {
    changes: broadcast::Receiver<Change<K>>,
    synced: watch::Receiver<bool>,
    started: bool,
}

impl<K> Subscription<K> {
    pub(super) const fn new(changes: broadcast::Receiver<Change<K>>, synced: watch::Receiver<bool>) -> Self {
        Self { changes, synced, started: false }
    }

    /// The next change; `None` once the informer has stopped. Cancel safe.
    pub async fn next(&mut self) -> Option<Change<K>> {
        if !self.started {
            self.synced.wait_for(|synced| *synced).await.ok()?;
            self.started = true;
            // What came before is in the store already.
            self.changes = self.changes.resubscribe();
            return Some(Change::Resync);
        }
        loop {
            tokio::select! {
                biased;
                change = self.changes.recv() => match change {
                    Ok(change) => return Some(change),
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        self.changes = self.changes.resubscribe();
                        return Some(Change::Resync);
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                // The sender of `synced` lives in the informer's task: an error is its end.
                ended = self.synced.changed() => if ended.is_err() { return None },
            }
        }
    }
}
