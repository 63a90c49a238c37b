//! Label and field selectors over objects as they rest.

use coracle_apimachinery::{FieldSelector, Selector};

use super::Resource;
use crate::cache::Object;
use crate::error::{ApiError, Outcome};
use crate::http::info::Query;

/// Which objects are wanted.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    labels: Selector,
    fields: FieldSelector,
}

impl Selection {
    /// From the query, checked against what the kind can select by.
    pub fn parse(resource: &Resource, query: &Query) -> Outcome<Self> {
        let labels = match query.get("labelSelector") {
            None => Selector::everything(),
            Some(text) => Selector::parse(text).map_err(|err| ApiError::bad_request(err.to_string()))?,
        };
        let fields = match query.get("fieldSelector") {
            None => FieldSelector::default(),
            Some(text) => FieldSelector::parse(text).map_err(|err| ApiError::bad_request(err.to_string()))?,
        };
        for requirement in &fields.requirements {
            let field = requirement.field.as_str();
            let known = field == "metadata.name"
                || (resource.info.namespaced && field == "metadata.namespace")
                || resource.ops.fields.contains(&field);
            if !known {
                return Err(ApiError::bad_request(format!("field label not supported: {field}")));
            }
        }
        Ok(Self { labels, fields })
    }

    /// Whether everything is wanted.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name wanted, if it is one.
    pub fn name(&self) -> Option<&str> {
        self.fields.exact("metadata.name")
    }

    /// Whether an object is wanted.
    pub fn matches(&self, resource: &Resource, object: &Object) -> bool {
        if !self.fields.matches(|field| resource.codec.field(object, field)) {
            return false;
        }
        if self.labels.is_empty() {
            return true;
        }
        let labels = resource.codec.labels(object);
        self.labels.matches(|key| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value))
    }
}
