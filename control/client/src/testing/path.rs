//! Request paths taken apart.

use serde_json::Value;
use std::collections::HashMap;

/// What a request is about.
#[derive(Debug, Default, Clone)]
pub(crate) struct Target {
    /// `/api/v1/pods`, without the namespace.
    pub(crate) collection: String,
    pub(crate) plural: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    pub(crate) query: HashMap<String, String>,
}

impl Target {
    pub(crate) fn parse(path: &str, query: &str) -> Self {
        let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let prefix = if parts.first() == Some(&"api") { 2 } else { 3 };
        let (root, mut rest) = parts.split_at(prefix.min(parts.len()));
        let mut namespace = "";
        // `namespaces/x/finalize` and `/status` are parts of the namespace itself.
        if let ["namespaces", ns, next, ..] = rest
            && !["finalize", "status"].contains(next)
        {
            namespace = ns;
            rest = &rest[2..];
        }
        let at = |n: usize| rest.get(n).copied().unwrap_or_default().to_owned();
        Self {
            collection: format!("/{}/{}", root.join("/"), at(0)),
            plural: at(0),
            namespace: namespace.to_owned(),
            name: at(1),
            subresource: at(2),
            query,
        }
    }

    /// Whether an object of this collection is selected by namespace, labels and fields.
    pub(crate) fn selects(&self, object: &Value) -> bool {
        let namespace = text(object, "metadata.namespace");
        if !self.namespace.is_empty() && self.namespace != namespace {
            return false;
        }
        let all = |selector: Option<&String>, value_of: &dyn Fn(&str) -> String| {
            selector.into_iter().flat_map(|it| it.split(',')).filter(|it| !it.is_empty()).all(|requirement| {
                if let Some((key, value)) = requirement.split_once("!=") {
                    value_of(key) != value
                } else if let Some((key, value)) = requirement.split_once('=') {
                    value_of(key) == value.trim_start_matches('=')
                } else if let Some(key) = requirement.strip_prefix('!') {
                    value_of(key).is_empty()
                } else {
                    !value_of(requirement).is_empty()
                }
            })
        };
        let label = |key: &str| object["metadata"]["labels"][key].as_str().unwrap_or_default().to_owned();
        all(self.query.get("labelSelector"), &label)
            && all(self.query.get("fieldSelector"), &|path| text(object, path))
    }
}

fn text(object: &Value, path: &str) -> String {
    path.split('.').fold(object, |at, key| &at[key]).as_str().unwrap_or_default().to_owned()
}
