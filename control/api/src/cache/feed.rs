//! One watch of the whole registry, handed out to the caches by folder.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use coracle_store::{Event, EventBatch, RangeRequest, Revision, Store, StoreError};
use futures::StreamExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::index::Cache;

const ROOT: &str = "/registry/";

/// The caches and what they have seen.
pub struct Feed {
    store: Arc<dyn Store>,
    caches: BTreeMap<String, Arc<Cache>>,
    applied: watch::Sender<Revision>,
}

impl Feed {
    /// Over a store, for these folders (below `/registry/`). Nothing is read until [`Feed::run`] and the first reader.
    pub fn new<'a>(store: Arc<dyn Store>, folders: impl Iterator<Item = &'a str>) -> Self {
        let caches = folders
            .map(|folder| format!("{ROOT}{folder}/"))
            .map(|prefix| (prefix.clone(), Arc::new(Cache::new(prefix))))
            .collect();
        Self { store, caches, applied: watch::Sender::new(0) }
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The cache of a folder.
    pub fn cache(&self, folder: &str) -> Option<&Arc<Cache>> {
        self.caches.get(&format!("{ROOT}{folder}/"))
    }

    /// Everything up to here has been delivered to the caches.
    pub fn applied(&self) -> Revision {
        *self.applied.borrow()
    }

    /// Waits until everything committed before this call is in the caches; gives that revision.
    pub async fn caught_up(&self) -> Result<Revision, StoreError> {
        let revision = self.store.revision().await?;
        self.reached(revision).await?;
        Ok(revision)
    }

    /// Waits until the caches have seen `revision`.
    pub async fn reached(&self, revision: Revision) -> Result<(), StoreError> {
        if self.applied() >= revision {
            return Ok(());
        }
        let mut applied = self.applied.subscribe();
        applied.wait_for(|seen| *seen >= revision).await.map(|_| ()).map_err(|_| StoreError::Closed)
    }

    /// Loads a cache that is cold.
    pub async fn ensure(&self, cache: &Cache) -> Result<(), StoreError> {
        if cache.is_ready() {
            return Ok(());
        }
        let _one_loader = cache.loaded.lock().await;
        if cache.is_ready() { Ok(()) } else { self.load(cache).await }
    }

    async fn load(&self, cache: &Cache) -> Result<(), StoreError> {
        cache.begin_loading();
        let request = RangeRequest {
            start: cache.prefix().to_owned(),
            end: Some(after_prefix(cache.prefix())),
            ..RangeRequest::default()
        };
        match self.store.range(request).await {
            Ok(found) => {
                cache.finish_loading(found.revision, found.kvs);
                Ok(())
            }
            Err(err) => {
                cache.abort_loading();
                Err(err)
            }
        }
    }

    /// Follows the store until cancelled. When the store cuts us off, everything that was loaded is loaded again and
    /// its watchers are sent away to list again.
    pub async fn run(&self, token: CancellationToken) {
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                () = token.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            match self.follow(&token).await {
                Ok(()) | Err(StoreError::Closed) => return,
                Err(err) => tracing::warn!(error = %err, "watch of the store broke, reloading caches"),
            }
            pause = Duration::from_millis(200);
        }
    }

    async fn follow(&self, token: &CancellationToken) -> Result<(), StoreError> {
        let revision = self.store.revision().await?;
        let mut batches = self.store.watch(ROOT, revision + 1).await?;
        for cache in self.caches.values() {
            // First the lock: a load that is under way may have read from before this watch's start.
            let _one_loader = cache.loaded.lock().await;
            if cache.is_ready() {
                self.load(cache).await?;
            }
        }
        self.applied.send_replace(revision);
        loop {
            let batch = tokio::select! {
                () = token.cancelled() => return Ok(()),
                batch = batches.next() => batch,
            };
            match batch {
                Some(batch) => self.deliver(batch?),
                None => return Err(StoreError::Closed),
            }
        }
    }

    fn deliver(&self, batch: EventBatch) {
        let mut events = batch.events.into_iter().peekable();
        while let Some(first) = events.next() {
            let Some(cache) = self.cache_of(key_of(&first)) else { continue };
            // Changes of one transaction become visible together.
            let rest = std::iter::from_fn(|| events.next_if(|e| key_of(e).starts_with(cache.prefix())));
            cache.apply(std::iter::once(first).chain(rest));
        }
        self.applied.send_if_modified(|seen| {
            let newer = batch.revision > *seen;
            *seen = (*seen).max(batch.revision);
            newer
        });
    }

    fn cache_of(&self, key: &str) -> Option<&Arc<Cache>> {
        let below = (Bound::Unbounded, Bound::Included(key));
        let (prefix, cache) = self.caches.range::<str, _>(below).next_back()?;
        key.starts_with(prefix.as_str()).then_some(cache)
    }
}

fn key_of(event: &Event) -> &str {
    match event {
        Event::Put { kv, .. } => &kv.key,
        Event::Delete { key, .. } => key,
    }
}

/// The first key after all that start with `prefix`.
pub(super) fn after_prefix(prefix: &str) -> String {
    // Folders end in '/'; the next character is '0'.
    let mut end = prefix.to_owned();
    end.pop();
    end.push('0');
    end
}
