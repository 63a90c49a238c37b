//! Who manages which fields: bookkeeping of `metadata.managedFields` on every write.

use coracle_apimachinery::time;
use coracle_schema::apply;
use serde_json::Value;

use super::Resource;
use super::options::WriteOptions;

/// Brings `managedFields` of `new` up to date with what this write changed.
pub fn track(
    resource: &Resource,
    old: Option<&Value>,
    new: &mut Value,
    options: &WriteOptions,
    subresource: &str,
) {
    if options.applied {
        return; // server-side apply has written them already
    }
    let now = time::now_rfc3339();
    apply::track_update(&resource.ty, old, new, &options.manager, "Update", subresource, &now);
}
