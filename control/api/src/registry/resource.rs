//! One resource: its row in the table, what is particular to its kind, how it rests, and its cache.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_schema::TypeRef;
use coracle_store::{Compare, Op, Revision, Store, Txn, TxnOutcome};
use serde_json::Value;

use crate::cache::{Cache, Feed, Object};
use crate::codec::Codec;
use crate::error::{ApiError, Outcome};
use crate::kinds::{self, KindOps};
use crate::resources::{Info, RESOURCES};
use coracle_apimachinery::Status;

/// A resource that is served.
pub struct Resource {
    /// Its row.
    pub info: &'static Info,
    /// What is particular to its kind.
    pub ops: &'static KindOps,
    /// Its type, in the version it is served in.
    pub ty: TypeRef,
    /// Forms at rest and in answers of the stored version.
    pub codec: Codec,
    /// Its cache; `None`: nothing of it is stored.
    pub cache: Option<Arc<Cache>>,
}

impl Resource {
    /// Group of the resource.
    pub fn group(&self) -> &'static str {
        self.info.group
    }

    /// Plural name.
    pub fn plural(&self) -> &'static str {
        self.info.resource
    }

    /// The object's key below its folder.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.info.namespaced { format!("{namespace}/{name}") } else { name.to_owned() }
    }

    /// The key prefix of a namespace (empty: all).
    pub fn scope(&self, namespace: &str) -> String {
        if self.info.namespaced && !namespace.is_empty() { format!("{namespace}/") } else { String::new() }
    }

    /// Its cache; a resource without one has no verbs that need it.
    pub fn cache(&self) -> Outcome<&Arc<Cache>> {
        self.cache.as_ref().ok_or_else(|| {
            Status::method_not_allowed(self.info.group, self.info.resource, "this verb").into()
        })
    }

    /// Nothing by that name.
    pub fn not_found(&self, name: &str) -> ApiError {
        Status::not_found(self.info.group, self.info.resource, name).into()
    }

    /// The tree of an object, in the version it is served in.
    pub fn view(&self, object: &Object) -> Outcome<Value> {
        let mut value = self.codec.decode(object)?;
        if let Some(stored) = &self.ops.stored {
            (stored.from)(&mut value);
            let map = value.as_object_mut().ok_or_else(|| ApiError::internal("object is no map"))?;
            map.insert("apiVersion".to_owned(), self.info.api_version().into());
        }
        Ok(value)
    }

    /// The form at rest of a tree in the version it is served in.
    pub fn rest(&self, value: &Value) -> bytes::Bytes {
        match &self.ops.stored {
            None => self.codec.encode(value),
            Some(stored) => {
                let mut value = value.clone();
                (stored.to)(&mut value);
                self.codec.encode(&value)
            }
        }
    }
}

/// All resources, and the store behind them.
pub struct Registry {
    resources: Vec<Arc<Resource>>,
    by_name: HashMap<(&'static str, &'static str, &'static str), usize>,
    /// The caches.
    pub feed: Arc<Feed>,
}

/// How a write of one object ended.
pub enum Written {
    /// It stands at this revision.
    At(Revision),
    /// Somebody was faster; what stands now.
    Lost(Option<Arc<Object>>),
}

impl Registry {
    /// Over a store. Kinds that the schema does not know are not served.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let folders: std::collections::BTreeSet<&str> =
            RESOURCES.iter().map(|info| info.folder).filter(|folder| !folder.is_empty()).collect();
        let feed = Arc::new(Feed::new(store, folders.into_iter()));
        let mut resources = Vec::new();
        let mut by_name = HashMap::new();
        for info in RESOURCES {
            let Some(resource) = resource_of(info, &feed) else {
                tracing::warn!(group = info.group, kind = info.kind, "kind is not in the schema, not served");
                continue;
            };
            by_name.insert((info.group, info.version, info.resource), resources.len());
            resources.push(Arc::new(resource));
        }
        Self { resources, by_name, feed }
    }

    /// The resource of a URL.
    pub fn find(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<Resource>> {
        self.by_name.get(&(group, version, resource)).map(|at| &self.resources[*at])
    }

    /// A resource that is known to be served, of the core group.
    pub fn core(&self, resource: &str) -> Outcome<&Arc<Resource>> {
        self.find("", "v1", resource).ok_or_else(|| ApiError::internal(format!("{resource} is not served")))
    }

    /// All of them, in discovery's order.
    pub fn all(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// The object as of now, having waited until everything committed so far is seen.
    pub async fn read(&self, resource: &Resource, key: &str) -> Outcome<Option<Arc<Object>>> {
        let cache = resource.cache()?;
        self.feed.ensure(cache).await?;
        self.feed.caught_up().await?;
        Ok(cache.get(key))
    }

    /// The object as of now, as a tree.
    pub async fn value(&self, resource: &Resource, namespace: &str, name: &str) -> Outcome<Option<Value>> {
        let object = self.read(resource, &resource.key(namespace, name)).await?;
        object.map(|object| resource.view(&object)).transpose()
    }

    /// Sets (or with `None` deletes) an object if its revision still is `expected` (0: it does not exist). When this
    /// returns, readers, watchers and the authorizer of this server have seen the write.
    pub async fn write(
        &self,
        resource: &Resource,
        key: &str,
        expected: Revision,
        bytes: Option<bytes::Bytes>,
        lease: i64,
    ) -> Outcome<Written> {
        let cache = resource.cache()?;
        // Loaded before the write, so that one can watch on from what the write answers.
        self.feed.ensure(cache).await?;
        let full = cache.full_key(key);
        let op = match bytes {
            Some(value) => Op::Put { key: full.clone(), value, lease },
            None => Op::Delete { key: full.clone() },
        };
        let compare = Compare::ModRevision { key: full, equals: expected };
        match self.feed.store().txn(Txn { compares: vec![compare], ops: vec![op] }).await? {
            TxnOutcome::Committed { revision } => {
                self.feed.reached(revision).await?;
                Ok(Written::At(revision))
            }
            TxnOutcome::Conflict { current } => {
                Ok(Written::Lost(current.into_iter().next().map(|kv| {
                    Arc::new(Object { key: key.into(), revision: kv.mod_revision, bytes: kv.value })
                })))
            }
        }
    }
}

fn resource_of(info: &'static Info, feed: &Feed) -> Option<Resource> {
    let ops = kinds::ops(info.group, info.version, info.resource);
    let ty = coracle_schema::lookup(info.group, info.version, info.kind)?;
    let codec = match &ops.stored {
        None => Codec::new(ty.clone(), info.api_version(), info.kind),
        Some(stored) => {
            let api_version = if stored.group.is_empty() {
                stored.version.to_owned()
            } else {
                format!("{}/{}", stored.group, stored.version)
            };
            let stored_ty = coracle_schema::lookup(stored.group, stored.version, info.kind)?;
            Codec::new(stored_ty, api_version, info.kind)
        }
    };
    Some(Resource { info, ops, ty, codec, cache: feed.cache(info.folder).cloned() })
}
