//! What an informer must know of an object, and the key it is kept under.

use serde::de::DeserializeOwned;
use std::fmt;

/// Namespace and name of an object; the namespace of a cluster-scoped one is empty.
///
/// Keys sort by namespace first, so that one namespace is one range of a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key {
    /// Namespace, or empty.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// The key of `name` in `namespace` (empty: cluster-scoped).
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// An object an informer can keep: any `kube::Resource` that decodes, or a slim view of our own.
///
/// A slim view implements this by hand, usually in one line with [`slim_view!`](crate::slim_view).
pub trait Object: DeserializeOwned + Send + Sync + 'static {
    /// Namespace, empty for cluster-scoped objects.
    fn namespace(&self) -> &str;
    /// Name.
    fn name(&self) -> &str;
    /// The server's version of this object.
    fn resource_version(&self) -> &str;
    /// Drops what no reader needs; called once after decoding.
    fn trim(&mut self) {}
    /// Namespace and name as a key.
    fn key(&self) -> Key {
        Key::new(self.namespace(), self.name())
    }
}

impl<K> Object for K
where
    K: kube::Resource + DeserializeOwned + Send + Sync + 'static,
{
    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or_default()
    }
    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }
    fn resource_version(&self) -> &str {
        self.meta().resource_version.as_deref().unwrap_or_default()
    }
    fn trim(&mut self) {
        self.meta_mut().managed_fields = None;
    }
}

/// Implements [`Object`] for views whose metadata is a [`views::Meta`](crate::views::Meta) in `metadata`.
#[macro_export]
macro_rules! slim_view {
    ($($view:ty),+ $(,)?) => {$(
        impl $crate::Object for $view {
            fn namespace(&self) -> &str { &self.metadata.namespace }
            fn name(&self) -> &str { &self.metadata.name }
            fn resource_version(&self) -> &str { &self.metadata.resource_version }
        }
    )+};
}
