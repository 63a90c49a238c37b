//! Queue and workers around a reconcile function.

use coracle_client::{CallError, Key, WorkQueue, report};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Display;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// When a key is looked at again without a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requeue {
    /// Only when something changes.
    Done,
    /// When this time has passed.
    After(Duration),
}

impl From<Option<Duration>> for Requeue {
    fn from(wake: Option<Duration>) -> Self {
        wake.map_or(Self::Done, Self::After)
    }
}

/// A loop that brings one object at a time nearer to what is wanted.
pub(crate) trait Reconcile<K = Key>: Send + Sync + 'static {
    /// Its name in logs.
    const NAME: &'static str;
    /// Looks at one key. Calling it twice does nothing new.
    fn reconcile(&self, key: &K) -> impl Future<Output = Result<Requeue, CallError>> + Send;
}

/// What can stand in a queue.
pub(crate) trait QueueKey: Clone + Eq + Hash + Ord + Display + Send + Sync + 'static {}
impl<K: Clone + Eq + Hash + Ord + Display + Send + Sync + 'static> QueueKey for K {}

/// Runs `workers` workers over `queue` until `token` is cancelled; a key that is worked on then may take two seconds more.
pub(crate) fn start<K: QueueKey, R: Reconcile<K>>(
    reconciler: R,
    queue: &Arc<WorkQueue<K>>,
    workers: usize,
    tracker: &TaskTracker,
    token: &CancellationToken,
) {
    let reconciler = Arc::new(reconciler);
    for _ in 0..workers {
        let (reconciler, queue, token) = (Arc::clone(&reconciler), Arc::clone(queue), token.clone());
        tracker.spawn(async move {
            while let Some(key) = queue.next().await {
                tokio::select! {
                    () = handle(reconciler.as_ref(), &queue, &key) => {}
                    // Cut in the middle, as a crash would: the next start looks at everything anyway.
                    () = too_late(&token) => tracing::debug!(controller = R::NAME, %key, "stopped in the middle"),
                }
                queue.done(&key);
            }
        });
    }
    let (queue, token) = (Arc::clone(queue), token.clone());
    tracker.spawn(async move {
        token.cancelled().await;
        queue.close();
    });
}

/// Work that goes on when all ends may finish, but not for ever: the server it calls ends too.
const LAST_WORDS: Duration = Duration::from_secs(2);

async fn too_late(token: &CancellationToken) {
    token.cancelled().await;
    tokio::time::sleep(LAST_WORDS).await;
}

async fn handle<K: QueueKey, R: Reconcile<K>>(reconciler: &R, queue: &WorkQueue<K>, key: &K) {
    match reconciler.reconcile(key).await {
        Ok(Requeue::Done) => queue.forget(key),
        Ok(Requeue::After(delay)) => {
            queue.forget(key);
            queue.add_after(key.clone(), delay);
        }
        Err(err) if err.is_conflict() => {
            tracing::debug!(controller = R::NAME, %key, error = %report(&err), "changed meanwhile, will retry");
            queue.retry(key.clone());
        }
        Err(err) => {
            tracing::warn!(controller = R::NAME, %key, error = %report(&err), "reconcile failed, will retry");
            queue.retry(key.clone());
        }
    }
}

/// Sets the fields of a status, unless the object is another by now; fields we do not know stay.
pub(crate) fn set_status(object: &mut Value, uid: &str, status: &impl Serialize) {
    let Ok(Value::Object(fields)) = serde_json::to_value(status) else { return };
    if object["metadata"]["uid"] != uid {
        return;
    }
    for (key, value) in fields {
        // What the server left out because it is nothing is not a change.
        let nothing = value == 0 || value.as_array().is_some_and(Vec::is_empty);
        if !(nothing && object["status"][&key].is_null()) {
            object["status"][&key] = value;
        }
    }
}
