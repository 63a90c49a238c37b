//! Patches: RFC 6902, RFC 7396 and Kubernetes's strategic merge. What comes out is not yet in canonical form: put it
//! through [`crate::json::conform`].

mod json_patch; // RFC 6902 and RFC 7396
mod order; // in which order the items of a merged list stand
mod strategic; // lists merged by key, with directives

pub use json_patch::{json_patch, merge_patch};
pub use strategic::strategic_merge;

/// How many operations one JSON patch may have.
pub const MAX_OPERATIONS: usize = 10_000;

/// Why a patch was not applied, in the words clients know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is none of its kind.
    #[error("{0}")]
    Malformed(String),
    /// It has more operations than are allowed.
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooMany(usize),
    /// A tested value is another.
    #[error("testing value {0} failed: test failed")]
    TestFailed(String),
    /// It names a place that is not there.
    #[error("{operation} operation does not apply: doc is missing path: \"{path}\": missing value")]
    MissingPath {
        /// `add`, `remove` and so on.
        operation: &'static str,
        /// As a JSON pointer.
        path: String,
    },
    /// An item of a list that is merged by key lacks the key.
    #[error("map: {item} does not contain declared merge key: {key}")]
    MissingMergeKey {
        /// The item.
        item: String,
        /// The key.
        key: String,
    },
}

#[cfg(test)]
mod tests;
