//! All that is kept of an object: who it is, who owns it, and whether it is going.

use coracle_client::Object;
use coracle_client::views::OwnerRef;
use serde::{Deserialize, Deserializer};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lean {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) version: String,
    pub(super) generation: i64,
    pub(super) owners: Box<[OwnerRef]>,
    pub(super) deleting: bool,
    /// It has the finalizer that waits for its dependants.
    pub(super) foreground: bool,
    /// It has the finalizer that frees its dependants.
    pub(super) orphaning: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    metadata: RawMeta,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawMeta {
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
    generation: i64,
    owner_references: Vec<OwnerRef>,
    deletion_timestamp: Option<serde::de::IgnoredAny>,
    finalizers: Vec<String>,
}

impl<'de> Deserialize<'de> for Lean {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let meta = Raw::deserialize(deserializer)?.metadata;
        let finalizer = |name: &str| meta.finalizers.iter().any(|it| it == name);
        Ok(Self {
            deleting: meta.deletion_timestamp.is_some(),
            foreground: finalizer("foregroundDeletion"),
            orphaning: finalizer("orphan"),
            namespace: meta.namespace,
            name: meta.name,
            uid: meta.uid,
            version: meta.resource_version,
            generation: meta.generation,
            owners: meta.owner_references.into(),
        })
    }
}

impl Object for Lean {
    fn namespace(&self) -> &str {
        &self.namespace
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn resource_version(&self) -> &str {
        &self.version
    }
}
