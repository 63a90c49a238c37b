//! Where a kind lives in the API's paths.

use std::borrow::Cow;

/// Group, version and plural name of a kind; makes its request paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// API group; empty for core.
    pub group: Cow<'static, str>,
    /// Version in the group.
    pub version: Cow<'static, str>,
    /// Plural name as in paths.
    pub plural: Cow<'static, str>,
}

impl Resource {
    /// A resource named in code.
    #[must_use]
    pub const fn new(group: &'static str, version: &'static str, plural: &'static str) -> Self {
        Self { group: Cow::Borrowed(group), version: Cow::Borrowed(version), plural: Cow::Borrowed(plural) }
    }

    /// A resource of the core group, version v1.
    #[must_use]
    pub const fn core(plural: &'static str) -> Self {
        Self::new("", "v1", plural)
    }

    /// A resource learnt at run time, for example from discovery.
    #[must_use]
    pub fn dynamic(group: &str, version: &str, plural: &str) -> Self {
        Self {
            group: Cow::Owned(group.to_owned()),
            version: Cow::Owned(version.to_owned()),
            plural: Cow::Owned(plural.to_owned()),
        }
    }

    /// `group/version`, or the version alone for the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The path of the collection in one namespace (empty: all, or cluster-scoped).
    #[must_use]
    pub fn collection(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() { "api" } else { "apis" };
        let version = self.api_version();
        if namespace.is_empty() {
            format!("/{root}/{version}/{}", self.plural)
        } else {
            format!("/{root}/{version}/namespaces/{namespace}/{}", self.plural)
        }
    }

    /// The path of one object (namespace empty: cluster-scoped).
    #[must_use]
    pub fn object(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.collection(namespace))
    }

    /// The path of a subresource of one object.
    #[must_use]
    pub fn subresource(&self, namespace: &str, name: &str, subresource: &str) -> String {
        format!("{}/{subresource}", self.object(namespace, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check = |resource: Resource, namespace: &str, want: &str| {
            assert_eq!(resource.collection(namespace), want);
        };
        check(Resource::core("nodes"), "", "/api/v1/nodes");
        check(Resource::core("pods"), "a", "/api/v1/namespaces/a/pods");
        check(Resource::new("apps", "v1", "deployments"), "a", "/apis/apps/v1/namespaces/a/deployments");
        check(Resource::dynamic("x.io", "v2", "foos"), "", "/apis/x.io/v2/foos");
        assert_eq!(
            Resource::core("pods").subresource("a", "b", "binding"),
            "/api/v1/namespaces/a/pods/b/binding"
        );
    }
}
