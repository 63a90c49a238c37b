//! List and watch of one collection, kept in memory and announced to those who asked.

mod machine; // what to do next: pure
mod run; // the task: carries requests out, applies their results
mod store; // the objects, their indexes, and the changes told to handlers
mod subscribe; // changes as a bounded stream
mod wire; // requests, pages and watch frames

pub use store::{Change, Index, Store};
pub use subscribe::Subscription;

use crate::{Object, Resource};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A collection and the client that reaches it.
#[derive(Clone)]
pub struct Endpoint {
    client: kube::Client,
    path: String,
}

impl Endpoint {
    /// The collection of `resource` in `namespace` (empty: all of them).
    #[must_use]
    pub fn new(client: kube::Client, resource: &Resource, namespace: &str) -> Self {
        Self { client, path: resource.collection(namespace) }
    }
}

impl<K: kube::Resource> From<kube::Api<K>> for Endpoint {
    fn from(api: kube::Api<K>) -> Self {
        let path = api.resource_url().to_owned();
        Self { client: api.into_client(), path }
    }
}

/// What is watched and how it is kept.
pub struct Params<K> {
    /// Label selector in its text form.
    pub labels: Option<String>,
    /// Field selector in its text form.
    pub fields: Option<String>,
    /// Ask for metadata only (the view must not read anything else).
    pub metadata_only: bool,
    /// Objects per page of the first list.
    pub page: u32,
    /// Further ways to find objects in the store.
    pub indexes: Vec<Index<K>>,
    /// Shrinks each object once, right after decoding.
    pub transform: Option<fn(&mut K)>,
}

impl<K> Default for Params<K> {
    fn default() -> Self {
        Self {
            labels: None,
            fields: None,
            metadata_only: false,
            page: 500,
            indexes: Vec::new(),
            transform: None,
        }
    }
}

impl<K> Params<K> {
    /// Everything, whole objects.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Only objects with these labels.
    #[must_use]
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = Some(selector.into());
        self
    }

    /// Only objects with these fields, for example `spec.nodeName=a`.
    #[must_use]
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into());
        self
    }

    /// Only metadata travels.
    #[must_use]
    pub const fn metadata_only(mut self) -> Self {
        self.metadata_only = true;
        self
    }

    /// Adds an index, read with [`Store::by_index`].
    #[must_use]
    pub fn index(mut self, name: &'static str, values: fn(&K) -> Vec<String>) -> Self {
        self.indexes.push(Index { name, values });
        self
    }

    /// Shrinks each object right after decoding.
    #[must_use]
    pub fn transform(mut self, shrink: fn(&mut K)) -> Self {
        self.transform = Some(shrink);
        self
    }
}

/// A collection in memory that follows the server.
///
/// After [`synced`](Self::synced) the store holds a state the server really had; from then on every change arrives
/// in the server's order. A watch that breaks resumes where it was; only a server that forgot that version (410)
/// causes a new list, whose difference to the store is announced like any other change.
pub struct Informer<K> {
    shared: Arc<store::Shared<K>>,
    synced: watch::Receiver<bool>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), synced: self.synced.clone() }
    }
}

impl<K: Object> Informer<K> {
    /// Starts the task that follows `endpoint` until `token` is cancelled.
    pub fn start(
        endpoint: impl Into<Endpoint>,
        mut params: Params<K>,
        tracker: &TaskTracker,
        token: CancellationToken,
    ) -> Self {
        let (sender, synced) = watch::channel(false);
        let shared = Arc::new(store::Shared::new(std::mem::take(&mut params.indexes)));
        let follower = run::Follower::new(endpoint.into(), params, Arc::clone(&shared), sender);
        tracker.spawn(async move {
            // Dropping the follower at a wait loses nothing: the store is changed between waits only.
            token.run_until_cancelled(follower.run()).await;
        });
        Self { shared, synced }
    }

    /// The objects as last seen.
    #[must_use]
    pub fn store(&self) -> Store<K> {
        Store::new(Arc::clone(&self.shared))
    }

    /// Waits until the first list is in the store; also returns when the informer is stopped before that.
    pub async fn synced(&self) {
        // An error says that the task has ended: there is nothing to wait for any more.
        let _ = self.synced.clone().wait_for(|synced| *synced).await;
    }

    /// Whether the first list is in the store.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Calls `handler` for every change, in order, in the informer's own task: it must be quick and not block
    /// (put a key on a queue). Objects that are in the store already are told as [`Change::Added`] right now.
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.shared.add_handler(Box::new(handler));
    }

    /// Changes as a stream. Its first item, after the first list, is [`Change::Resync`]: look at the whole store.
    #[must_use]
    pub fn subscribe(&self) -> Subscription<K> {
        Subscription::new(self.shared.changes(), self.synced.clone())
    }
}

#[cfg(test)]
mod tests;
