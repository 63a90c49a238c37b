//! RFC 6902 and RFC 7396, by a library, with upstream's limits and words.

use json_patch::{Patch, PatchErrorKind, PatchOperation};
use serde::Deserialize;
use serde_json::Value;

use super::{MAX_OPERATIONS, PatchError};

/// Applies the operations, all or none.
pub fn json_patch(document: &mut Value, operations: &Value) -> Result<(), PatchError> {
    let count = operations.as_array().map_or(0, Vec::len);
    if count > MAX_OPERATIONS {
        return Err(PatchError::TooMany(count));
    }
    let Patch(operations) = Patch::deserialize(operations)
        .map_err(|err| PatchError::Malformed(format!("error decoding patch: {err}")))?;
    json_patch::patch(document, &operations).map_err(|err| {
        let path = err.path.to_string();
        match (err.kind, operations.get(err.operation)) {
            (PatchErrorKind::TestFailed, _) => PatchError::TestFailed(path),
            (_, operation) => PatchError::MissingPath { operation: operation.map_or("patch", name), path },
        }
    })
}

fn name(operation: &PatchOperation) -> &'static str {
    match operation {
        PatchOperation::Add(_) => "add",
        PatchOperation::Remove(_) => "remove",
        PatchOperation::Replace(_) => "replace",
        PatchOperation::Move(_) => "move",
        PatchOperation::Copy(_) => "copy",
        PatchOperation::Test(_) => "test",
    }
}

/// Lays the patch over the document; null deletes.
pub fn merge_patch(document: &mut Value, patch: &Value) -> Result<(), PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed("Invalid JSON Patch".into()));
    }
    json_patch::merge(document, patch);
    Ok(())
}
